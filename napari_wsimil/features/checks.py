"""Checks of patch coordinates against the slide and its tissue."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.features.importers.patch_layout import Located
    from napari_wsimil.slides.tissue import Tissue

#: Least tissue share of a patch's area for the patch to count as tissue.
ON_TISSUE = 0.1
#: Share of tissue patches at which a file passes, and below which it is refused.
TISSUE_SHARES = (0.5, 0.1)
#: Gain in tissue share at which another interpretation of the coordinates is suggested.
BETTER = 0.2
#: Tolerance of the stride in level-0 pixels: coordinates in µm are rounded.
STEP_TOLERANCE = 1.0
#: Tolerance at the slide's edge in level-0 pixels, for the same reason.
_EDGE_TOLERANCE = 1.0


class Verdict(StrEnum):
    """Outcome of a check."""

    PASSED = "passed"
    WARNED = "warned"
    REFUSED = "refused"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Check:
    """One check of a validation report.

    Attributes
    ----------
    name
        "edges", "stride", "tissue", "number", "places", "values" or "reading".
    value, limit
        Measured value and its limit; None if there is none.
    verdict, sentence
        Outcome, and its reason in one sentence.
    """

    name: str
    value: float | None
    limit: float | None
    verdict: Verdict
    sentence: str


def check_edges(
    layout: Located, size: tuple[int, int] | None, others: Mapping[str, Located]
) -> Check:
    """Check that all patches are inside the slide (a).

    Parameters
    ----------
    size
        (width, height) of the slide in level-0 pixels; None if unknown.
    others
        Layouts by other interpretations of the coordinates, by name; the sentence names
        those that fit.
    """
    if size is None:
        return Check(
            "edges", None, None, Verdict.UNTESTED, "no slide to compare the coordinates with"
        )
    over = overreach(layout, size)
    reach = float((layout.corners + layout.patch_size).max())
    limit = float(max(size))
    if over <= _EDGE_TOLERANCE:
        text = f"all patches are inside the slide of {size[0]} × {size[1]} level-0 px"
        return Check("edges", reach, limit, Verdict.PASSED, text)
    fits = [name for name, at in others.items() if overreach(at, size) <= _EDGE_TOLERANCE]
    text = (
        f"patches extend {over:.0f} px beyond the slide of {size[0]} × {size[1]} level-0 px: "
        + (
            f"they fit if read {' or '.join(fits)}"
            if fits
            else "is the file of another slide, level or unit?"
        )
    )
    return Check("edges", reach, limit, Verdict.REFUSED, text)


def overreach(layout: Located, size: tuple[int, int]) -> float:
    """Return the overhang of patches in level-0 pixels, or 0."""
    low, high = layout.corners.min(axis=0), layout.corners.max(axis=0) + layout.patch_size
    return float(max(0.0, np.maximum(high - size, -low).max()))


def check_stride(layout: Located, stride: int | None) -> Check:
    """Check the patch stride against extent and overlap (b).

    Parameters
    ----------
    stride
        Most frequent step in level-0 pixels; None with too few patches.
    """
    if stride is None:
        text = "too few adjacent patches to measure the stride"
        return Check("stride", None, layout.step, Verdict.UNTESTED, text)
    if abs(stride - layout.step) <= STEP_TOLERANCE:
        text = f"patches are {stride} level-0 px apart, equal to extent minus overlap"
        return Check("stride", stride, layout.step, Verdict.PASSED, text)
    verdict = Verdict.WARNED if layout.sizes_confirmed else Verdict.REFUSED
    text = (
        f"patches are mostly {stride} level-0 px apart, but extent minus overlap is "
        f"{layout.step:.6g}: is a patch {stride} px wide, or are there gaps or overlaps?"
    )
    return Check("stride", stride, layout.step, verdict, text)


def check_tissue(layout: Located, tissue: Tissue | None, others: Mapping[str, Located]) -> Check:
    """Check that patches are on tissue of the thumbnail (c)."""
    good, bad = TISSUE_SHARES
    if tissue is None or not tissue.mask.any():
        why = "no slide to detect tissue on" if tissue is None else "no tissue detected"
        return Check("tissue", None, good, Verdict.UNTESTED, why)
    share = tissue_share(layout, tissue)
    better = {name: tissue_share(at, tissue) for name, at in others.items()}
    fits = [f"{n}: {s:.0%}" for n, s in better.items() if s >= max(good, share + BETTER)]
    text = f"{share:.0%} of patches are on tissue"
    if share >= good and not fits:
        return Check("tissue", share, good, Verdict.PASSED, text)
    why = f"read {', '.join(fits)}" if fits else "is the file of another slide?"
    verdict = Verdict.REFUSED if share < (good if fits else bad) else Verdict.WARNED
    limit = "" if share >= good else f", at least {good:.0%} should"
    return Check("tissue", share, good, verdict, f"{text}{limit}; {why}")


def tissue_share(layout: Located, tissue: Tissue) -> float:
    """Return the share of patches on tissue, 0 to 1.

    At least `ON_TISSUE` of a patch's area must be tissue.
    """
    coords = np.round(layout.corners).astype(np.int64)
    return float((tissue.share(coords, max(1, round(layout.patch_size))) >= ON_TISSUE).mean())


def check_number(features: int, coordinates: int | None) -> Check:
    """Check that there are as many features as coordinates (d)."""
    if coordinates is None:
        text = f"{features} features have no coordinates: maps use a placeholder grid"
        return Check("number", features, None, Verdict.WARNED, text)
    if features == coordinates:
        text = f"{features} features, as many coordinates"
        return Check("number", features, coordinates, Verdict.PASSED, text)
    text = f"{features} features for {coordinates} coordinates: different slides or runs"
    return Check("number", features, coordinates, Verdict.REFUSED, text)


def check_repeats(layout: Located) -> Check:
    """Check that no two patches have the same coordinates."""
    _, counts = np.unique(np.round(layout.corners), axis=0, return_counts=True)
    shared = int((counts - 1).sum())
    n = len(layout.corners)
    if not shared:
        return Check("places", 0, 0, Verdict.PASSED, f"{n} patches have {n} different coordinates")
    text = f"{shared} of {n} patches repeat the coordinates of another: were files joined twice?"
    return Check("places", shared, 0, Verdict.REFUSED, text)
