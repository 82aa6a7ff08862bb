"""Predictions of a model for a slide or a patient.

A prediction is the output of one model for one slide: the probabilities of its classes (or
of survival), the maps that explain them, named scalars and warnings. It refers to the bag it
was computed from, so row i of every map is patch i of that bag; a map cannot be shown on
another slide by mistake.

`predict` runs the model once per slide. `predict_patient` runs it on every slide of a patient
and pools the outputs. `explore` runs a sequential model such as SASHA step by step: it yields
after each patch that the model reads at high resolution, and returns the final prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.warnings import prediction_warnings
from napari_wsimil.features.encoders.base import require_encoder
from napari_wsimil.models.protocols import SequentialModel
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel, MILOutput
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.trajectory import Look
    from napari_wsimil.progress import Work


@dataclass(frozen=True, eq=False)
class Prediction:
    """Output of a model for one slide, with its maps.

    It refers to its bag, so its maps fit no other slide.

    Attributes
    ----------
    bag
        Input of the model; row i of every map is patch i of its grid.
    card
        Card of the model.
    logits
        (C,), in the order of `card.classes`.
    probabilities
        (C,), of the outcomes in `card.outcomes`.
    explanations
        Maps, the main one first.
    scalars
        Named numbers for display.
    warnings
        Sentences that must be shown with the prediction.
    trajectory
        Steps of an episode, for sequential models.
    record
        Record behind the bag's clinical tokens, if it is known.
    branches
        `MILOutput.branches`: logits and other tensors of a model's parts.
    """

    bag: Bag
    card: Card
    logits: Tensor
    probabilities: Tensor
    explanations: tuple[Explanation, ...]
    scalars: dict[str, float]
    warnings: tuple[str, ...]
    trajectory: object | None = None
    record: Record | None = None
    branches: Mapping[str, Tensor] = field(default_factory=dict)

    def title(self, explanation: Explanation) -> str:
        """Return a map's name, with the class name if any."""
        if explanation.class_index is None:
            return explanation.name
        name = explanation.name.rpartition(":")[0]
        return f"{name}: {self.card.classes[explanation.class_index]}"


@dataclass(frozen=True, eq=False)
class PatientPrediction:
    """Output of a model for a patient, pooled over slides.

    Attributes
    ----------
    patient
        Identity of the patient.
    slides
        One prediction per bag, in the given order.
    logits, probabilities
        (C,), pooled.
    scalars
        "risk" for survival models.
    warnings
        Warnings of the slides, each once, and one more if the model was trained on this patient.
    without
        (S, C) probabilities of the patient without each slide in turn; None for a patient with
        one slide.
    """

    patient: str
    slides: tuple[Prediction, ...]
    logits: Tensor
    probabilities: Tensor
    scalars: dict[str, float]
    warnings: tuple[str, ...]
    without: Tensor | None = None

    @property
    def card(self) -> Card:
        """Card of the model."""
        return self.slides[0].card


def predict(model: MILModel, card: Card, bag: Bag, record: Record | None = None) -> Prediction:
    """Run a model in eval mode on a bag.

    Parameters
    ----------
    record
        The patient's record, parsed with the card's schema, for models that use records. Without
        a record and without tokens in the bag all groups are missing; a warning says so.

    Raises
    ------
    ValueError
        If the bag has another encoder than the card, or another feature width.
    """
    check_encoder(card, bag)
    bag = with_record(card, bag, record)
    return prediction_of(card, bag, _run(model, bag), record)


def predict_patient(
    model: MILModel, card: Card, patient: str, bags: Sequence[Bag], record: Record | None = None
) -> PatientPrediction:
    """Run a model in eval mode on all slides of a patient.

    Raises
    ------
    ValueError
        As `predict`, and if there is no bag.
    """
    for bag in bags:
        check_encoder(card, bag)
    bags = [with_record(card, bag, record) for bag in bags]
    outputs = [_run(model, bag) for bag in bags]
    logits = model.pool(outputs).logits
    slides = tuple(prediction_of(card, *pair, record) for pair in zip(bags, outputs, strict=True))
    warnings = [warning for slide in slides for warning in slide.warnings]
    if card.trained_on(patient):
        warnings.append(f'the model was trained on patient "{patient}"')
    return PatientPrediction(
        patient=patient,
        slides=slides,
        logits=logits,
        probabilities=card.chances(logits),
        scalars=_risk(card, logits),
        warnings=tuple(dict.fromkeys(warnings)),
        without=_without(model, card, outputs),
    )


@torch.inference_mode()
def _without(model: MILModel, card: Card, outputs: Sequence[MILOutput]) -> Tensor | None:
    """Return (S, C) probabilities without each slide; None for one."""
    if len(outputs) < 2:
        return None
    subsets = ([*outputs[:s], *outputs[s + 1 :]] for s in range(len(outputs)))
    return torch.stack([card.chances(model.pool(subset).logits) for subset in subsets])


