"""Movement: how far a map moved between two answers, apart from how much brighter it became.

φ_c of PersAM multiplies the map of a whole class, while the pooling divides by the sum: a map
can redden everywhere and attention stay where it is. So the level of a map, its mean as drawn,
is told apart from where it lies, its scores as shares of their sum.

A signed map has two parts, for and against. Its shares are those of both together, of the sum
of its magnitudes, and keep their sign: what turns its sign has moved from one part to the other.
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

#: Kinds of maps that lie somewhere: their numbers are never below 0, and have a sum.
PLACED = (
    ExplanationKind.ATTENTION,
    ExplanationKind.PROBABILITY,
    ExplanationKind.SIGMOID,
    ExplanationKind.AMOUNT,
)

#: Kinds of signed maps, whose 0 is neither for nor against.
SIGNED = (ExplanationKind.EVIDENCE, ExplanationKind.SCORE)

#: Kinds of maps that can move.
MOVABLE = (*PLACED, *SIGNED)

#: Kinds whose numbers are absolute, from 0 to 1.
ABSOLUTE = (ExplanationKind.PROBABILITY, ExplanationKind.SIGMOID)

#: Share of the patches, those a map ranks first, whose staying `Movement.overlap` tells.
FIRST = 0.01

#: Where the color bars of differences end, on every slide and for every edit: of shares in
#: times of the even share, as attention itself is drawn; of absolute scores their whole range.
SHARE_LIMIT, LEVEL_LIMIT = DEFAULT_TOP, 1.0

_ABSENT = "one of the two maps says nothing here"


@dataclass(frozen=True)
class Movement:
    """How a map differs between two answers about the same patches.

    All are NaN where a map is 0 everywhere, and so lies nowhere.

    Attributes
    ----------
    brighter
        Mean after / mean before - 1, of the scores as they are; 0 of attention, which sums to 1.
        Of a signed map of their magnitudes: how much stronger it is.
    moved
        Total variation of the shares, Σ |p - q| / 2: what part of the map, 0 to 1, lies elsewhere
        or, of a signed map, has turned its sign.
    distance
        Jensen-Shannon distance of the shares, the root of the divergence to base 2, 0 to 1; of a
        signed map over the shares for and against, 2 N together.
    overlap
        What part of the first 1 % of the patches is still among the first 1 %.
    signed
        Whether the map is signed.
    """

    brighter: float
    moved: float
    distance: float
    overlap: float
    signed: bool = False


def movement(before: Explanation, after: Explanation) -> Movement:
    """Return how far a map moved; a patch that it says nothing of has no share.

    Raises
    ------
    ValueError
        If the two are of different patches or kinds, or of a kind that has no shares.
    """
    p, q = _shares(before, after)
    signed = before.kind in SIGNED
    if np.isnan(p).any() or np.isnan(q).any():
        return Movement(np.nan, np.nan, np.nan, np.nan, signed)
    was, is_ = top(before, FIRST), top(after, FIRST)
    return Movement(
        brighter=_brighter(before, after),
        moved=float(np.abs(p - q).sum() / 2),
        distance=_distance(_parts(p), _parts(q)),
        overlap=((was & is_).sum() / was.sum()).item(),
        signed=signed,
    )


def share_difference(before: Explanation, after: Explanation) -> Explanation:
    """Return where a map gained and lost, (q - p) N of its shares p before and q after.

    1 is the share that each of N patches would have of an even map. What is brighter all over
    is 0 all over. Of a signed map what is more for, or less against, is gained.

    Parameters
    ----------
    before, after
        The same map of two answers.

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
    """Return how much brighter each patch is, absolute scores after less those before.

    Parameters
    ----------
    before, after
        The same map of two answers, of a kind in `ABSOLUTE`.

    Raises
    ------
    ValueError
        If they are of different patches, or of a kind whose numbers are not absolute.
    """
    _check(before, after, ABSOLUTE)
    gained = after.per_patch() - before.per_patch()
    return _difference(after, "brighter", gained, "0 to 1 (after − before)", LEVEL_LIMIT)


def _difference(
    of: Explanation, word: str, gained: torch.Tensor, unit: str, limit: float
) -> Explanation:
    """Return the map of what each patch gained, of the class that the map `of` is of."""
    stem, _, number = of.name.rpartition(":") if of.class_index is not None else (of.name, "", "")
    return Explanation(
        f"{stem}, {word}:{number}" if number else f"{stem}, {word}",
        ExplanationKind.SCORE,
        gained,
        class_index=of.class_index,
        absent=_ABSENT,
        unit=unit,
        limit=limit,
    )


def _shares(
    before: Explanation, after: Explanation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) shares of both, whose magnitudes sum to 1; NaN of a map of 0 everywhere."""
    _check(before, after, MOVABLE)
    return _share(before), _share(after)


def _share(map_: Explanation) -> NDArray[np.float64]:
    scores = np.nan_to_num(map_.per_patch().double().numpy())
    total = np.abs(scores).sum()
    shares: NDArray[np.float64] = scores / total if total > 0 else np.full(len(scores), np.nan)
    return shares


def _parts(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (2 N,) shares of the part for and of the part against, which sum to 1."""
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
            f'"{before.name}" is of kind {before.kind}, "{after.name}" of {after.kind}: '
            f"both must be of one of {', '.join(kinds)}"
        )
    one, other = len(before.per_patch()), len(after.per_patch())
    if one != other:
        raise ValueError(f"{one} patches before and {other} after: the maps are of different bags")


NAME = "difference"


def difference(one: Prediction, index: int, other: Prediction, other_index: int) -> Explanation:
    """Return map `index` of a prediction less a map of another, or the same, prediction.

    Where either map says nothing the difference says nothing.

    Raises
    ------
    ValueError
        If they are of different patches, or have different units.
    """
    a, b = scaled(one, index), scaled(other, other_index)
    if not _same_patches(one, other):
        raise ValueError("the two maps are of different patches: they have no difference")
    if a.unit != b.unit:
        raise ValueError(
            f"{a.title} is in {a.unit}, {b.title} in {b.unit}: there is no difference between them"
        )
    return Explanation(
        NAME,
        ExplanationKind.SCORE,
        torch.from_numpy(a.values - b.values),
        absent="one of the two maps says nothing here",
        unit=f"{a.unit}: {_name(one, other, a)} less {_name(other, one, b)}",
        limit=_limit(one.explanations[index], other.explanations[other_index]),
    )


def _limit(a: Explanation, b: Explanation) -> float | None:
    """Return the fixed end of the color bar where both maps are absolute."""
    return LEVEL_LIMIT if a.kind in ABSOLUTE and b.kind in ABSOLUTE else None


def _name(of: Prediction, beside: Prediction, scale: Scale) -> str:
    """Return what a map is called, with its model where the two are of different ones."""
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
