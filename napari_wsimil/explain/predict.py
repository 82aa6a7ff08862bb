"""Prediction: what a model says of one bag, with its maps, and of a patient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.features.bag_facts import statistics_of
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

SAMPLED = 512  # rows that statistics are made of: a prediction may be one of many a second


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a slide. It carries its bag, so its maps fit no other slide.

    Attributes
    ----------
    bag
        What was asked about; row i of every map is patch i of its grid.
    card
        Of the model that was asked.
    logits
        (C,), in the order of `card.classes`.
    probabilities
        (C,), of what `card.outcomes` names.
    explanations
        The maps, the main one first.
    scalars
        Named numbers for people to read.
    warnings
        Sentences that whoever reads the prediction must see.
    trajectory
        The steps of an episode, of models that look step by step.
    record
        What the bag's clinical tokens were made of, where that was told.
    branches
        `MILOutput.branches`: logits of a model's parts, and what else they hold.
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
        """Return the name of a map, with its class's name where it is of a class."""
        if explanation.class_index is None:
            return explanation.name
        name = explanation.name.rpartition(":")[0]
        return f"{name}: {self.card.classes[explanation.class_index]}"


@dataclass(frozen=True, eq=False)
class PatientPrediction:
    """What a model says of a patient, whose slides it pools.

    Attributes
    ----------
    patient
        Identity of the patient.
    slides
        One prediction per bag, in the order given.
    logits, probabilities
        (C,), pooled.
    scalars
        "risk", for a model of survival.
    warnings
        Those of the slides, each once, and one if the model was trained on this patient.
    without
        (S, C) probabilities of the patient without each of the slides in turn; None of a
        patient who has one.
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
        """Return the card of the model that was asked."""
        return self.slides[0].card


def predict(model: MILModel, card: Card, bag: Bag, record: Record | None = None) -> Prediction:
    """Return what `model`, put in eval mode, says of `bag`.

    Parameters
    ----------
    record
        The patient's, as the card's schema parses it, for a model that reads records. If
        there is none, nor tokens in the bag, all its groups are missing, which is warned of.

    Raises
    ------
    ValueError
        If the bag was made by another encoder than the card names, or is of another width.
    """
    check_encoder(card, bag)
    bag = with_record(card, bag, record)
    return prediction_of(card, bag, _ask(model, bag), record)


def predict_patient(
    model: MILModel, card: Card, patient: str, bags: Sequence[Bag], record: Record | None = None
) -> PatientPrediction:
    """Return what `model`, put in eval mode, says of a patient with one bag per slide.

    Raises
    ------
    ValueError
        As `predict`, and if there is no bag.
    """
    for bag in bags:
        check_encoder(card, bag)
    bags = [with_record(card, bag, record) for bag in bags]
    outputs = [_ask(model, bag) for bag in bags]
    logits = model.pool(outputs).logits
    slides = tuple(prediction_of(card, *pair, record) for pair in zip(bags, outputs, strict=True))
    warnings = [warning for slide in slides for warning in slide.warnings]
    if card.trained_on(patient):
        warnings.append(f'patient "{patient}" was among those the model was trained on')
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
    if len(outputs) < 2:
        return None
    left = ([*outputs[:s], *outputs[s + 1 :]] for s in range(len(outputs)))
    return torch.stack([card.chances(model.pool(some).logits) for some in left])


@dataclass(frozen=True, eq=False, kw_only=True)
class EpisodeProgress(Progress):
    """Progress of an episode after one of its steps.

    `done` is the number of this step, counted from 1; `total` the steps of a whole episode.

    Attributes
    ----------
    model, card, bag
        The model of the episode, and the slide's bag.
    looks
        Steps so far. Later ones are appended; the first `done` belong to this progress.
    """

    model: SequentialModel
    card: Card
    bag: Bag
    looks: Sequence[Look]

    @property
    def look(self) -> Look:
        """Return this look: its patch, the policy's entropy, the probabilities after it."""
        return self.looks[self.done - 1]

    @torch.inference_mode()
    def so_far(self) -> Prediction:
        """Return what the model says after this look, whatever came of the episode since.

        The looks are done over again without the encoder, each in about a millisecond.
        """
        output = self.model.outcome(self.bag, self.looks[: self.done])
        return prediction_of(self.card, self.bag, output)


