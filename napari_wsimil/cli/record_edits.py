"""What the command line notes in a study: what was tried on its patients, and what left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.cli.console import warn
from napari_wsimil.explain.counterfactual import main_movement
from napari_wsimil.features.bag import features_digest
from napari_wsimil.workflows.record_edits import effect_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.clinical.scenario import Scenario
    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.explain.counterfactual import WhatIf
    from napari_wsimil.explain.counterfactual_cohort import Row
    from napari_wsimil.study.audit_log import Effect
    from napari_wsimil.study.create_study import Study


@dataclass(frozen=True)
class Tried:
    """A change of a patient's record that a model was asked about.

    Attributes
    ----------
    patient
        Whose record.
    changes
        Old and new text by field.
    record, features
        SHA-256 of the record that was tried on, and of the features of the slides.
    effect
        What the change did to the model.
    """

    patient: str
    changes: Mapping[str, tuple[str, str]]
    record: str
    features: str
    effect: Effect


def tried_of(schema: ClinicalSchema, patient: str, found: WhatIf) -> Tried:
    """Return what was tried on the record of a patient with one slide."""
    before, after = found.before, found.after
    assert before.record is not None  # both were asked with a record
    assert after.record is not None
    effect = effect_of(found.probability, [main_movement(before, after)])
    pair = before.record, after.record
    return _tried(schema, patient, pair, features_digest([after.bag]), effect)


def tried_row(
    schema: ClinicalSchema, scenario: Scenario, patient: Patient, row: Row
) -> Tried | None:
    """Return what a scenario tried on a patient's record, None where the model did not answer."""
    if row.failed or patient.record is None:
        return None
    change = {outcome: row.after[outcome] - before for outcome, before in row.before.items()}
    pair = patient.record, scenario.apply(schema, patient.record)
    return _tried(schema, patient.name, pair, row.features, effect_of(change, row.movements))


def _tried(
    schema: ClinicalSchema, patient: str, pair: tuple[Record, Record], features: str, effect: Effect
) -> Tried:
    fields = schema.by_name
    changes = {
        name: (fields[name].format(old), fields[name].format(new))
        for name, (old, new) in pair[0].changes(pair[1]).items()
    }
    return Tried(patient, changes, pair[1].digest(), features, effect)


def owner_of(
    study: Path | None, manifest: Path | None, source: Path, out: Path | None
) -> tuple[Path | None, str]:
    """Return the study that must note what is written to `out`, if any, and whose slide it is.

    It is the one that is named, else that which is given for its records.

    Raises
    ------
    ValueError
        If one is named and nothing written, the slide is nobody's, or the study could not note
        what leaves it.
    """
    from napari_wsimil.study.create_study import is_study

    if study is not None and out is None:
        raise ValueError(f"--study {study} is for what is written: write it with --out")
    folder = manifest if study is None and manifest and is_study(manifest) else study
    if out is None or folder is None:
        return None, ""
    return folder, _owner_in(folder, source)


def _owner_in(folder: Path, source: Path) -> str:
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        _check_notes(study)
        patient = study.manifest().owner(source)
    if patient is None:
        raise ValueError(f"{source} is no slide and no features of {folder}")
    return patient.name


def noting(manifest: Path, out: Path | None) -> Path | None:
    """Return the study that is to note what is tried on its patients, None for a manifest.

    Raises
    ------
    ValueError
        If something is to be written that the study could not note.
    """
    from napari_wsimil.study.create_study import is_study, open_study

    if not is_study(manifest):
        return None
    if out is not None:
        with open_study(manifest) as study:
            _check_notes(study)
    return manifest


def _check_notes(study: Study) -> None:
    from napari_wsimil.study.create_study import StudyError

    if study.read_only:
        raise StudyError(f"the export could not be noted: {study.read_only}")


def note_export(folder: Path, written: Path, patient: str, model: str) -> None:
    """Note in a study's ledger a file that was written, and by which model it is."""
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        _note_file(study, written, patient, model)


def _note_file(study: Study, written: Path, patient: str, model: str) -> None:
    from napari_wsimil.study.audit_log import Act

    place = written.absolute()
    study.ledger.left(Act.EXPORTED, place, patient=patient, identifying=False, model=model)


def note_whatif(
    folder: Path,
    tried: Sequence[Tried],
    files: Sequence[str],
    model: str,
    why: str,
    patient: str = "",
) -> None:
    """Note in a study's ledger what was tried on its patients, and the files it went to.

    `patient` is whose the files are, empty if they are of several.

    Where the study cannot be written and nothing has left it, that it is not noted is said.
    """
    from napari_wsimil.study.audit_log import Act
    from napari_wsimil.study.create_study import open_study

    with open_study(folder) as study:
        if study.read_only and not files:
            warn([f"what was tried is not noted: {study.read_only}"])
            return
        for one in tried:
            if one.changes:
                study.ledger.note(Act.WHAT_IF, why=why, model=model, **vars(one))
        for file in files:
            _note_file(study, Path(file), patient, model)
