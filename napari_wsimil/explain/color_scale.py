"""Color scale of a map: values, unit, limits and colors.

Raw attention sums to 1, so 0.001 is high on a slide of 10,000 patches and low on one of 200.
By default it is shown in × average: times the attention of the average patch, 1/N. A value of
10 is ten times the average. The limits are the same on every slide, so that slides can be
compared. Other kinds of maps keep their own numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from scipy.stats import rankdata

from napari_wsimil.models.base import ExplanationKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import Explanation

#: Upper limit of the color bar of attention, in times of the average patch's attention, unless
#: the model's card states another limit. Equal on every slide, so that slides can be compared.
DEFAULT_TOP = 10.0
_SEQUENTIAL, _DIVERGING = "viridis", "PuOr_r"
#: Opacity at the neutral end of the color bar, and the share of the bar at full opacity.
_FAINT, _FULL = 0.3, 0.35
_CAVEAT = {
    ExplanationKind.ATTENTION: "attention of the model, not tumor probability",
    ExplanationKind.EVIDENCE: "evidence for (+) or against (−) the class",
}


class Stretch(StrEnum):
    """How values are scaled for display; always named on screen."""

    NATURAL = "natural"  # attention: × average; other kinds: unchanged
    RAW = "raw"
    RANKS = "ranks"


@dataclass(frozen=True)
class Scale:
    """Values, limits and colors of a map for display.

    Attributes
    ----------
    title
        Name of the map.
    unit
        Unit of the values, for the color bar, e.g. "× average".
    values
        (N,) float32 in that unit.
    limits
        Ends of the color bar.
    colormap
        Name of a matplotlib colormap; perceptually uniform, safe for color-blind readers.
    caveat
        Note that must be shown with the map; may be empty.
    absent
        Text for a patch without a value.
    """

    title: str
    unit: str
    values: NDArray[np.float32]
    limits: tuple[float, float]
    colormap: str
    caveat: str = ""
    absent: str = "not examined"

    def shown(self, threshold: float) -> NDArray[np.float32]:
        """Return the values, NaN below a threshold.

        `threshold` is a share of the color bar. On a scale with signs it is the share of either
        half, so that evidence against a class stays as visible as evidence for it.
        """
        low, high = self.limits
        if threshold <= 0:
            return self.values
        strength = np.abs(self.values) / high if low < 0 else (self.values - low) / (high - low)
        out: NDArray[np.float32] = np.where(strength < threshold, np.float32(np.nan), self.values)
        return out

    def colors(self) -> NDArray[np.float64]:
        """Return (256, 4) RGBA of the color bar.

        Neutral values are transparent, so that the tissue shows.
        """
        share = np.linspace(0, 1, 256)
        rgba: NDArray[np.float64] = colormaps[self.colormap](share)
        strength = np.abs(2 * share - 1) if self.limits[0] < 0 else share
        rgba[:, 3] = np.clip(_FAINT + (1 - _FAINT) * strength / _FULL, 0, 1)
        return rgba

    def colored(self) -> NDArray[np.float64]:
        """Return (N, 4) RGBA of the patches."""
        low, high = self.limits
        rgba: NDArray[np.float64] = colormaps[self.colormap]((self.values - low) / (high - low))
        return rgba


def scaled(prediction: Prediction, map_index: int = 0, stretch: Stretch = Stretch.NATURAL) -> Scale:
    """Return the color scale of one map of a prediction.

    Parameters
    ----------
    prediction
        Prediction with the map.
    map_index
        Number of the map, from 0.
    stretch
        How attention and scores are scaled.
    """
    explanation = prediction.explanations[map_index]
    values = explanation.per_patch().numpy().astype(np.float32)
    if stretch is Stretch.RANKS and not _fixed(explanation):
        unit, values, limits = "percentile (ranks only)", _ranks(values), (0.0, 100.0)
    elif explanation.kind is ExplanationKind.ATTENTION and stretch is Stretch.NATURAL:
        unit, values = "× average", explanation.times_uniform().numpy()
        limits = (0.0, prediction.card.metrics.get("attention_top") or DEFAULT_TOP)
    else:
        unit, limits = _as_it_is(explanation, explanation.limit or nice(_top(values)))
    return Scale(
        title=prediction.title(explanation),
        unit=unit,
        values=values,
        limits=limits,
        colormap=_DIVERGING if limits[0] < 0 else _SEQUENTIAL,
        caveat=_CAVEAT.get(explanation.kind, ""),
        absent=explanation.absent,
    )


def _fixed(explanation: Explanation) -> bool:
    """Return whether a map is never stretched.

    Its limits are equal on every slide, so that slides can be compared.
    """
    return explanation.kind is ExplanationKind.SIGMOID or explanation.limit is not None


def _as_it_is(explanation: Explanation, top: float) -> tuple[str, tuple[float, float]]:
    """Return unit and limits of unstretched values, up to `top`."""
    match explanation.kind:
        case ExplanationKind.ATTENTION:
            return "raw, sums to 1", (0.0, top)
        case ExplanationKind.PROBABILITY | ExplanationKind.SIGMOID:
            return "0 to 1", (0.0, 1.0)
        case ExplanationKind.ORDER:
            return "step", (1.0, max(2.0, _top(explanation.scores.numpy())))
        case ExplanationKind.AMOUNT:
            return explanation.unit, (0.0, top)
        case ExplanationKind.EVIDENCE:
            return "share of the logit", (-top, top)
        case ExplanationKind.SCORE:
            return explanation.unit or "score", (-top, top)


def nice(top: float) -> float:
    """Round up to a round number, where color bars end.

    Round numbers are 1, 2 and 5 times powers of ten.
    """
    power = 10.0 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= top * (1 - 1e-6))


def _top(values: NDArray[np.float32]) -> float:
    """Return the largest finite magnitude; 1 if all are 0."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return percentiles 0–100: the share of patches with lower scores.

    Ties share a rank; NaN stays NaN.
    """
    known = np.count_nonzero(~np.isnan(values))
    if known == 1:
        return np.where(np.isnan(values), values, np.float32(100))
    ranks = (rankdata(values, nan_policy="omit") - 1) / (known - 1)
    percent: NDArray[np.float32] = (100 * ranks).astype(np.float32)
    return percent
