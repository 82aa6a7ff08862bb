"""Patient: which of a patient's slides drove the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.explain.predict import PatientPrediction


@dataclass(frozen=True, eq=False)
class SlideShare:
    """What one slide has to do with its patient's answer.

    Attributes
    ----------
    own
        (C,) probabilities of this slide alone.
    change
        (C,) the patient's probabilities less those without this slide; None of an only
        slide. Two slides that say the same each change little: leaving one out does not
        tell what both do.
    """

    own: Tensor
    change: Tensor | None


def slide_shares(found: PatientPrediction) -> tuple[SlideShare, ...]:
    """Return the share of each slide, in the order of the patient's slides."""
    changes = [None] * len(found.slides)
    if found.without is not None:
        changes = list(found.probabilities - found.without)
    pairs = zip(found.slides, changes, strict=True)
    return tuple(SlideShare(slide.probabilities, change) for slide, change in pairs)


def driver(found: PatientPrediction) -> int | None:
    """Return which slide drove the patient, None if there is one or none speaks for the answer.

    It is the one without which the most probable class loses most; for survival the one
    without which the curve changes most.
    """
    if found.without is None:
        return None
    change = found.probabilities - found.without  # (S, C)
    if found.card.survival is not None:
        moved = change.abs().sum(dim=1)
    else:
        moved = change[:, int(found.probabilities.argmax())]
    most = int(moved.argmax())
    return most if moved[most] > 0 else None
