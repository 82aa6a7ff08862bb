"""Display: how a prediction is shown; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_wsimil.explain.color_scale import Stretch


@dataclass(frozen=True)
class Display:
    """How a prediction is shown.

    Attributes
    ----------
    map_index
        Which of the maps of `Pane.shown`.
    stretch
        How its numbers are stretched.
    opacity
        0–1.
    threshold
        0–1: the share of the color scale below which a patch is left clear.
    smooth
        Whether colors run from patch to patch, which is for the eye alone and said so.
    outlined
        Whether choices of patches or regions are drawn as outlines.
    visible
        False while the map is hidden.
    """

    map_index: int = 0
    stretch: Stretch = Stretch.NATURAL
    opacity: float = 0.6
    threshold: float = 0.0
    smooth: bool = False
    outlined: bool = True
    visible: bool = True

    def of(self, map_index: int) -> Display:
        """Return the same display of another map."""
        return replace(self, map_index=map_index)
