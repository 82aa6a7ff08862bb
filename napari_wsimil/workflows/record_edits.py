"""Record edits: write what-if edits of records, and exports, into a study's ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch

from napari_wsimil.explain.baseline_variability import noise
from napari_wsimil.explain.counterfactual import WhatIf, main_movement, prepare_revisions
from napari_wsimil.explain.sensitivity import sweep
from napari_wsimil.features.bag import features_digest
from napari_wsimil.progress import Progress, relabel
from napari_wsimil.study.audit_log import Act, Effect
from napari_wsimil.study.create_study import StudyError, is_study, open_study

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.clinical.field import Field
    from napari_wsimil.clinical.scenario import Scenario
    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.explain.counterfactual_cohort import Row
    from napari_wsimil.explain.map_shift import Movement
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.explain.sensitivity import FieldEffect
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.progress import Work
    from napari_wsimil.study.case import Case
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.records import Held


@dataclass(frozen=True, eq=False)
class RecordEdit:
    """An edit of a patient's record with the predictions before and after it.

    Attributes
    ----------
    case
        Patient and the record that was displayed.
    old, new
        Record before and after the edit.
    before, after
        Predictions of the model in view; None without a model.
    why
        Reason of a correction; "undo", "redo" or the name of a scenario for a what-if edit.
    """

    case: Case
    old: Record
    new: Record
    before: Prediction | None = None
    after: Prediction | None = None
    why: str = ""


@dataclass(frozen=True)
class WhatIfEdit:
    """A what-if edit as the audit log has it.

    Attributes
    ----------
    patient
        Patient whose record was edited.
    changes
        Old and new text by field.
    record, features
        SHA-256 of the edited record, and of the features of the slides; empty without a model.
    effect
        Effect of the edit on the prediction; None without a model.
    """

    patient: str
    changes: Mapping[str, tuple[str, str]]
    record: str
    features: str = ""
    effect: Effect | None = None


def text_changes(schema: ClinicalSchema, old: Record, new: Record) -> dict[str, tuple[str, str]]:
    """Return old and new text of each field that differs between two records."""
    fields = schema.by_name
    return {
        name: (fields[name].format(before), fields[name].format(after))
        for name, (before, after) in old.changes(new).items()
    }


def log_what_if(study: Study, edit: RecordEdit) -> None:
    """Write a what-if edit into the audit log, with its effect on the model in view."""
    view = _in_view(edit)
    logged = WhatIfEdit(
        edit.case.patient,
        text_changes(edit.case.schema, edit.old, edit.new),
        edit.new.digest(),
        view.get("features", ""),
        view.get("effect"),
    )
    log_edits(study, [logged], edit.why, view.get("model", ""))


def log_edits(study: Study, edits: Iterable[WhatIfEdit], why: str, model: str) -> None:
    """Write what-if edits of one model into the audit log; without a change there is no entry."""
    for edit in edits:
        if edit.changes:
            study.ledger.note(Act.WHAT_IF, why=why, model=model, **vars(edit))


def whatif_edit(schema: ClinicalSchema, patient: str, found: WhatIf) -> WhatIfEdit:
    """Return the what-if edit of the record of a patient with one slide."""
    before, after = found.before, found.after
    assert before.record is not None  # both were asked with a record
    assert after.record is not None
    return WhatIfEdit(
        patient,
        text_changes(schema, before.record, after.record),
        after.record.digest(),
        features_digest([after.bag]),
        effect_of(found.probability, [main_movement(before, after)]),
    )


def whatif_row(
    schema: ClinicalSchema, scenario: Scenario, patient: Patient, row: Row
) -> WhatIfEdit | None:
    """Return the what-if edit of a scenario, None where the model failed."""
    if row.failed or patient.record is None:
        return None
    change = {outcome: row.after[outcome] - before for outcome, before in row.before.items()}
    new = scenario.apply(schema, patient.record)
    return WhatIfEdit(
        patient.name,
        text_changes(schema, patient.record, new),
        new.digest(),
        row.features,
        effect_of(change, row.movements),
    )


def effect_of(probability: Mapping[str, float], movements: Sequence[Movement]) -> Effect:
    """Return what a change did, for the ledger; of several slides what moved farthest counts.

    Parameters
    ----------
    probability
        Change by outcome.
    movements
        Of the main map of each slide; one that lies nowhere tells nothing.
    """
    lying = [one for one in movements if not math.isnan(one.distance)]
    if not lying:
        return Effect(probability)
    farthest, stayed = max(one.distance for one in lying), min(one.overlap for one in lying)
    return Effect(probability, farthest, stayed)


def owner_of(
    study: Path | str | None,
    manifest: Path | str | None,
    source: Path | str,
    out: Path | str | None,
) -> tuple[Path | None, str]:
    """Return the study that must note what is written to `out`, if any, and whose slide it is.

    It is the one that is named, else that which is given for its records.

    Raises
    ------
    ValueError
        If one is named and nothing written, the slide is nobody's, or the study could not note
        what leaves it.
    """
    study = None if study is None else Path(study)
    manifest = None if manifest is None else Path(manifest)
    source = Path(source)
    if study is not None and out is None:
        raise ValueError(f"--study {study} is for what is written: write it with --out")
    folder = manifest if study is None and manifest and is_study(manifest) else study
    if out is None or folder is None:
        return None, ""
    return folder, _owner_in(folder, source)


def _owner_in(folder: Path, source: Path) -> str:
    with open_study(folder) as study:
        _check_notes(study)
        patient = study.manifest().owner(source)
    if patient is None:
        raise ValueError(f"{source} is no slide and no features of {folder}")
    return patient.name


def noting(manifest: Path | str, out: Path | str | None) -> Path | None:
    """Return the study that is to note what is tried on its patients, None for a manifest.

    Raises
    ------
    ValueError
        If something is to be written that the study could not note.
    """
    manifest = Path(manifest)
    if not is_study(manifest):
        return None
    if out is not None:
        with open_study(manifest) as study:
            _check_notes(study)
    return manifest


def _check_notes(study: Study) -> None:
    if study.read_only:
        raise StudyError(f"the export could not be noted: {study.read_only}")


def note_export(folder: Path | str, written: Path | str, patient: str, model: str) -> None:
    """Note in a study's ledger a file that was written, and by which model it is."""
    folder = Path(folder)
    written = Path(written)
    with open_study(folder) as study:
        _note_file(study, written, patient, model)


