"""What the command line says: results on stdout, progress and remarks on stderr."""

from __future__ import annotations

import json
import math
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

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
    """Return the result of long work, its progress drawn on stderr.

    The work yields its share done as a float, or objects with `done` and `total` (and
    `stage`, what it is doing); anything else is passed over.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with closing(work), Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=1.0)
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                bar.update(task, completed=1.0, description=title)
                result: Result = stop.value
                return result
            stage, share = _progress(step)
            if share is not None:
                bar.update(task, completed=share, description=f"{title}{stage}")


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


def _progress(step: object) -> tuple[str, float | None]:
    if isinstance(step, float):
        return "", step
    done, total = getattr(step, "done", None), getattr(step, "total", None)
    stage = getattr(step, "stage", "")
    return f": {stage}" if stage else "", done / total if done is not None and total else None


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


def sentence(error: Exception) -> str:
    """Return an error's words in one line; of a file the system refused, its name and why."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
