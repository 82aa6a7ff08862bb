"""Verbs for privacy: share a copy, erase a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import follow, report
from napari_wsimil.cli.study import Folder, KeyFile, Patient, Why
from napari_wsimil.cli.study import verbs as verbs
from napari_wsimil.cli.study_report import run_words

NewFolder = Annotated[Path, typer.Argument(help="Folder of the copy; must not exist.")]
Models = Annotated[
    list[Path] | None, typer.Option(help="Another folder of checkpoints to search; may repeat.")
]


@verbs.command(epilog=opt.examples("napari-wsimil study share lymphoma for-the-others"))
def share(
    folder: Folder,
    out: NewFolder,
    key: KeyFile = None,
    as_json: opt.Json = False,
) -> None:
    """Write a pseudonymized copy of a study; list removed data.

    Patients and slides get new names in random order, dates become days since the patient's first
    date, and features are written again. The key to the names is stored outside the copy.
    """
    from napari_wsimil.study.create_study import open_study
    from napari_wsimil.workflows.share import share as write_copy

    with open_study(folder) as study:
        shared = follow(write_copy(study, out, key), "sharing")
    facts = {"copy": shared.folder, "key": shared.key, "patients": shared.patients}
    report(facts | {"features": shared.features, "removed": list(shared.removed)}, as_json)


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
    """Erase a patient from a study.

    Values, features, maps and history are erased, and models trained on the patient are listed.
    The audit log keeps one entry with the patient's name in the study. Files outside the study,
    exports of several patients and shared copies are listed; remove those yourself.
    """
    from napari_wsimil.study.create_study import open_study
    from napari_wsimil.workflows.erase_patient import forget as erase

    with open_study(folder) as study:
        erasure = erase(study, patient, why, key, models or ())
    patient_data = erasure.found
    facts = {
        "forgotten": patient_data.patient,
        "ledger_entries_erased": patient_data.entries,
        "files_erased": patient_data.erased,
        "key_without_them": erasure.key or "no key file found: if you have one, give it with --key",
        "models_trained_on_them": erasure.models,
        "models_not_where_they_were": [run_words(run) for run in erasure.moved],
        "models_not_readable": erasure.unread,
        "left_outside_the_study": patient_data.outside,
        "look_for_them_in": patient_data.unsure,
        "given_away": patient_data.departed,
    }
    report(facts, as_json)
