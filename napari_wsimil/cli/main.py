"""Command line: assembles the groups of verbs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from napari_wsimil.cli import explain, files, models, window
from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import Verbs, remark
from napari_wsimil.cli.tables import study_verbs

if TYPE_CHECKING:
    from collections.abc import Sequence


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for group in (files, models, explain, window):
    app.add_typer(group.verbs)
app.add_typer(study_verbs, name="study")


@app.callback()
def _root(
    debug: opt.Debug = False,
) -> None:
    """Whole-slide images, and where multiple-instance-learning models looked in them.

    Results go to stdout, progress to stderr; an error is one line and exit code 2. Where some
    slides or patients of many failed, each is named with the reason, the others are done, and
    the exit code is 3 (1 of `whatif`). Positions
    and sizes are level-0 pixels unless a name says otherwise. Nothing touches the network.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command line: 0, or 2 after an error told in one line.

    Where the reader of stdout is gone, as `head` is after its lines, Typer ends the program
    with exit code 1 and without a word.
    """
    try:
        code = app(arguments, prog_name="napari-wsimil", standalone_mode=False)
    except typer.TyperException as error:
        if message := " ".join(error.format_message().split()):
            remark(f"error: {message}")
        return 2
    except typer.Abort:
        remark("stopped")
        return 130
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
