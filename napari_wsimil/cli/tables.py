"""Verbs for tables: import and export of patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli import privacy as _cli_privacy
from napari_wsimil.cli.console import SOME_FAILED, follow, report, warn
from napari_wsimil.cli.study import Folder, SchemaName, Why, verbs
from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.cohort.table_import.plan import ImportPlan
    from napari_wsimil.study.add_patients import Added
    from napari_wsimil.study.open_study import Study
    from napari_wsimil.study.pseudonyms import Key

#: The verbs for studies, including those for tables and privacy.
study_verbs = _cli_privacy.verbs

Table = Annotated[
    Path | None,
    typer.Option(
        "--table",
        help="Table: .csv, .tsv, .xlsx, .parquet, .txt of cBioPortal, or its packed study.",
    ),
]
Sheet = Annotated[str, typer.Option(help="Sheet of a workbook, or table in an archive.")]
Features = Annotated[
    Path | None,
    typer.Option(help="Folder of features from TRIDENT, CLAM, STAMP, LazySlide or Slideflow."),
]
DeclaredEncoder = Annotated[
    str, typer.Option("--encoder", help="Encoder of the features; stored as unverified.")
]
FeatureTable = Annotated[str, typer.Option(help="Feature table of LazySlide, such as uni_tiles.")]
Reading = Annotated[
    str,
    typer.Option(
        help="Meaning of patch coordinates: stated, exchanged (x and y), centers, corners, "
        "or shifted by one patch: left, right, up, down."
    ),
]
Answers = Annotated[
    list[str] | None,
    typer.Option("--answer", help="KEY=ANSWER: answer a question of the plan; may repeat."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")]
KeepNames = Annotated[
    bool, typer.Option("--keep-names", help="Keep the table's names: they are pseudonyms already.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="Key file of the pseudonyms. Default: in your data folder."),
]
Out = Annotated[Path, typer.Argument(help="File to write: .csv, .tsv, .xlsx, .parquet, .txt.")]
TimeUnit = Annotated[
    str,
    typer.Option(help="Unit of the times, if the study does not state it: days, months or years."),
]
Outcome = Annotated[
    str, typer.Option(help="Kind of the outcome, if the study does not state it, such as PFS.")
]
CBioPortal = Annotated[
    bool, typer.Option("--cbioportal", help="Write the file format of cBioPortal.")
]


@verbs.command(
    "import",
    epilog=opt.examples(
        "napari-wsimil study import lymphoma --table patients.xlsx --dry-run",
        '… --table t.csv --answer NA=missing --answer "OS_STATUS: event=1:DECEASED"',
        '… --table t.csv --answer "outcome: time=fu" --answer "outcome: event=state" --dry-run',
        "… --features trident/20x_256px_0px_overlap/features_uni_v1 --dry-run",
        "… --features clam/h5_files --encoder resnet50",
    ),
)
def import_(
    folder: Folder,
    table: Table = None,
    sheet: Sheet = "",
    features: Features = None,
    answers: Answers = None,
    schema: SchemaName = None,
    keep_names: KeepNames = False,
    key: KeyFile = None,
    encoder: DeclaredEncoder = "",
    patch_size: opt.PatchSize = None,
    slide_mpp: opt.SlideMpp = None,
    feature_table: FeatureTable = "",
    reading: Reading = "",
    why: Why = "",
    dry_run: DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Import patients from a table, or link existing features.

    Open questions on a table (is NA missing? which value is the event?) need an answer: give
    it with --answer. Patients and slides get pseudonyms; their key stays outside the study.

    Feature files stay in place and are linked to the slides. Each gets a validation report on its
    patch positions and values. Facts that a file lacks are requested: give --encoder, --patch-size,
    --slide-mpp or --reading. Unreadable and refused files are listed, the others are linked, and
    the exit code is 3.
    """
    if table is not None and features is None:
        with _opened(folder) as study:
            key_file = None if keep_names else _key(study, key)
            plan = _planned(study, table, sheet, answers or (), schema, key_file)
            _check(plan, dry_run, as_json)
            if not dry_run:
                reason = why or f"a table of {len(plan.table.rows)} rows"
                report(_imported(study, plan, reason, key_file), as_json)
    elif features is not None and table is None:
        from napari_wsimil.cli.link import link_features
        from napari_wsimil.features.importers.base import Confirmed, checked_reading

        overrides = Confirmed(patch_size, None, None, slide_mpp, encoder, feature_table)
        confirmed = replace(overrides, reading=checked_reading(reading))
        facts = link_features(folder, features, confirmed, why, key, dry_run)
        report(facts, as_json)
        raise typer.Exit(SOME_FAILED if facts["refused"] or facts["failed"] else 0)
    else:
        raise RecordError("give one of --table and --features")


