"""Verbs of a study: a folder of patients, slides, records, and a ledger of what was done."""

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
    help="Keep patients, slides and clinical records in a folder, with a ledger.",
)

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]
Patient = Annotated[str, typer.Argument(help="The patient's name in the study.")]
MaybePatient = Annotated[str | None, typer.Argument(help="One patient; the study if none.")]
SchemaName = Annotated[
    str | None,
    typer.Option("--schema", help="A file (.yaml), or breast_biopsy, lymphoma, phantom, tcga."),
]
Name = Annotated[str, typer.Option(help="What it is called; as its folder if none.")]
UnitName = Annotated[str, typer.Option("--unit", help="Predictions are of a patient or a slide.")]
Slides = Annotated[
    Path | None, typer.Option(help="Folder of slides, each of which becomes a case.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE; may repeat. Also missing, unknown, not applicable."),
]
Why = Annotated[str, typer.Option(help="The reason, which the ledger keeps.")]
VerdictName = Annotated[str, typer.Option("--verdict", help="agree, disagree or unsure.")]
Words = Annotated[str, typer.Option("--why", help="In words, which the ledger keeps.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take the last correction back.")]
Redo = Annotated[bool, typer.Option("--redo", help="Do again what was undone last.")]
Runs = Annotated[bool, typer.Option("--runs", help="Also the models that were trained on it.")]
PredictionsToo = Annotated[
    bool, typer.Option("--predictions", help="Also what models said last of the patients.")
]
Newest = Annotated[int | None, typer.Option(min=1, help="How many of the last; all if none.")]
RootName = Annotated[str, typer.Argument(help="Name of the root, as show tells it.")]
RootFolder = Annotated[Path, typer.Argument(help="Where its files are now.")]
BackupName = Annotated[
    str, typer.Option("--from", metavar="BACKUP", help="File name in backups/; else the newest.")
]
ListBackups = Annotated[bool, typer.Option("--list", help="List the backups; restore nothing.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="File of names, outside the study; among your data if none."),
]
SchemaFile = Annotated[Path, typer.Argument(help="The schema, .yaml.")]


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
    """Make a study; of the slides in a folder, if one is given.

    Cases of slides are called P0001 and so on, since names of files can name patients.
    """
    from napari_wsimil.clinical.schema import NO_FIELDS, named_schema
    from napari_wsimil.study.create_study import create_study
    from napari_wsimil.study.patients import cases_in

    cases = () if slides is None else cases_in(slides)
    wanted = NO_FIELDS if schema is None else named_schema(schema)
    with create_study(folder, wanted, name=name, unit=_unit(unit)) as study:
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
    """Tell what is in a study, or what is known of a patient.

    Paths of files, which can name patients, and the names that the key has are left out
    unless asked for.
    """
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        _warn(study)
        known = study_facts(study) if patient is None else patient_facts(study, patient)
        known |= {"runs": run_facts(study)} if runs else {}
        known |= {"predictions": prediction_facts(study, patient)} if predictions else {}
        report(known | (naming_facts(study, patient, key) if identifying else {}), as_json)


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
    """Correct a patient's record, or undo or redo a correction; the ledger keeps who and why."""
    from napari_wsimil.study.create_study import open_study

    if bool(changes) + undo + redo != 1:
        raise ValueError("say what to do: --set FIELD=VALUE, --undo or --redo")
    with open_study(folder) as study:
        if undo or redo:
            held = study.records.undo(patient) if undo else study.records.redo(patient)
        else:
            before = study.records.read(patient)
            after = study.schema.apply(before.record, dict(map(_change, changes or ())))
            new = {name: value for name, (_, value) in before.record.changes(after).items()}
            held = study.records.correct(patient, new, why, version=before.version)
        odd = (f.remark(held.record[f.name]) for f in study.schema.fields)
        warn([*filter(None, odd), *study.schema.broken(held.record)])
        report(texts_of(study.schema, held.record), as_json)


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
    """Add a verdict on what a model said last of a patient; the ledger keeps who and why.

    Reviews are only added to: who thinks otherwise later adds another.
    """
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        known = study.patient(patient).name
        answer = study.predictions.latest().get(known)
        if answer is None:
            raise ValueError(
                f"no model has said anything of {patient} yet: `evaluate` or `explain` on the study"
            )
        report(review_facts(study.reviews.add(answer, _verdict(verdict), why)), as_json)


@verbs.command(
    epilog=opt.examples("napari-wsimil study ledger lymphoma --newest 20", "… lymphoma P0003"),
)
def ledger(
    folder: Folder,
    patient: MaybePatient = None,
    newest: Newest = None,
    as_json: opt.Json = False,
) -> None:
    """Tell what was done to a study and what left it, oldest first, and whether its chain holds."""
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        broken, chain = study.ledger.check(), chain_facts(study.ledger)
        warn([broken] if broken else [])
        entries = study.ledger.entries(patient, newest)
    told = [entry.told() for entry in entries]
    if as_json:
        report({"chain": broken or "holds", "entries": told}, as_json)
    else:
        report({str(said.pop("number")): said for said in told} | chain, as_json)


@verbs.command(epilog=opt.examples("napari-wsimil study schema lymphoma changed.yaml --why units"))
def schema(
    folder: Folder,
    file: SchemaFile,
    why: Why = "",
    as_json: opt.Json = False,
) -> None:
    """Give a study another schema, or write the one it has to a new file."""
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
    """Point a study to slides or features that have moved."""
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

    A damaged study gets its newest backup; one without damage goes back to the backup that you
    name. The replaced database is kept in backups/.
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
def rescue(folder: Folder, new: Annotated[str, typer.Argument()] = "") -> None:
    """Name the verb that replaced this one."""
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
