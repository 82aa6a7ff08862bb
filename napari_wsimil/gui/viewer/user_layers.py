"""UserLayers: layers that a user or another plugin added belong to the slide they were added on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_wsimil.gui.viewer.guards import is_slide
from napari_wsimil.gui.viewer.shape_measures import ShapeMeasures
from napari_wsimil.gui.viewer.slide_layers import in_um, units_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_wsimil.gui.viewer.layers import Layers
    from napari_wsimil.slides.slide import Slide


@dataclass(frozen=True, eq=False)
class Shelf:
    """User layers of one slide while another slide is open.

    Attributes
    ----------
    layers
        From the bottom up.
    beneath
        Those of them that lay beneath the slide.
    under, over
        By role of our layers, those that lay beneath and above it.
    selected
        Those that were selected.
    with_slide
        Whether the slide's own layer was selected too.
    mpp
        The slide's µm per level-0 pixel; None if unknown.
    """

    layers: tuple[Layer, ...]
    beneath: frozenset[Layer]
    under: dict[str, list[Layer]]
    over: dict[str, list[Layer]]
    selected: frozenset[Layer]
    with_slide: bool
    mpp: float | None


class UserLayers:
    """Puts user layers away with their slide and back with it; the objects stay the same.

    Layers that are added while no slide is open become those of the next slide.

    Parameters
    ----------
    viewer
        Its layers are put away.
    ours
        Layers that are nobody else's.
    shelves
        Where layers are kept, by the fingerprint of their slide.
    """

    def __init__(self, viewer: ViewerModel, ours: Layers, shelves: dict[str, Shelf]) -> None:
        self._viewer, self._ours, self._shelves = viewer, ours, shelves
        self._slide: Slide | None = None
        self._measures = ShapeMeasures()
        self._selected: dict[str, frozenset[Layer]] = {}
        self._insert: Callable[[int, Layer], None] = viewer.layers.insert
        viewer.layers.insert = self._adapt_and_insert

    def put_away(self, following: Slide | None) -> None:
        """Take the layers of the slide that is shown out of the viewer, for the following one."""
        layers, selection = self._present(), frozenset(self._viewer.layers.selection)
        if following is not None and following.fingerprint in self._selected:
            selection = self._selected[following.fingerprint]
        self._selected = {}
        if self._slide is None or not layers:
            return
        shelf = self._shelf(layers, self._slide, selection)
        self._shelves[self._slide.fingerprint] = shelf
        for layer in layers:
            if hasattr(layer, "mode"):
                layer.mode = "pan_zoom"  # ends an unfinished drawing
            self._viewer.layers.remove(layer)

    def bring_back(self, slide: Slide | None) -> None:
        """Show the layers of a slide whose own layer is in the viewer already."""
        self._slide = slide
        if slide is None:
            return
        for layer in self._present():
            self.take(layer)
        shelf = self._shelves.pop(slide.fingerprint, None)
        if shelf is not None:
            self._lay(shelf, slide)

    def _adapt_and_insert(self, index: int, layer: Layer) -> None:
        """Insert a layer in the slide's units; napari warns of others at once."""
        if isinstance(layer, Layer):
            self._adapt(layer)
        self._insert(index, layer)

    def _adapt(self, layer: Layer) -> None:
        if self._slide is not None and layer not in self._ours and "slide" not in layer.metadata:
            match_units(layer, self._slide)

    def take(self, layer: Layer) -> None:
        """Make a layer that was added one of the slide that is shown."""
        if layer in self._ours or self._slide is None:
            return
        if (slide := layer.metadata.get("slide")) is self._slide:
            return
        if slide is not None:
            # napari opened a slide, and selects each of its layers as it is added
            selection = frozenset(self._viewer.layers.selection) - {layer}
            self._selected.setdefault(slide.fingerprint, selection)
            return
        self._adapt(layer)
        self._measures.watch(layer)

    def _present(self) -> list[Layer]:
        return [layer for layer in self._viewer.layers if layer not in self._ours]

    def _shelf(self, layers: list[Layer], slide: Slide, selection: frozenset[Layer]) -> Shelf:
        under, over = self._ours.around()
        return Shelf(
            layers=tuple(layers),
            beneath=frozenset(under.get("slide", ())),
            under=under,
            over=over,
            selected=selection.intersection(layers),
            with_slide=self._ours.get("slide") in selection,
            mpp=slide.resolution.mpp,
        )

    def _lay(self, shelf: Shelf, slide: Slide) -> None:
        layers, own = self._viewer.layers, self._ours.get("slide")
        self._ours.expect(shelf.under, shelf.over)
        for layer in shelf.layers:
            _rescale(layer, slide, shelf.mpp)
            if is_slide(layer):  # a copy of the slide's layer, whose file was closed
                layer.data = list(slide.arrays)
            if "slide" in layer.metadata:
                layer.metadata = {**layer.metadata, "slide": slide}
            layers.insert(layers.index(own) if layer in shelf.beneath else len(layers), layer)
        if shelf.selected:
            layers.selection = {*shelf.selected, *([own] if shelf.with_slide else [])}


def match_units(layer: Layer, slide: Slide) -> None:
    """Give a layer the units of a slide, so that scale bar and cursor keep theirs.

    Lengths are converted. A layer in pixels without scale, shift or affine is taken as one of
    level-0 pixels; one with them stays where it is. On a slide of unknown pixel size nothing
    can be converted.
    """
    if not slide.resolution.known:
        return
    own, unit = np.array([in_um(one) for one in layer.units[-2:]]), units_of(slide)["units"]
    if np.isnan(own).all():
        plain = np.array_equal(layer.affine.affine_matrix, np.eye(layer.ndim + 1))
        shift, scale = layer.translate[-2:].tolist(), layer.scale[-2:].tolist()
        plain = plain and shift == [0, 0] and scale == [1, 1]
        own[:] = _world(slide) if plain else 1.0
    if np.isfinite(own).all():
        _stretch(layer, own)
        layer.units = (*layer.units[:-2], *unit)


def _rescale(layer: Layer, slide: Slide, before: float | None) -> None:
    """Keep a layer on its tissue where the pixel size of the slide was set meanwhile."""
    pixels = np.isnan([in_um(one) for one in layer.units[-2:]]).all()
    if slide.resolution.mpp != before and (pixels or before is not None):
        _stretch(layer, np.full(2, _world(slide) / (before or 1.0)))
        layer.units = (*layer.units[:-2], *units_of(slide)["units"])


def _stretch(layer: Layer, factors: Any) -> None:
    """Multiply a layer's world coordinates on the last two axes."""
    if np.array_equal(factors, np.ones(2)):
        return
    full = np.ones(layer.ndim)
    full[-2:] = factors
    affine = np.array(layer.affine.affine_matrix)
    affine[:-1, -1] *= full
    layer.scale, layer.translate = layer.scale * full, layer.translate * full
    layer.affine = affine


def _world(slide: Slide) -> float:
    return slide.resolution.mpp or 1.0
