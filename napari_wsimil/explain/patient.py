"""Contribution of each slide to a patient's prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.explain.predict import PatientPrediction


@dataclass(frozen=True, eq=False)
class SlideShare:
    """Contribution of one slide to its patient's prediction.

    Attributes
    ----------
    own
        (C,) probabilities of this slide alone.
    change
        (C,) the patient's probabilities minus those without this slide; None for an only slide.
        Two slides with the same content each change little: leaving one out does not show the
        effect of both.
    """

    own: Tensor
    change: Tensor | None


def slide_shares(prediction: PatientPrediction) -> tuple[SlideShare, ...]:
    """Return the contribution of each slide, in their order."""
    changes = [None] * len(prediction.slides)
    if prediction.without is not None:
        changes = list(prediction.probabilities - prediction.without)
    pairs = zip(prediction.slides, changes, strict=True)
    return tuple(SlideShare(slide.probabilities, change) for slide, change in pairs)


def driver(prediction: PatientPrediction) -> int | None:
    """Return the slide that changed the prediction most.

    It is the index of the slide without which the most probable class loses most; for survival,
    the one without which the curve changes most. None if the patient has one slide, or no slide
    supports the prediction.
    """
    if prediction.without is None:
        return None
    change = prediction.probabilities - prediction.without  # (S, C)
    if prediction.card.survival is not None:
        effect = change.abs().sum(dim=1)
    else:
        effect = change[:, int(prediction.probabilities.argmax())]
    most = int(effect.argmax())
    return most if effect[most] > 0 else None
