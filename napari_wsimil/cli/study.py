"""Verbs for studies: create, show, edit, review, ledger and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import report, warn
from napari_wsimil.cli.study_report import (
    backup_facts,
    chain_facts,
    naming_facts,
    patient_facts,
    prediction_facts,
    review_facts,
    run_facts,
    study_facts,
    texts_of,
)

if TYPE_CHECKING:
    from napari_wsimil.study.create_study import Study

verbs = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Manage studies: folders of patients, slides and clinical records, with an audit log.",
)

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]
Patient = Annotated[str, typer.Argument(help="Name of the patient in the study.")]
MaybePatient = Annotated[
    str | None, typer.Argument(help="Name of a patient. Default: the whole study.")
]
SchemaName = Annotated[
    str | None,
    typer.Option(
        "--schema", help="Schema: a file (.yaml), or breast_biopsy, lymphoma, phantom, tcga."
    ),
]
Name = Annotated[str, typer.Option(help="Name of the study. Default: name of its folder.")]
UnitName = Annotated[str, typer.Option("--unit", help="Unit of prediction: patient or slide.")]
Slides = Annotated[
    Path | None, typer.Option(help="Folder of slides; each slide becomes a patient.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="FIELD=VALUE; the value may be missing, unknown or not applicable; may repeat.",
    ),
]
Why = Annotated[str, typer.Option(help="Reason, stored in the audit log.")]
VerdictName = Annotated[
    str, typer.Option("--verdict", help="Your verdict: agree, disagree or unsure.")
]
Words = Annotated[str, typer.Option("--why", help="Comment, stored in the audit log.")]
Undo = Annotated[bool, typer.Option("--undo", help="Undo the last correction.")]
Redo = Annotated[bool, typer.Option("--redo", help="Redo the correction that was undone last.")]
Runs = Annotated[bool, typer.Option("--runs", help="Also print the models trained on it.")]
PredictionsToo = Annotated[
    bool, typer.Option("--predictions", help="Also print the latest predictions for the patients.")
]
Newest = Annotated[int | None, typer.Option(min=1, help="Number of newest entries. Default: all.")]
RootName = Annotated[
    str, typer.Argument(help="Name of the root; `study show STUDY --identifying` lists them.")
]
RootFolder = Annotated[Path, typer.Argument(help="New folder of its files.")]
BackupName = Annotated[
    str,
    typer.Option("--from", metavar="BACKUP", help="File name in backups/. Default: the newest."),
]
ListBackups = Annotated[bool, typer.Option("--list", help="List the backups; restore nothing.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", help="Key file with the names, outside the study. Default: in your data folder."
    ),
]
SchemaFile = Annotated[Path, typer.Argument(help="File of the schema (.yaml).")]


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil study create lymphoma --schema phantom",
        "napari-wsimil study create lymphoma --slides scans",
    )
)
def create(
    folder: Folder,
    schema: SchemaName = None,
    slides: Slides = None,
    name: Name = "",
    unit: UnitName = "patient",
    as_json: opt.Json = False,
) -> None:
    """Create a study, optionally with the slides in a folder.

    Patients are named P0001 and so on, because file names can identify patients.
    """
    from napari_wsimil.clinical.schema import NO_FIELDS, named_schema
    from napari_wsimil.study.create_study import create_study
    from napari_wsimil.study.patients import cases_in

    cases = () if slides is None else cases_in(slides)
    schema_ = NO_FIELDS if schema is None else named_schema(schema)
    with create_study(folder, schema_, name=name, unit=_unit(unit)) as study:
        study.add(cases, "the folder was opened as cases")
        report(study_facts(study), as_json)


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil study show lymphoma",
        "… lymphoma P0003 --json",
        "… lymphoma --predictions",
    ),
)
def show(
    folder: Folder,
    patient: MaybePatient = None,
    runs: Runs = False,
    predictions: PredictionsToo = False,
    identifying: opt.Identifying = False,
    key: KeyFile = None,
    as_json: opt.Json = False,
) -> None:
    """Print the content of a study, or of a patient.

    File paths, which can identify patients, and the names in the key are omitted; add
    --identifying to print them.
    """
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        _warn(study)
        facts = study_facts(study) if patient is None else patient_facts(study, patient)
        facts |= {"runs": run_facts(study)} if runs else {}
        facts |= {"predictions": prediction_facts(study, patient)} if predictions else {}
        report(facts | (naming_facts(study, patient, key) if identifying else {}), as_json)


@verbs.command(
    epilog=opt.examples(
        'napari-wsimil study edit lymphoma P0003 --set ldh=210 --why "lab report of May"',
        "… lymphoma P0003 --undo",
    )
)
def edit(
    folder: Folder,
    patient: Patient,
    changes: Changes = None,
    why: Why = "",
    undo: Undo = False,
    redo: Redo = False,
    as_json: opt.Json = False,
) -> None:
    """Correct a patient's record, or undo or redo a correction.

    The audit log records the user and the reason.
    """
    from napari_wsimil.study.create_study import open_study

    if bool(changes) + undo + redo != 1:
        raise ValueError("give one of --set FIELD=VALUE, --undo and --redo")
    with open_study(folder) as study:
        if undo or redo:
            updated = study.records.undo(patient) if undo else study.records.redo(patient)
        else:
            before = study.records.read(patient)
            after = study.schema.apply(before.record, dict(map(_change, changes or ())))
            new = {name: value for name, (_, value) in before.record.changes(after).items()}
            updated = study.records.correct(patient, new, why, version=before.version)
        remarks = (f.remark(updated.record[f.name]) for f in study.schema.fields)
        warn([*filter(None, remarks), *study.schema.broken(updated.record)])
        report(texts_of(study.schema, updated.record), as_json)


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil study review lymphoma P0003 --verdict agree",
        '… P0003 --verdict disagree --why "the lesion is an artifact"',
    )
)
def review(
    folder: Folder,
    patient: Patient,
    verdict: VerdictName,
    why: Words = "",
    as_json: opt.Json = False,
) -> None:
    """Add your verdict on the latest prediction for a patient.

    The audit log records the user and the comment. Reviews are never changed: if you change
    your mind, add another one.
    """
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        name = study.patient(patient).name
        prediction = study.predictions.latest().get(name)
        if prediction is None:
            raise ValueError(
                f"no prediction for {patient} yet: run `evaluate` or `explain` on the study"
            )
        report(review_facts(study.reviews.add(prediction, _verdict(verdict), why)), as_json)


@verbs.command(
    epilog=opt.examples("napari-wsimil study ledger lymphoma --newest 20", "… lymphoma P0003"),
)
def ledger(
    folder: Folder,
    patient: MaybePatient = None,
    newest: Newest = None,
    as_json: opt.Json = False,
) -> None:
    """Print the audit log of a study; check its chain.

    It lists changes and exports, oldest first.
    """
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        broken, chain = study.ledger.check(), chain_facts(study.ledger)
        warn([broken] if broken else [])
        entries = study.ledger.entries(patient, newest)
    facts = [entry.told() for entry in entries]
    if as_json:
        report({"chain": broken or "holds", "entries": facts}, as_json)
    else:
        report({str(entry.pop("number")): entry for entry in facts} | chain, as_json)


@verbs.command(epilog=opt.examples("napari-wsimil study schema lymphoma changed.yaml --why units"))
def schema(
    folder: Folder,
    file: SchemaFile,
    why: Why = "",
    as_json: opt.Json = False,
) -> None:
    """Set a study's schema, or write it to a file.

    An existing file is read as the new schema; otherwise the study's schema is written to it.
    """
    from napari_wsimil.clinical.schema import read_schema, write_schema
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        if file.exists():
            study.set_schema(read_schema(file), why)
        else:
            write_schema(study.schema, file)
        report({"schema": study.schema.name, "fields": len(study.schema.fields)}, as_json)


@verbs.command(epilog=opt.examples("napari-wsimil study root lymphoma slides /new/disk/scans"))
def root(
    folder: Folder,
    name: RootName,
    moved: RootFolder,
    why: Why = "moved",
    as_json: opt.Json = False,
) -> None:
    """Set the new folder of slides or features that moved."""
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        study.set_root(name, moved, why)
        report({"roots": study.roots}, as_json)


@verbs.command(epilog=opt.examples("napari-wsimil study restore lymphoma", "… lymphoma --list"))
def restore(
    folder: Folder,
    backup: BackupName = "",
    only_list: ListBackups = False,
    as_json: opt.Json = False,
) -> None:
    """Restore a study from a backup.

    A damaged study gets its newest backup. An undamaged study gets the backup that you
    name. The replaced database stays in backups/.
    """
    from napari_wsimil.study.create_study import open_study
    from napari_wsimil.study.restore import restore_study

    if only_list:
        report({"backups": backup_facts(folder)}, as_json)
        return
    restored = restore_study(folder, backup)
    facts: dict[str, Any] = {"restored": restored.backup.path.name, "replaced": restored.replaced}
    with open_study(folder) as study:
        report(facts | study_facts(study), as_json)


@verbs.command(hidden=True)
def rescue(
    folder: Folder, new: Annotated[str, typer.Argument()] = "", as_json: opt.Json = False
) -> None:
    """Print the verb that replaced this one."""
    raise ValueError(
        f"`study rescue` was removed. Restore a backup: `napari-wsimil study restore {folder}`."
    )


def _warn(study: Study) -> None:
    warn([study.read_only] if study.read_only else [])


def _unit(text: str) -> Any:
    from napari_wsimil.study.create_study import Unit

    if text not in list(Unit):
        raise ValueError(f"--unit {text!r} is none of {', '.join(Unit)}")
    return Unit(text)


def _verdict(text: str) -> Any:
    from napari_wsimil.study.predictions import Verdict

    if text not in list(Verdict):
        raise ValueError(f"--verdict {text!r} is none of {', '.join(Verdict)}")
    return Verdict(text)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text!r} is not FIELD=VALUE, such as ldh=210")
    return name.strip(), value
