"""Alternative interpretations of a file's coordinates, scored by tissue overlap.

Exchanged axes, centers given as corners, and coordinates shifted by one patch all give a
plausible lattice on the slide. Such errors are detected because another interpretation
covers the tissue better: the score is the overlap (intersection over union) of patches
and tissue on a thumbnail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.checks import Check, Verdict, overreach
from napari_wsimil.features.importers.base import READINGS
from napari_wsimil.features.importers.patch_layout import read_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.features.importers.patch_layout import Located
    from napari_wsimil.slides.tissue import Tissue

#: Another interpretation gives a warning if its score is higher by the first value, and by
#: the second over the square root of the number of patches: few patches overlap by chance.
MARGIN = (0.02, 0.5)
_EDGE = 1.0


def other_places(layout: Located, centered: bool) -> Mapping[str, Located]:
    """Return the layout in every other interpretation, by name.

    `centered` is True if the file's layout states patch centers.
    """
    names = [name for name in READINGS if name not in ("stated", "corners", "centers")]
    names.append("corners" if centered else "centers")
    corners, side, step = layout.corners, layout.patch_size, layout.step
    return {name: replace(layout, corners=read_places(corners, side, step, name)) for name in names}


def check_reading(
    layout: Located,
    tissue: Tissue | None,
    size: tuple[int, int] | None,
    centered: bool,
    confirmed: str,
) -> Check:
    """Check whether another interpretation covers the tissue better."""
    if confirmed:
        text = f"coordinates are read {READINGS[confirmed]}, as confirmed by the user"
        return Check("reading", None, None, Verdict.PASSED, text)
    if tissue is None or size is None or not tissue.mask.any():
        text = "no tissue to compare other interpretations of the coordinates on"
        return Check("reading", None, None, Verdict.UNTESTED, text)
    own = coverage(layout, tissue)
    scores = {
        name: coverage(at, tissue)
        for name, at in other_places(layout, centered).items()
        if overreach(at, size) <= _EDGE
    }
    best = max(scores, key=lambda name: scores[name], default="")
    least, chance = MARGIN
    doubtful = bool(best) and scores[best] > own + max(least, chance / len(layout.corners) ** 0.5)
    others = ", ".join(
        f"{READINGS[name]} {score:.2f}"
        for name, score in sorted(scores.items(), key=lambda pair: -pair[1])[:2]
    )
    text = f"overlap of patches and tissue: as stated {own:.2f}" + (f", {others}" if others else "")
    verdict = Verdict.WARNED if doubtful else Verdict.PASSED
    return Check("reading", own, scores.get(best), verdict, text)


def coverage(layout: Located, tissue: Tissue) -> float:
    """Return the intersection over union of patches and tissue."""
    height, width = tissue.mask.shape
    low = np.round(layout.corners / tissue.downsample).astype(np.int64)
    high = np.round((layout.corners + layout.patch_size) / tissue.downsample).astype(np.int64)
    (left, top), (right, bottom) = (np.clip(one, 0, (width, height)).T for one in (low, high))
    steps = np.zeros((height + 1, width + 1), dtype=np.int64)
    for rows, columns, sign in (
        (top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1),
    ):  # fmt: skip
        np.add.at(steps, (rows, columns), sign)
    covered = steps.cumsum(0).cumsum(1)[:height, :width] > 0
    union = int((covered | tissue.mask).sum())
    return float((covered & tissue.mask).sum() / union) if union else 0.0