@dataclass(frozen=True, eq=False, kw_only=True)
class EpisodeProgress(Progress):
    """Progress of an episode after one of its steps.

    `done` is the number of this step, counted from 1; `total` the steps of a whole episode.

    Attributes
    ----------
    model, card, bag
        Model of the episode, its card, and the slide's bag.
    looks
        Steps up to now. Later steps are appended; the first `done` belong to this progress.
    """

    model: SequentialModel
    card: Card
    bag: Bag
    looks: Sequence[Look]

    @property
    def look(self) -> Look:
        """Patch, policy entropy and resulting probabilities of this step."""
        return self.looks[self.done - 1]

    @torch.inference_mode()
    def so_far(self) -> Prediction:
        """Return the prediction after this step, however the episode continued.

        The steps are repeated without the encoder, each in about a millisecond.
        """
        output = self.model.outcome(self.bag, self.looks[: self.done])
        return prediction_of(self.card, self.bag, output)


@torch.inference_mode()
def explore(model: MILModel, card: Card, bag: Bag) -> Work[Prediction]:
    """Run a sequential model step by step.

    It returns the final prediction, equal to that of `predict`. If it is closed early, the last
    yielded step still gives the partial prediction (`so_far`).

    Parameters
    ----------
    model, card, bag
        As for `predict`; the model is put in eval mode.

    Raises
    ------
    ValueError
        As `predict`, and if the model is not sequential.
    """
    if not isinstance(model, SequentialModel):
        raise ValueError(f"{card.model} is not a sequential model, so it has no steps. Use predict")
    check_encoder(card, bag)
    bag = with_record(card, bag, None)
    model.eval()
    episode, total = model.episode(bag), model.steps(bag)
    looks: list[Look] = []
    while True:
        try:
            looks.append(next(episode))
        except StopIteration as end:
            return prediction_of(card, bag, end.value)
        yield EpisodeProgress(len(looks), total, model=model, card=card, bag=bag, looks=looks)


def with_record(card: Card, bag: Bag, record: Record | None) -> Bag:
    """Return the bag with the clinical tokens of a record.

    A given record replaces tokens of the bag. Without a record tokens of the bag are kept; if
    there are none, all groups are missing. For a model without records the bag is returned
    unchanged.
    """
    if card.record is None or (record is None and bag.clinical is not None):
        return bag
    return replace(bag, clinical=card.record.tokens(record))


@torch.inference_mode()
def _run(model: MILModel, bag: Bag) -> MILOutput:
    output: MILOutput = model.eval()(bag)
    return output


def prediction_of(
    card: Card, bag: Bag, output: MILOutput, record: Record | None = None
) -> Prediction:
    """Build a prediction from a model's output for a bag.

    Parameters
    ----------
    card
        Card of the model.
    bag
        Input of the model, with the tokens of `record`.
    output
        Output of the model.
    record
        The patient's record, if known.

    Raises
    ------
    ValueError
        If the logits are not finite.
    """
    if not torch.isfinite(output.logits).all():
        raise ValueError(
            f"logits {output.logits.tolist()} are not finite: the model's training diverged. "
            "Train it again with a lower learning rate"
        )
    return Prediction(
        bag=bag,
        card=card,
        logits=output.logits,
        probabilities=card.chances(output.logits),
        explanations=output.explanations,
        scalars=_scalars(card, output) | _risk(card, output.logits),
        warnings=prediction_warnings(card, bag, record),
        trajectory=output.trajectory,
        record=None if card.record is None else record,
        branches=output.branches,
    )


def _scalars(card: Card, output: MILOutput) -> dict[str, float]:
    """Return the model's scalars; survival models omit class-only ones."""
    scalars = output.scalars
    if card.survival is not None:
        scalars = {
            name: value for name, value in scalars.items() if name not in output.class_scalars
        }
    return {_with_class(name, card.classes): value for name, value in scalars.items()}


def _with_class(name: str, classes: Sequence[str]) -> str:
    """Replace the class index of a scalar ("phi: 2")."""
    text, colon, index = name.rpartition(": ")
    if not colon or not index.isdecimal() or int(index) >= len(classes):
        return name
    return f"{text}: {classes[int(index)]}"


def _risk(card: Card, logits: Tensor) -> dict[str, float]:
    return {} if card.survival is None else {"risk": card.survival.risk(logits).item()}


def check_encoder(card: Card, bag: Bag) -> None:
    """Raise ValueError unless the bag has the card's encoder."""
    require_encoder(bag.encoder, card.encoder)
