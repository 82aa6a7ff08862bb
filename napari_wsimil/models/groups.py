"""Groups: the widths of a record's tokens, as a model was made for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.features.bag import Bag


def parse_groups(groups: str) -> tuple[int, ...]:
    """Return the widths F_g of the tokens of a record, of a text such as "18,10".

    Raises
    ------
    ValueError
        If the text is no list of positive whole numbers.
    """
    try:
        widths = tuple(int(width) for width in groups.split(","))
    except ValueError as error:
        raise ValueError(f'groups "{groups}" are not widths such as "18,10"') from error
    if min(widths) < 1:
        raise ValueError(f'groups "{groups}" have a width below 1')
    return widths


def check_record(bag: Bag, widths: tuple[int, ...]) -> None:
    """Raise ValueError if the bag has a record of other widths, or not finite where present."""
    if bag.clinical is None:
        return
    found = tuple(len(value) for value in bag.clinical.values)
    if found != widths:
        raise ValueError(
            f"the record has groups of {_listed(found)} numbers, this model takes "
            f"{_listed(widths)}: it was trained with another clinical schema"
        )
    if len(bag.clinical.present) != len(widths):
        raise ValueError(
            f"the record says of {len(bag.clinical.present)} groups whether they are present, "
            f"it has {len(widths)}"
        )
    known = zip(bag.clinical.values, bag.clinical.present.tolist(), strict=True)
    broken = [i for i, (v, here) in enumerate(known, 1) if here and not v.isfinite().all()]
    if broken:
        raise ValueError(f"group {_listed(tuple(broken))} of the record has NaN or infinite values")


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(map(str, widths)) or "no"
