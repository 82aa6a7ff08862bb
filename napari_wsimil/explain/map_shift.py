"""Map shift: change of a map between two predictions.

The predictions are for the same patches, for example under two clinical records. A map can
change in two ways. It can become brighter everywhere, while attention stays in place: φ_c of
PersAM multiplies the map of a whole class, and the pooling divides by the sum. Or attention
can move to other patches. The two are measured separately: the mean change compares the means
of the scores, and the total variation compares their shares, that is the scores divided by
their sum. For example, if every score doubles, the mean change is +100 % and the total
variation 0.

A signed map has a positive and a negative part, evidence for and against a class. Its shares
are divided by the sum of the magnitudes of both and keep their sign: a patch with a flipped sign
has moved from one part to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import rel_entr

from napari_wsimil.explain.color_scale import DEFAULT_TOP, scaled
from napari_wsimil.explain.statistics import top
from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.explain.color_scale import Scale
    from napari_wsimil.explain.predict import Prediction

#: Kinds of maps with shares: their numbers are never below 0, and have a sum.
PLACED = (
    ExplanationKind.ATTENTION,
    ExplanationKind.PROBABILITY,
    ExplanationKind.SIGMOID,
    ExplanationKind.AMOUNT,
)

#: Kinds of signed maps; 0 is neutral, neither for nor against.
SIGNED = (ExplanationKind.EVIDENCE, ExplanationKind.SCORE)

#: Kinds of maps with a defined map shift.
MOVABLE = (*PLACED, *SIGNED)

#: Kinds with absolute numbers, from 0 to 1.
ABSOLUTE = (ExplanationKind.PROBABILITY, ExplanationKind.SIGMOID)

#: Share of the top patches that `Movement.overlap` compares.
FIRST = 0.01

#: Ends of the color bars of differences, equal for all slides and edits: for shares in times
#: of the average share, as for attention itself; for absolute scores their whole range.
SHARE_LIMIT, LEVEL_LIMIT = DEFAULT_TOP, 1.0

_ABSENT = "one of the two maps has no value here"


@dataclass(frozen=True)
class Movement:
    """Change of a map between two predictions.

    All values are NaN if a map is 0 everywhere, and so has no shares.

    Attributes
    ----------
    brighter
        Mean change: mean after / mean before - 1, of the scores as they are; 0 for attention,
        which sums to 1. For a signed map, of the magnitudes.
    moved
        Total variation of the shares, Σ |p - q| / 2: the part of the map, 0 to 1, that moved to
        other patches or, in a signed map, changed its sign.
    distance
        Jensen-Shannon distance of the shares, the root of the divergence to base 2, 0 to 1; for a
        signed map over the shares for and against, 2 N together.
    overlap
        Part of the top 1 % of the patches that is still in the top 1 %.
    signed
        Whether the map is signed.
    """

    brighter: float
    moved: float
    distance: float
    overlap: float
    signed: bool = False


def movement(before: Explanation, after: Explanation) -> Movement:
    """Return the shift of a map between two predictions.

    Patches without a value have share 0.

    Raises
    ------
    ValueError
        If the two maps have different patches or kinds, or a kind without shares.
    """
    p, q = _shares(before, after)
    signed = before.kind in SIGNED
    if np.isnan(p).any() or np.isnan(q).any():
        return Movement(np.nan, np.nan, np.nan, np.nan, signed)
    top_before, top_after = top(before, FIRST), top(after, FIRST)
    return Movement(
        brighter=_brighter(before, after),
        moved=float(np.abs(p - q).sum() / 2),
        distance=_distance(_parts(p), _parts(q)),
        overlap=((top_before & top_after).sum() / top_before.sum()).item(),
        signed=signed,
    )


def share_difference(before: Explanation, after: Explanation) -> Explanation:
    """Return the change of each patch's share of the map.

    It is (q - p) N, of the shares p before and q after: 1 is the share of the average of N
    patches. A map that became brighter everywhere has 0 everywhere. In a signed map, more evidence
    for a class or less against it is positive.

    Parameters
    ----------
    before, after
        The same map of two predictions.

    Raises
    ------
    ValueError
        As `movement`.
    """
    p, q = _shares(before, after)
    gained = torch.from_numpy((q - p) * len(p)).float()
    unit = "signed × average" if before.kind in SIGNED else "× average"
    return _difference(after, "moved", gained, f"{unit} (after − before)", SHARE_LIMIT)


def level_difference(before: Explanation, after: Explanation) -> Explanation:
    """Return the change of each patch's absolute score.

    Parameters
    ----------
    before, after
        The same map of two predictions, of a kind in `ABSOLUTE`.

    Raises
    ------
    ValueError
        If they have different patches, or a kind without absolute numbers.
    """
    _check(before, after, ABSOLUTE)
    gained = after.per_patch() - before.per_patch()
    return _difference(after, "brighter", gained, "0 to 1 (after − before)", LEVEL_LIMIT)


def _difference(
    of: Explanation, word: str, change: torch.Tensor, unit: str, limit: float
) -> Explanation:
    """Return a map of (N,) changes, of `of`'s class."""
    stem, _, number = of.name.rpartition(":") if of.class_index is not None else (of.name, "", "")
    return Explanation(
        f"{stem}, {word}:{number}" if number else f"{stem}, {word}",
        ExplanationKind.SCORE,
        change,
        class_index=of.class_index,
        absent=_ABSENT,
        unit=unit,
        limit=limit,
    )


