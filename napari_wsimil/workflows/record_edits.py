"""Record work: what is written of an edited record, and what is made of it; knows no Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

import torch

from napari_wsimil.explain.baseline_variability import noise
from napari_wsimil.explain.counterfactual import WhatIf, main_movement, prepare_revisions
from napari_wsimil.explain.sensitivity import sweep
from napari_wsimil.features.bag import features_digest
from napari_wsimil.study.audit_log import Act, Effect
from napari_wsimil.workflows.pipeline import Step, stepwise

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from napari_wsimil.clinical.field import Field
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.explain.map_shift import Movement
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.explain.sensitivity import FieldEffect
    from napari_wsimil.gui.case import Case
    from napari_wsimil.gui.session import LoadedModel
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.records import Held


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


def noise_job(model: LoadedModel, seen: Prediction) -> Generator[Step, None, Noise]:
    """Return how far the maps of a slide move for no reason."""
    work = noise(model.model, model.card, seen.bag, seen.record)
    return (yield from stepwise("measuring noise", work))


def sweep_job(
    model: LoadedModel, case: Case, seen: Prediction, record: Record
) -> Generator[Step, None, tuple[FieldEffect, ...]]:
    """Return what each field of a record, changed alone, does to a model on a slide."""
    work = sweep(model.model, model.card, seen.bag, record, case.cohort)
    return (yield from stepwise("trying fields", work))


def values_job(
    model: LoadedModel, seen: Prediction, field: Field, effect: FieldEffect, map_name: str
) -> Generator[Step, None, tuple[Explanation, ...]]:
    """Return a map for each value of a field, named after the value."""
    work = prepare_revisions(model.model, model.card, seen.bag)
    ready = yield from stepwise("preparing the slide", work)
    family = f"values of {field.name}"
    found = []
    for done, value in enumerate(effect.values):
        yield Step(f"maps of {field.name}", done, len(effect.values))
        *_, answer = ready.revise(value.record, seen, torch.empty(0, dtype=torch.long))
        shown = next(one for one in answer.explanations if one.name == map_name)
        text = field.format(value.value) or "missing"
        found.append(replace(shown, name=f"{field.name} = {text}", class_index=None, family=family))
    return tuple(found)
