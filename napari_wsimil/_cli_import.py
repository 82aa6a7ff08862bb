"""Verbs for tables: patients in from one, and out to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_wsimil import _cli_options as opt
from napari_wsimil._cli_console import follow, report, warn
from napari_wsimil._cli_study import Folder, SchemaName, Why, verbs
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.study.additions import Added
    from napari_wsimil.study.import_plan import ImportPlan

#: The verbs of a study, those for tables among them.
study_verbs = verbs

Table = Annotated[
    Path | None,
    typer.Option("--table", help="The table: .csv, .tsv, .xlsx, .parquet, cBioPortal's .txt."),
]
Features = Annotated[
    Path | None,
    typer.Option(help="Folder of features by TRIDENT, CLAM, STAMP, LazySlide or Slideflow."),
]
DeclaredEncoder = Annotated[
    str, typer.Option("--encoder", help="What made the features; kept as unverified.")
]
FeatureTable = Annotated[
    str, typer.Option(help="Which of LazySlide's tables of features, such as uni_tiles.")
]
Answers = Annotated[
    list[str] | None,
    typer.Option("--answer", help="KEY=ANSWER to a question the plan asks; may repeat."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")]
KeepNames = Annotated[
    bool, typer.Option("--keep-names", help="The table's names are pseudonyms: take them.")
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="Key of the pseudonyms; among the user's data if none.")
]
Out = Annotated[Path, typer.Argument(help="File to write: .csv, .tsv, .xlsx, .parquet, .txt.")]
TimeUnit = Annotated[
    str, typer.Option(help="Unit of the study's times, for cBioPortal: days, months, years.")
]
CBioPortal = Annotated[bool, typer.Option("--cbioportal", help="Write cBioPortal's file.")]


@verbs.command(
    "import",
    epilog=opt.examples(
        "napari-wsimil study import lymphoma --table patients.xlsx --dry-run",
        '… --table t.csv --answer NA=missing --answer "OS_STATUS: event=1:DECEASED"',
        "… --features trident/20x_256px_0px_overlap/features_uni_v1 --dry-run",
        "… --features clam/h5_files --encoder resnet50",
    ),
)
def import_(
    folder: Folder,
    table: Table = None,
    features: Features = None,
    answers: Answers = None,
    schema: SchemaName = None,
    keep_names: KeepNames = False,
    key: KeyFile = None,
    encoder: DeclaredEncoder = "",
    patch_size: opt.PatchSize = None,
    slide_mpp: opt.SlideMpp = None,
    feature_table: FeatureTable = "",
    why: Why = "",
    dry_run: DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Take patients in from a table, or link the features that people have to its slides.

    What the table leaves open (whether NA is missing, in which value an event happened) is
    asked, never assumed: answer with --answer. Patients and slides get pseudonyms, whose key
    is kept outside the study.

    Features stay where they are. Each file gets a passport: where its patches are said to
    lie, and four checks of that against the slide. What a file cannot say is asked for:
    answer with --encoder, --patch-size or --slide-mpp.
    """
    if (table is None) == (features is None):
        raise RecordError("give one of --table and --features")
    if features is not None:
        from napari_wsimil._cli_link import link_features
        from napari_wsimil.bags.stated import Confirmed

        said = Confirmed(patch_size, None, None, slide_mpp, encoder, feature_table)
        report(link_features(folder, features, said, why, key, dry_run), as_json)
        return
    assert table is not None
    from napari_wsimil.study.importing import import_table, plan_for
    from napari_wsimil.study.pseudonyms import default_key, read_key
    from napari_wsimil.study.schema_file import named_schema
    from napari_wsimil.study.study import open_study

    with open_study(folder) as study:
        known = None if schema is None else named_schema(schema)
        names = None if keep_names else read_key(key or default_key(study.identity), study.folder)
        plan = plan_for(study, table, _answers(answers or ()), known, names)
        if dry_run or plan.open:
            _show(plan, as_json)
        if dry_run:
            return
        if plan.open:
            keys = ", ".join(repr(question.key) for question in plan.open)
            raise RecordError(f"nothing was imported: answer {keys} with --answer KEY=ANSWER")
        work = import_table(study, plan, why or f"a table of {len(plan.table.rows)} rows", names)
        added = follow(work, "importing")
        warn(added.conflicts)
        report(_came(added), as_json)


@verbs.command(epilog=opt.examples("napari-wsimil study export lymphoma patients.xlsx"))
def export(
    folder: Folder,
    out: Out,
    time_unit: TimeUnit = "",
    cbioportal: CBioPortal = False,
    as_json: opt.Json = False,
) -> None:
    """Write a study's patients as a table, under the names they have in it; the ledger notes it."""
    from napari_wsimil.study.importing import export_table
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


def _came(added: Added) -> dict[str, Any]:
    return {
        "new": len(added.new),
        "completed": len(added.completed),
        "same": len(added.same),
        "passed_over": len(added.conflicts),
    }


def _show(plan: ImportPlan, as_json: bool) -> None:
    from napari_wsimil.study.import_report import report_lines

    lines = list(report_lines(plan))
    if not as_json:
        for line in lines:
            typer.echo(line)
        return
    facts: dict[str, Any] = {
        "patients": len(plan.merged.rows),
        "fields": [column.header for column in plan.fields],
        "plan": lines,
        "open": {question.key: list(question.options) for question in plan.open},
    }
    report(facts, as_json=True)
