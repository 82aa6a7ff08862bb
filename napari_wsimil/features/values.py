"""Plausibility of feature values: NaN, constant, repeated, saturated, scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.checks import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Files are refused if more than this share of patches repeats another patch's features.
MOST_REPEATED = 0.1
#: Files above this share get a warning: a few patches of plain glass can be equal.
FEW_REPEATED = 0.01
#: Files get a warning if more than this share of values equals the largest one.
SATURATED = 0.01
#: Features longer or shorter than those of other files by this factor get a warning.
NORM_FACTOR = 5.0
#: Files of one encoder needed to compare feature lengths.
FEWEST_FILES = 3


@dataclass(frozen=True)
class Values:
    """Counts over the (N, D) features of a file.

    Attributes
    ----------
    patches
        N.
    broken, zero, repeated
        Numbers of rows with NaN or infinity, of all-zero rows, and of rows equal to an
        earlier row.
    saturated
        Share of values equal to the largest absolute value; 0 if only one value is.
    norm
        Median Euclidean length of the finite rows; 0 without any.
    """

    patches: int
    broken: int
    zero: int
    repeated: int
    saturated: float
    norm: float


def values_of(features: NDArray[np.float32]) -> Values:
    """Return the counts over (N, D) features."""
    finite = np.isfinite(features).all(axis=1)
    rows = np.ascontiguousarray(features[finite])
    texts = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    sizes = np.abs(rows)
    top = int((sizes == sizes.max()).sum()) if sizes.any() else 0
    return Values(
        patches=len(features),
        broken=int((~finite).sum()),
        zero=int((norms == 0).sum()),
        repeated=len(rows) - len(np.unique(texts)) if rows.size else 0,
        saturated=top / rows.size if top > 1 else 0.0,
        norm=float(np.median(norms)) if len(norms) else 0.0,
    )


def check_values(counts: Values) -> Check:
    """Check that features are finite, distinct and not clipped."""
    n = counts.patches
    refusals = {
        "have NaN or infinite features": counts.broken,
        "have features that are all 0": counts.zero if counts.zero == n else 0,
        "have the features of another patch": counts.repeated,
    }
    shares = {text: count / n for text, count in refusals.items() if count and n}
    limits = {"have the features of another patch": MOST_REPEATED}
    failures = [text for text, share in shares.items() if share > limits.get(text, 0)]
    worst = max(shares.values(), default=0.0)
    if failures:
        text = "; ".join(f"{refusals[one]} of {n} patches {one}" for one in failures)
        return Check("values", worst, MOST_REPEATED, Verdict.REFUSED, text)
    notes = []
    if counts.zero:
        notes.append(f"{counts.zero} of {n} patches have features that are all 0")
    if n and counts.repeated / n > FEW_REPEATED:
        notes.append(f"{counts.repeated} of {n} patches have the features of another patch")
    if counts.saturated > SATURATED:
        notes.append(f"{counts.saturated:.0%} of the values equal the largest one: clipped?")
    if notes:
        return Check("values", worst, MOST_REPEATED, Verdict.WARNED, "; ".join(notes))
    text = f"features are finite and differ between patches; median length {counts.norm:.4g}"
    return Check("values", worst, MOST_REPEATED, Verdict.PASSED, text)


def odd_norms(norms: Sequence[float]) -> list[str]:
    """Return a warning per file of one encoder.

    It is empty for files with a median feature length near the others'.
    """
    if len(norms) < FEWEST_FILES:
        return [""] * len(norms)
    middle = float(np.median(norms))
    low, high = middle / NORM_FACTOR, middle * NORM_FACTOR
    return [
        ""
        if low <= norm <= high
        else f"features have a median length of {norm:.4g}, other files of this encoder "
        f"{middle:.4g}: were they scaled, or made by another encoder?"
        for norm in norms
    ]