def _shares(
    before: Explanation, after: Explanation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) shares of both maps; NaN if all 0.

    The magnitudes of the shares sum to 1.
    """
    _check(before, after, MOVABLE)
    return _share(before), _share(after)


def _share(map_: Explanation) -> NDArray[np.float64]:
    scores = np.nan_to_num(map_.per_patch().double().numpy())
    total = np.abs(scores).sum()
    shares: NDArray[np.float64] = scores / total if total > 0 else np.full(len(scores), np.nan)
    return shares


def _parts(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (2 N,) shares, positive then negative; sum 1."""
    return np.concatenate([np.maximum(shares, 0), np.maximum(-shares, 0)])


def _distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    m = (p + q) / 2
    bits = (rel_entr(p, m).sum() + rel_entr(q, m).sum()) / 2 / np.log(2)
    return float(np.sqrt(max(bits, 0.0)))  # rounding may leave equal shares below 0


def _brighter(before: Explanation, after: Explanation) -> float:
    if before.kind is ExplanationKind.ATTENTION:
        return 0.0
    one, other = (map_.per_patch().double().abs().nanmean().item() for map_ in (before, after))
    return other / one - 1


def _check(before: Explanation, after: Explanation, kinds: tuple[ExplanationKind, ...]) -> None:
    if before.kind is not after.kind or before.kind not in kinds:
        raise ValueError(
            f'"{before.name}" is of kind {before.kind}, "{after.name}" of kind {after.kind}: '
            f"both must be of the same kind, one of {', '.join(kinds)}"
        )
    one, other = len(before.per_patch()), len(after.per_patch())
    if one != other:
        raise ValueError(f"the maps have {one} and {other} patches: they are of different slides")


NAME = "difference"


def difference(one: Prediction, index: int, other: Prediction, other_index: int) -> Explanation:
    """Return the difference of two maps, first minus second.

    Parameters
    ----------
    one, index
        Prediction with the first map, and the map's number.
    other, other_index
        The same or another prediction with the second map, and the map's number.

    Returns
    -------
    Explanation
        NaN where either map has no value.

    Raises
    ------
    ValueError
        If they have different patches or different units.
    """
    a, b = scaled(one, index), scaled(other, other_index)
    if not _same_patches(one, other):
        raise ValueError("the two maps have different patches, so they cannot be subtracted")
    if a.unit != b.unit:
        raise ValueError(
            f"{a.title} is in {a.unit}, {b.title} in {b.unit}: choose maps with the same unit"
        )
    return Explanation(
        NAME,
        ExplanationKind.SCORE,
        torch.from_numpy(a.values - b.values),
        absent=_ABSENT,
        unit=f"{a.unit}: {_name(one, other, a)} − {_name(other, one, b)}",
        limit=_limit(one.explanations[index], other.explanations[other_index]),
    )


def _limit(a: Explanation, b: Explanation) -> float | None:
    """Return the fixed color bar end of two absolute maps."""
    return LEVEL_LIMIT if a.kind in ABSOLUTE and b.kind in ABSOLUTE else None


def _name(of: Prediction, beside: Prediction, scale: Scale) -> str:
    """Return a map's title, with the model if models differ."""
    if of.card is beside.card:
        return scale.title
    weights = f" ({of.card.weights[:4]})" if of.card.model == beside.card.model else ""
    return f"{scale.title} of {of.card.model}{weights}"


def _same_patches(one: Prediction, other: Prediction) -> bool:
    if one.bag is other.bag:
        return True
    grids = one.bag.grid, other.bag.grid
    if grids[0] is None or grids[1] is None or one.bag.slide != other.bag.slide:
        return False
    same_size = grids[0].patch_size == grids[1].patch_size
    return same_size and np.array_equal(grids[0].coords, grids[1].coords)