@verbs.command(epilog=opt.examples("napari-wsimil study export lymphoma patients.xlsx"))
def export(
    folder: Folder,
    out: Out,
    time_unit: TimeUnit = "",
    outcome: Outcome = "",
    cbioportal: CBioPortal = False,
    as_json: opt.Json = False,
) -> None:
    """Write a study's patients as a table, with their pseudonyms."""
    from napari_wsimil.study.import_table import export_table

    with _opened(folder) as study:
        warn(export_table(study, out, time_unit=time_unit, cbioportal=cbioportal, outcome=outcome))
        report({"table": out, "patients": len(study.manifest().patients)}, as_json)


def _opened(folder: Path) -> Study:
    from napari_wsimil.study.create_study import open_study

    return open_study(folder)


def _key(study: Study, path: Path | None) -> Key:
    from napari_wsimil.study.pseudonyms import default_key, read_key

    return read_key(path or default_key(study.identity), study.folder)


def _planned(
    study: Study,
    table: Path,
    sheet: str,
    answers: Sequence[str],
    schema: str | None,
    key: Key | None,
) -> ImportPlan:
    from napari_wsimil.clinical.schema import named_schema
    from napari_wsimil.cohort.table_import.stages import apply_answers
    from napari_wsimil.study.import_table import infer_table

    known = None if schema is None else named_schema(schema)
    inferred = infer_table(study, table, schema=known, key=key, sheet=sheet)
    return apply_answers(inferred, _answers(answers))


def _check(plan: ImportPlan, dry_run: bool, as_json: bool) -> None:
    """Print the plan if requested or incomplete; refuse open questions."""
    if dry_run or plan.open:
        _show(plan, as_json)
    if plan.open and not dry_run:
        keys = ", ".join(repr(question.key) for question in plan.open)
        raise RecordError(f"nothing was imported: answer {keys} with --answer KEY=ANSWER")


def _imported(study: Study, plan: ImportPlan, why: str, key: Key | None) -> dict[str, Any]:
    from napari_wsimil.cohort.table_import.plan import barcode_lines
    from napari_wsimil.study.import_table import write_plan

    warn(list(barcode_lines(plan)))
    added = follow(write_plan(study, plan, why, key), "importing")
    warn(added.conflicts)
    return _to_dict(added)


def _answers(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, sign, _ in pairs:
        if not sign:
            raise RecordError(f"--answer {key!r} is not KEY=ANSWER")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _to_dict(added: Added) -> dict[str, Any]:
    return {
        "new": len(added.new),
        "completed": len(added.completed),
        "same": len(added.same),
        "passed_over": len(added.conflicts),
        **(added.outcomes.to_dict() if added.outcomes else {}),
    }


def _show(plan: ImportPlan, as_json: bool) -> None:
    from napari_wsimil.cohort.table_import.plan import summary_lines

    lines = list(summary_lines(plan))
    if not as_json:
        for line in lines:
            typer.echo(line)
        return
    facts: dict[str, Any] = {
        "patients": len(plan.merged.rows),
        "fields": [column.header for column in plan.fields],
        **plan.outcome_counts.to_dict(),
        "plan": lines,
        "open": {question.key: list(question.options) for question in plan.open},
    }
    report(facts, as_json=True)
