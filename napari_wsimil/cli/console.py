"""Output of the command line, and checks of its options.

Results go to stdout, progress and remarks to stderr.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from typer.core import TyperGroup

from napari_wsimil.progress import Progress
from napari_wsimil.slides.geometry import Region
from napari_wsimil.workflows.progress import Remark, sentence

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.training.tasks import Task

Result = TypeVar("Result")

#: Exit code where some slides or cases failed and the others went on.
SOME_FAILED = 3


class Verbs(TyperGroup):
    """Group of verbs that prints library errors in one line.

    With --debug the traceback is printed instead.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # `main` ends quietly
        except (ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            raise typer.TyperException(sentence(error)) from error


def follow(work: Generator[object, None, Result], title: str) -> Result:
    """Run long work with a progress bar; return its result.

    Progress and remarks go to stderr. A bar appears at the first progress with a known total.
    Yielded values of other types are skipped.
    """
    with closing(work), ExitStack() as stack:
        bar = _bar()
        task = bar.add_task(title, total=1.0)
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                bar.update(task, completed=1.0, description=title)
                result: Result = stop.value
                return result
            if isinstance(step, Remark):
                warn([step.remark]) if step.warning else remark(step.remark)
            elif isinstance(step, Progress) and step.total:
                if not bar.live.is_started:
                    stack.enter_context(bar)
                text = f"{title}: {step.text}" if step.text else title
                bar.update(task, completed=step.share, description=text)


def _bar() -> Bar:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    return Bar(*columns, console=Console(stderr=True))


def remark(text: str) -> None:
    """Print a line on stderr."""
    typer.echo(text, err=True)


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, one line each."""
    for warning in warnings:
        remark(f"warning: {warning}")


def report(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print a result on stdout, as JSON or as lines."""
    if as_json:
        typer.echo(json.dumps(_plain(facts), indent=2))
    else:
        for line in _lines(facts):
            typer.echo(line)


def _plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _lines(facts: Mapping[str, Any], indent: str = "") -> Generator[str, None, None]:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {_text(value)}"


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    return str(value)


def check_weights(model: str, weights: Path | None) -> None:
    """Raise ValueError if a model needs no encoder weights."""
    from napari_wsimil.models import model_class
    from napari_wsimil.models.base import Need

    if weights is not None and Need.FINER not in model_class(model).needs:
        raise ValueError(f"--weights {weights} is for models that read sub-patches, not {model}")


def check_time_unit(task: Task, unit: str | None) -> None:
    """Raise ValueError if a task without times has a unit."""
    from napari_wsimil.training.tasks import Task

    if unit is not None and task is Task.CLASSIFICATION:
        raise ValueError(f"--time-unit {unit} is for survival, not {task.value}")


def check_folds(manifest: Manifest, task: Task, **given: int | None) -> None:
    """Raise ValueError if folds are given despite a split."""
    split = any(p.split is not None for p in manifest.patients if task.known_of(p))
    for name, value in given.items():
        if split and value is not None:
            raise ValueError(
                f"--{name} {value} is for a manifest without a split, not {manifest.path}"
            )


def check_map(name: str | None, out: Path | None) -> None:
    """Raise ValueError if a map is named without a picture."""
    if name is None or (out is not None and out.suffix.lower() == ".png"):
        return
    instead = ": write one with --out" if out is None else f", not {out}"
    raise ValueError(f"--map {name} is for a picture (.png){instead}")


def check_effect(area: str | None, name: str | None, out: Path | None) -> None:
    """Raise ValueError if options for curves come with --area."""
    for option, given in (("--map", name), ("--out", out)):
        if area is not None and given is not None:
            raise ValueError(f"{option} {given} is for the curves of a map, not for --area {area}")


def asked_area(query: str | None, area: str | None) -> Region | None:
    """Return the area of --query or --area; None without both.

    The area is in level-0 pixels.

    Raises
    ------
    ValueError
        If both are given, or the text is no position or has no pixels.
    """
    if query is None and area is None:
        return None
    if query is not None and area is not None:
        raise ValueError("--query is for one patch and --area for an area: give one of them")
    text, size = (query, (1, 1)) if query is not None else (area, ())
    try:
        region = Region(*(int(part) for part in str(text).split(",")), *size)
    except (TypeError, ValueError) as error:
        pattern = "--query X,Y" if size else "--area X,Y,WIDTH,HEIGHT"
        raise ValueError(f"{text!r} is not {pattern}, whole numbers of level-0 pixels") from error
    if min(region.width, region.height) < 1:
        raise ValueError(f"--area {text!r} has no pixels")
    return region


def class_names(text: str) -> list[str]:
    """Return the class names in a text ("normal, tumor").

    Raises
    ------
    ValueError
        If a name is empty or repeated.
    """
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"--classes {text!r}: each class needs a distinct name")
    return names


def check_one_slide(path: Path, given: Mapping[str, object]) -> None:
    """Raise ValueError if a cohort has a slide's option."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} {value} is for one slide, not for the patients of {path}")


def check_one_or_many(
    path: Path | None, one: Mapping[str, object], many: Mapping[str, object]
) -> None:
    """Raise ValueError if options do not suit the cases.

    Options in `one` are for one slide (`path` is given), those in `many` for all cases.
    """
    wrong, use = (one, "one slide, but no slide is given") if path is None else (many, "many cases")
    for option, given in wrong.items():
        if given:
            raise ValueError(f"{option} is for {use}")
