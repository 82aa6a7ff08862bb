"""Verbs for tables: patients in from one, and out to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_wsimil._cli_console import follow, report, warn
from napari_wsimil.study.headers import DAYS
from napari_wsimil.study.import_report import report_lines
from napari_wsimil.study.importing import export_table, import_table, plan_for
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.study.import_plan import ImportPlan

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]
Table = Annotated[
    Path, typer.Option("--table", help="The table: .csv, .tsv, .xlsx, .parquet, cBioPortal's .txt.")
]
Answers = Annotated[
    list[str] | None,
    typer.Option("--answer", help="KEY=ANSWER to a question the plan asks; may repeat."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")]
SchemaName = Annotated[
    str | None, typer.Option("--schema", help="Fields known beforehand: a file (.yaml) or name.")
]
Why = Annotated[str, typer.Option(help="The reason, which the ledger keeps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Argument(help="File to write: .csv, .tsv, .xlsx, .parquet, .txt.")]
TimeUnit = Annotated[str, typer.Option(help=f"Unit of times, for cBioPortal: {', '.join(DAYS)}.")]
CBioPortal = Annotated[bool, typer.Option("--cbioportal", help="Write cBioPortal's file.")]


def import_(
    folder: Study,
    table: Table,
    answers: Answers = None,
    schema: SchemaName = None,
    why: Why = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take patients in from a table; the plan says what it makes of every column first.

    What the table leaves open (whether NA is missing, in which value an event happened) is
    asked, never assumed: answer with --answer.
    """
    from napari_wsimil.study.schema_file import named_schema
    from napari_wsimil.study.study import open_study

    with open_study(folder) as study:
        known = None if schema is None else named_schema(schema)
        plan = plan_for(study, table, _answers(answers or ()), known)
        if dry_run or plan.open:
            report(_facts(plan), as_json) if as_json else _print(plan)
        if plan.open and not dry_run:
            keys = ", ".join(repr(question.key) for question in plan.open)
            raise RecordError(f"nothing was imported: answer {keys} with --answer KEY=ANSWER")
        if not dry_run:
            added = follow(import_table(study, plan, why or f"table {table.name}"), "importing")
            warn(added.conflicts)
            counts = {name: len(getattr(added, name)) for name in ("new", "completed", "same")}
            report({**counts, "passed over": len(added.conflicts)}, as_json)


def export(
    folder: Study,
    out: Out,
    time_unit: TimeUnit = "",
    cbioportal: CBioPortal = False,
    as_json: Json = False,
) -> None:
    """Write a study's patients as a table, under the names they have in it; the ledger notes it."""
    from napari_wsimil.study.study import open_study

    with open_study(folder) as study:
        export_table(study, out, time_unit=time_unit, cbioportal=cbioportal)
        report({"table": out, "patients": len(study.manifest().patients)}, as_json)


def _answers(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, sign, _ in pairs:
        if not sign:
            raise RecordError(f"--answer {key!r} is not KEY=ANSWER")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _print(plan: ImportPlan) -> None:
    for line in report_lines(plan):
        typer.echo(line)


def _facts(plan: ImportPlan) -> dict[str, Any]:
    return {
        "patients": len(plan.merged.rows),
        "fields": [column.header for column in plan.fields],
        "plan": list(report_lines(plan)),
        "open": {question.key: list(question.options) for question in plan.open},
    }
