"""Verbs of a study that keep names where they belong: a copy to share, a patient forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import follow, report
from napari_wsimil.cli.study import Folder, KeyFile, Patient, Why
from napari_wsimil.cli.study import verbs as verbs
from napari_wsimil.cli.study_report import run_words

NewFolder = Annotated[Path, typer.Argument(help="Folder of the copy; must not be there.")]
Models = Annotated[
    list[Path] | None, typer.Option(help="Folder of checkpoints besides the study's; may repeat.")
]


@verbs.command(epilog=opt.examples("napari-wsimil study share lymphoma for-the-others"))
def share(
    folder: Folder,
    out: NewFolder,
    key: KeyFile = None,
    as_json: opt.Json = False,
) -> None:
    """Write a copy of a study that names nobody, and tell what was taken out.

    Patients and slides get new names in a random order, dates become days since the
    patient's first one, features are written anew. The key to the names stays outside.
    """
    from napari_wsimil.study.create_study import open_study
    from napari_wsimil.workflows.share import share as copied

    with open_study(folder) as study:
        made = follow(copied(study, out, key), "sharing")
    facts = {"copy": made.folder, "key": made.key, "patients": made.patients}
    report(facts | {"features": made.features, "removed": list(made.removed)}, as_json)


@verbs.command(
    epilog=opt.examples('napari-wsimil study forget lymphoma P0003 --why "consent withdrawn"')
)
def forget(
    folder: Folder,
    patient: Patient,
    why: Why = "",
    key: KeyFile = None,
    models: Models = None,
    as_json: opt.Json = False,
) -> None:
    """Erase a patient's values, features, maps and history, and name the models trained on them.

    A tombstone with the patient's name in the study stays in the ledger. Files outside the
    study, exports of several patients, and what was given away are told and left to you.
    """
    from napari_wsimil.study.create_study import open_study
    from napari_wsimil.workflows.erase_patient import forget as erased

    with open_study(folder) as study:
        gone = erased(study, patient, why, key, models or ())
    found = gone.found
    facts = {
        "forgotten": found.patient,
        "ledger_entries_erased": found.entries,
        "files_erased": found.erased,
        "key_without_them": gone.key or "none found: name one with --key if you keep it",
        "models_trained_on_them": gone.models,
        "models_not_where_they_were": [run_words(run) for run in gone.moved],
        "models_not_readable": gone.unread,
        "left_outside_the_study": found.outside,
        "look_for_them_in": found.unsure,
        "given_away": found.departed,
    }
    report(facts, as_json)
