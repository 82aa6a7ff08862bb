"""LoadedModel: a model in memory with its card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with the card of its checkpoint.

    Attributes
    ----------
    name
        Name of the checkpoint file without its suffix.
    """

    model: MILModel
    card: Card
    name: str
