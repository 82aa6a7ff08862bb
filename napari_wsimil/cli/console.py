"""What the command line says: results on stdout, progress and remarks on stderr."""

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
    """Turns what the library refuses into one line, unless --debug asks for all of it."""

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
    """Run long work and return its result; its progress and remarks go to stderr.

    A bar appears at the first progress with a known total. Steps that are no `Progress` are
    skipped.
    """
    with closing(work), ExitStack() as drawn:
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
                    drawn.enter_context(bar)
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
    """Print what whoever reads a result must know."""
    for warning in warnings:
        remark(f"warning: {warning}")


def report(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print a command's result on stdout: as one JSON object, or as lines for people."""
    if as_json:
        typer.echo(json.dumps(_plain(facts), indent=2))
    else:
        for line in _lines(facts):
            typer.echo(line)


def _plain(value: Any) -> Any:
    """Return the value with NaN and infinity, which JSON has not, as null."""
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
    """Raise ValueError if an encoder's weights are given for a model that encodes nothing."""
    from napari_wsimil.models import model_class
    from napari_wsimil.models.base import Need

    if weights is not None and Need.FINER not in model_class(model).needs:
        raise ValueError(f"--weights {weights} is for models that look closer, not {model}")


def check_time_unit(task: Task, unit: str | None) -> None:
    """Raise ValueError if a unit of time is given for a task without times."""
    from napari_wsimil.training.tasks import Task

    if unit is not None and task is Task.CLASSIFICATION:
        raise ValueError(f"--time-unit {unit} is for survival, not {task.value}")


def check_folds(manifest: Manifest, task: Task, **given: int | None) -> None:
    """Raise ValueError if folds, or one of them, are given for a manifest with a split."""
    split = any(p.split is not None for p in manifest.patients if task.known_of(p))
    for name, value in given.items():
        if split and value is not None:
            raise ValueError(
                f"--{name} {value} is for a manifest without a split, not {manifest.path}"
            )


def check_map(name: str | None, out: Path | None) -> None:
    """Raise ValueError if a map is named where no picture is written."""
    if name is None or (out is not None and out.suffix.lower() == ".png"):
        return
    instead = ": write one with --out" if out is None else f", not {out}"
    raise ValueError(f"--map {name} is for a picture (.png){instead}")


def check_effect(area: str | None, name: str | None, out: Path | None) -> None:
    """Raise ValueError if a map or a file of curves is named where an area is taken away."""
    for option, given in (("--map", name), ("--out", out)):
        if area is not None and given is not None:
            raise ValueError(f"{option} {given} is for curves by a map, not for --area {area}")


def asked_area(query: str | None, area: str | None) -> Region | None:
    """Return the level-0 pixels that --query or --area names; None if neither is given.

    Raises
    ------
    ValueError
        If both are given, or what is given is no place or has no pixels.
    """
    if query is None and area is None:
        return None
    if query is not None and area is not None:
        raise ValueError("--query asks about a patch and --area about an area: give one of them")
    text, size = (query, (1, 1)) if query is not None else (area, ())
    try:
        asked = Region(*(int(part) for part in str(text).split(",")), *size)
    except (TypeError, ValueError) as error:
        wanted = "--query X,Y" if size else "--area X,Y,WIDTH,HEIGHT"
        raise ValueError(f"{text!r} is not {wanted}, whole numbers of level-0 pixels") from error
    if min(asked.width, asked.height) < 1:
        raise ValueError(f"--area {text!r} has no pixels")
    return asked


def class_names(text: str) -> list[str]:
    """Return the names in a text such as "normal, tumor".

    Raises
    ------
    ValueError
        If one is empty or there twice.
    """
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"--classes {text!r}: each class needs a name of its own")
    return names


def check_one_slide(path: Path, given: Mapping[str, object]) -> None:
    """Raise ValueError if an option for one slide is given for patients of a cohort."""
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} {value} is for one slide, not for patients of {path}")


def check_one_or_many(
    path: Path | None, one: Mapping[str, object], many: Mapping[str, object]
) -> None:
    """Raise ValueError if what is for one slide is given for all cases, or the other way round."""
    wrong, what = (one, "one slide, and none is named") if path is None else (many, "many cases")
    for option, given in wrong.items():
        if given:
            raise ValueError(f"{option} is for {what}")
