"""Command line: assembly of all verbs."""

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
    """View whole-slide images and predict with multiple-instance-learning models.

    Results go to stdout, progress and warnings to stderr. An error is one line with exit code 2.
    If some slides or patients of a cohort fail, each is listed with its reason, the others
    continue, and the exit code is 3 (1 for `whatif`). Positions and sizes are level-0 pixels
    unless an option names another unit. Nothing uses the network unless you request a download.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code.

    It is 0, the verb's own code, 2 after an error (printed in one line), or 130 after an
    interruption. If the reader of stdout is gone, as `head` is after its lines, Typer ends the
    program with exit code 1 and prints nothing.
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
