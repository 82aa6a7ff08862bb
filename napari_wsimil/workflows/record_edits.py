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
    from collections.abc import Mapping, Sequence

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
    from napari_wsimil.progress import Work
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.records import Held
    from napari_wsimil.workflows.pipeline import LoadedModel
    from napari_wsimil.workflows.study import Case


@dataclass(frozen=True)
class WhatIfEdit:
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


def tried_of(schema: ClinicalSchema, patient: str, found: WhatIf) -> WhatIfEdit:
    """Return what was tried on the record of a patient with one slide."""
    before, after = found.before, found.after
    assert before.record is not None  # both were asked with a record
    assert after.record is not None
    effect = effect_of(found.probability, [main_movement(before, after)])
    pair = before.record, after.record
    return _tried(schema, patient, pair, features_digest([after.bag]), effect)


def tried_row(
    schema: ClinicalSchema, scenario: Scenario, patient: Patient, row: Row
) -> WhatIfEdit | None:
    """Return what a scenario tried on a patient's record, None where the model did not answer."""
    if row.failed or patient.record is None:
        return None
    change = {outcome: row.after[outcome] - before for outcome, before in row.before.items()}
    pair = patient.record, scenario.apply(schema, patient.record)
    return _tried(schema, patient.name, pair, row.features, effect_of(change, row.movements))


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


def _tried(
    schema: ClinicalSchema, patient: str, pair: tuple[Record, Record], features: str, effect: Effect
) -> WhatIfEdit:
    fields = schema.by_name
    changes = {
        name: (fields[name].format(old), fields[name].format(new))
        for name, (old, new) in pair[0].changes(pair[1]).items()
    }
    return WhatIfEdit(patient, changes, pair[1].digest(), features, effect)


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
    tried: Sequence[WhatIfEdit],
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
        for one in tried:
            if one.changes:
                study.ledger.note(Act.WHAT_IF, why=why, model=model, **vars(one))
        for file in files:
            _note_file(study, Path(file), patient, model)
    return ""


@dataclass(frozen=True, eq=False)
class Tried:
    """An edit that came to rest.

    Attributes
    ----------
    case
        Whose record.
    old, new
        The record before and after the edit.
    before, after
        What the model in view said of them; None where there is no model.
    why
        What it was, beside an edit: "undo", "redo", a scenario's name.
    """

    case: Case
    old: Record
    new: Record
    before: Prediction | None = None
    after: Prediction | None = None
    why: str = ""


def note_tried(study: Study, tried: Tried) -> None:
    """Write an edit that changed nothing into the ledger, with what it did to the model in view."""
    schema = tried.case.schema.by_name
    changes = {
        name: (schema[name].format(old), schema[name].format(new))
        for name, (old, new) in tried.old.changes(tried.new).items()
    }
    if changes:
        study.ledger.note(
            Act.WHAT_IF,
            patient=tried.case.patient,
            changes=changes,
            why=tried.why,
            record=tried.new.digest(),
            **_in_view(tried),
        )


def correct(study: Study, tried: Tried) -> Case:
    """Write an edit into the study, for its reason, and return the case as it is then.

    Raises
    ------
    Changed
        If somebody else changed the record since it was read.
    StudyError
        If the study cannot be written.
    """
    changes = {name: new for name, (_, new) in tried.old.changes(tried.new).items()}
    patient, version = tried.case.patient, tried.case.version
    held = study.records.correct(patient, changes, tried.why, version=version, **_in_view(tried))
    return kept(tried.case, held)


def kept(case: Case, held: Held) -> Case:
    """Return a case with the record as the study has it now."""
    return replace(case, record=held.record, version=held.version)


class _InView(TypedDict, total=False):
    model: str
    features: str
    effect: Effect


def _in_view(tried: Tried) -> _InView:
    """Return the hashes of model and features in view, and what the edit did to them."""
    before, after = tried.before, tried.after
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
