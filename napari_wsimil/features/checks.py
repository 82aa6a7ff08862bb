"""Check: whether patches belong where a file says they do, one sentence each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.features.importers.patch_layout import Located
    from napari_wsimil.slides.tissue import Tissue

#: A patch is on tissue from this share of its area on, …
ON_TISSUE = 0.1
#: … and a file passes where this share of its patches is; below the second it is refused.
TISSUE_SHARES = (0.5, 0.1)
#: Another way to read the places is named where so many more patches would lie on tissue.
BETTER = 0.2
#: Steps may differ by this many level-0 pixels: places in µm are rounded.
STEP_TOLERANCE = 1.0
#: Places may reach this far over the edge, for the same reason.
_EDGE_TOLERANCE = 1.0


class Verdict(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    WARNED = "warned"
    REFUSED = "refused"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Check:
    """One check of a passport.

    Attributes
    ----------
    name
        "edges", "stride", "tissue", "number", "places", "values" or "reading".
    value, limit
        What was found and what it is held against; None where nothing was.
    verdict, sentence
        What it came to, and why, for people.
    """

    name: str
    value: float | None
    limit: float | None
    verdict: Verdict
    sentence: str


def check_edges(
    where: Located, size: tuple[int, int] | None, others: Mapping[str, Located]
) -> Check:
    """Return whether all patches lie on the slide (a).

    Parameters
    ----------
    size
        (width, height) of the slide in level-0 pixels, if it is known.
    others
        The places read in other ways, by their names: those that would fit are named.
    """
    if size is None:
        return Check("edges", None, None, Verdict.UNTESTED, "no slide to hold the places against")
    over = overreach(where, size)
    reach = float((where.corners + where.patch_size).max())
    limit = float(max(size))
    if over <= _EDGE_TOLERANCE:
        text = f"all patches lie within {size[0]} × {size[1]} level-0 px"
        return Check("edges", reach, limit, Verdict.PASSED, text)
    fits = [name for name, at in others.items() if overreach(at, size) <= _EDGE_TOLERANCE]
    text = f"patches reach {over:.0f} px over the edge of {size[0]} × {size[1]} level-0 px: " + (
        f"they fit if read {' or '.join(fits)}" if fits else "of another slide, level or unit?"
    )
    return Check("edges", reach, limit, Verdict.REFUSED, text)


def overreach(where: Located, size: tuple[int, int]) -> float:
    """Return by how many pixels patches leave the slide, 0 if they do not."""
    low, high = where.corners.min(axis=0), where.corners.max(axis=0) + where.patch_size
    return float(max(0.0, np.maximum(high - size, -low).max()))


def check_stride(where: Located, stride: int | None) -> Check:
    """Return whether patches lie as far apart as their size and overlap say (b).

    Parameters
    ----------
    stride
        The most frequent step in level-0 pixels; None where too few patches tell it.
    """
    if stride is None:
        text = "too few patches lie side by side to tell the step between them"
        return Check("stride", None, where.step, Verdict.UNTESTED, text)
    if abs(stride - where.step) <= STEP_TOLERANCE:
        text = f"patches lie {stride} level-0 px apart, as extent less overlap says"
        return Check("stride", stride, where.step, Verdict.PASSED, text)
    verdict = Verdict.WARNED if where.sizes_confirmed else Verdict.REFUSED
    text = (
        f"patches mostly lie {stride} level-0 px apart, extent less overlap is "
        f"{where.step:.6g}: is a patch {stride} px large, or are there gaps or overlaps?"
    )
    return Check("stride", stride, where.step, verdict, text)


def check_tissue(where: Located, tissue: Tissue | None, others: Mapping[str, Located]) -> Check:
    """Return whether patches lie on the tissue of the slide's thumbnail (c)."""
    good, bad = TISSUE_SHARES
    if tissue is None or not tissue.mask.any():
        why = "no slide to look for tissue on" if tissue is None else "no tissue found to lie on"
        return Check("tissue", None, good, Verdict.UNTESTED, why)
    share = tissue_share(where, tissue)
    better = {name: tissue_share(at, tissue) for name, at in others.items()}
    fits = [f"{n}: {s:.0%}" for n, s in better.items() if s >= max(good, share + BETTER)]
    text = f"{share:.0%} of patches lie on tissue"
    if share >= good and not fits:
        return Check("tissue", share, good, Verdict.PASSED, text)
    why = f"read {', '.join(fits)}" if fits else "are they of another slide?"
    verdict = Verdict.REFUSED if share < (good if fits else bad) else Verdict.WARNED
    limit = "" if share >= good else f", at least {good:.0%} should"
    return Check("tissue", share, good, verdict, f"{text}{limit}; {why}")


def tissue_share(where: Located, tissue: Tissue) -> float:
    """Return the share of patches of which at least `ON_TISSUE` is tissue, 0 to 1."""
    coords = np.round(where.corners).astype(np.int64)
    return float((tissue.share(coords, max(1, round(where.patch_size))) >= ON_TISSUE).mean())


def check_number(features: int, places: int | None) -> Check:
    """Return whether there are as many features as places (d)."""
    if places is None:
        text = f"{features} features have no places: maps can only be shown on a made-up grid"
        return Check("number", features, None, Verdict.WARNED, text)
    if features == places:
        return Check(
            "number", features, places, Verdict.PASSED, f"{features} features, as many places"
        )
    text = f"{features} features for {places} places: not of the same slide or run"
    return Check("number", features, places, Verdict.REFUSED, text)


def check_repeats(where: Located) -> Check:
    """Return whether no two patches have the same place."""
    _, counts = np.unique(np.round(where.corners), axis=0, return_counts=True)
    shared = int((counts - 1).sum())
    n = len(where.corners)
    if not shared:
        return Check("places", 0, 0, Verdict.PASSED, f"{n} patches have {n} places")
    text = f"{shared} of {n} patches have the place of another: were files joined twice?"
    return Check("places", shared, 0, Verdict.REFUSED, text)
