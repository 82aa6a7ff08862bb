"""Reading: what the known cells of one column mean, as values of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.field import Kind, Value


@dataclass(frozen=True)
class Reading:
    """The values of one kind that the cells of a column are.

    Attributes
    ----------
    kind
        Their kind.
    values
        By cell; a cell that is not of this kind is not in it.
    levels
        The categories, in their order.
    unit
        Of numbers.
    remarks
        What was done to the cells, for people.
    """

    kind: Kind
    values: Mapping[str, Value]
    levels: tuple[str, ...] = ()
    unit: str = ""
    remarks: tuple[str, ...] = ()