def _note_file(study: Study, written: Path, patient: str, model: str) -> None:
    place = written.absolute()
    study.ledger.left(Act.EXPORTED, place, patient=patient, identifying=False, model=model)


def note_whatif(
    folder: Path | str,
    edits: Sequence[WhatIfEdit],
    files: Sequence[str],
    model: str,
    why: str,
    patient: str = "",
) -> str:
    """Note what-if edits of a study's patients, and files of them, in its ledger.

    `patient` is the patient of the files, empty if they are of several. Returns why the edits
    were not noted, where the study cannot be written and no file has left it; else "".
    """
    with open_study(folder) as study:
        if study.read_only and not files:
            return f"what was tried is not noted: {study.read_only}"
        log_edits(study, edits, why, model)
        for file in files:
            _note_file(study, Path(file), patient, model)
    return ""


def correct(study: Study, edit: RecordEdit) -> Held:
    """Save an edit as a correction and return the record of the study.

    Raises
    ------
    Changed
        If somebody else changed the record since it was read.
    StudyError
        If the study cannot be written.
    """
    changes = {name: new for name, (_, new) in edit.old.changes(edit.new).items()}
    patient, version = edit.case.patient, edit.case.version
    return study.records.correct(patient, changes, edit.why, version=version, **_in_view(edit))


def with_record(case: Case, held: Held) -> Case:
    """Return a case with the record of the study."""
    return replace(case, record=held.record, version=held.version)


class _InView(TypedDict, total=False):
    model: str
    features: str
    effect: Effect


def _in_view(edit: RecordEdit) -> _InView:
    """Return the hashes of model and features in view, and the effect of an edit on them."""
    before, after = edit.before, edit.after
    if before is None or after is None:
        return {}
    moved = main_movement(before, after)
    return {
        "model": after.card.weights,
        "features": features_digest([after.bag]),
        "effect": effect_of(WhatIf(before, after, {}).probability, [moved]),
    }


def noise_job(model: LoadedModel, seen: Prediction) -> Work[Noise]:
    """Return how far the maps of a slide move for no reason."""
    work = noise(model.model, model.card, seen.bag, seen.record)
    return (yield from relabel(work, "measuring noise"))


def sweep_job(
    model: LoadedModel, case: Case, seen: Prediction, record: Record
) -> Work[tuple[FieldEffect, ...]]:
    """Return what each field of a record, changed alone, does to a model on a slide."""
    work = sweep(model.model, model.card, seen.bag, record, case.cohort)
    return (yield from relabel(work, "trying fields"))


def values_job(
    model: LoadedModel, seen: Prediction, field: Field, effect: FieldEffect, map_name: str
) -> Work[tuple[Explanation, ...]]:
    """Return a map for each value of a field, named after the value."""
    work = prepare_revisions(model.model, model.card, seen.bag)
    ready = yield from relabel(work, "preparing the slide")
    family = f"values of {field.name}"
    found = []
    for done, value in enumerate(effect.values):
        yield Progress(done, len(effect.values), f"maps of {field.name}")
        *_, answer = ready.revise(value.record, seen, torch.empty(0, dtype=torch.long))
        shown = next(one for one in answer.explanations if one.name == map_name)
        text = field.format(value.value) or "missing"
        found.append(replace(shown, name=f"{field.name} = {text}", class_index=None, family=family))
    return tuple(found)