@torch.inference_mode()
def explore(model: MILModel, card: Card, bag: Bag) -> Work[Prediction]:
    """Yield each look of a model that looks step by step; return what it says in the end.

    The end is what `predict` returns. Closed before, the last step yielded still tells what
    was seen so far.

    Parameters
    ----------
    model, card, bag
        As for `predict`; the model is put in eval mode.

    Raises
    ------
    ValueError
        As `predict`, and if the model does not look step by step.
    """
    if not isinstance(model, SequentialModel):
        raise ValueError(f"{card.model} does not look step by step: it says all at once")
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
    """Return the bag with the tokens of a record, all groups missing if there is none.

    Tokens that the bag has give way to a record, not to none; for a model that reads no
    records the bag is returned as it is.
    """
    if card.record is None or (record is None and bag.clinical is not None):
        return bag
    return replace(bag, clinical=card.record.tokens(record))


@torch.inference_mode()
def _ask(model: MILModel, bag: Bag) -> MILOutput:
    output: MILOutput = model.eval()(bag)
    return output


def prediction_of(
    card: Card, bag: Bag, output: MILOutput, record: Record | None = None
) -> Prediction:
    """Return what a model with this card said, in `output`, of a bag with a record's tokens.

    Raises
    ------
    ValueError
        If the logits are not finite.
    """
    if not torch.isfinite(output.logits).all():
        raise ValueError(f"the model answers {output.logits.tolist()}: its training diverged")
    return Prediction(
        bag=bag,
        card=card,
        logits=output.logits,
        probabilities=card.chances(output.logits),
        explanations=output.explanations,
        scalars=_scalars(card, output) | _risk(card, output.logits),
        warnings=(*card.warnings, *_warnings(card, bag), *_record_warnings(card, record)),
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
    """Return a scalar's name with the class itself in place of its index, as in "phi: 2"."""
    text, colon, index = name.rpartition(": ")
    if not colon or not index.isdecimal() or int(index) >= len(classes):
        return name
    return f"{text}: {classes[int(index)]}"


def _risk(card: Card, logits: Tensor) -> dict[str, float]:
    return {} if card.survival is None else {"risk": card.survival.risk(logits).item()}


def check_encoder(card: Card, bag: Bag) -> None:
    """Raise ValueError if a bag was made by another encoder than the card names."""
    require_encoder(bag.encoder, card.encoder)


def _warnings(card: Card, bag: Bag) -> list[str]:
    found = []
    if card.synthetic and not bag.synthetic:
        found.append("the model was trained on synthetic slides, this slide is real")
    if bag.synthetic and not card.synthetic:
        found.append("the model was trained on real slides, this slide is synthetic")
    if card.record is not None and (bag.clinical is None or not bag.clinical.present.any()):
        found.append("the model reads a clinical record, here all of it is missing")
    return [
        *found,
        *_reading_warnings(card, bag),
        *_scale_warnings(card, bag),
        *_feature_warnings(card, bag),
    ]


def _reading_warnings(card: Card, bag: Bag) -> list[str]:
    """Return how features differ from those made now, and from those the model learned from."""
    caveat = bag.reading.caveat
    kinds = [kind for version in card.readers for kind in bag.reading.changed(version) or ()]
    if not kinds:
        return [caveat] if caveat else []
    named = " and ".join(sorted(set(kinds)))
    return [
        *([caveat] if caveat else []),
        f"the model learned from an earlier or later reader version, which reads the {named} of "
        "this slide differently: train it again on features extracted now",
    ]


def _record_warnings(card: Card, record: Record | None) -> list[str]:
    if card.record is None or record is None:
        return []
    return [card.record.remark(name, record[name]) for name in card.record.unseen(record)]


def _scale_warnings(card: Card, bag: Bag) -> list[str]:
    if bag.grid is None or bag.grid.made_up or card.mpp is None:
        return []
    found = []
    if bag.grid.mpp is None:
        found.append(f"the slide's µm per pixel is unknown, the model learned at {card.mpp:g}")
    elif not card.admits_mpp(bag.grid.mpp):
        found.append(
            f"patches were seen at {bag.grid.mpp:g} µm per pixel, the model learned at {card.mpp:g}"
        )
    if card.pixels is not None and not card.admits_pixels(bag.grid.pixels):
        found.append(
            f"patches are {bag.grid.pixels} pixels wide, the model learned on {card.pixels}"
        )
    return found


def _feature_warnings(card: Card, bag: Bag) -> tuple[str, ...]:
    """Return how far the features are from those of training, where the card has these."""
    if card.features is None or not len(bag):
        return ()
    return card.features.remarks(*statistics_of(bag.features, SAMPLED), len(bag))
