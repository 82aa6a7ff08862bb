"""ShapeMeasures: napari's measures of drawn shapes, in µm instead of bare data units.

napari's command "Toggle shape dimensions measurement" computes perimeter and area from the
vertices, without the layer's scale, so they are off by the pixel size and its square, and
wrong for polygons that are not convex. It keeps them in two features of the layer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from napari.layers import Shapes

from napari_wsimil.gui.viewer.measures import measure, measure_words
from napari_wsimil.gui.viewer.slide_layers import in_um

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray

#: napari's features, and ours with the words for people.
_PERIMETER, _AREA, _WORDS = "_perimeter", "_area", "_measures"
_TEXT = f"{{{_WORDS}}}"


class ShapeMeasures:
    """Corrects the measures of the layers it watches whenever napari shows them."""

    def __init__(self) -> None:
        self._watched: WeakSet[Layer] = WeakSet()

    def watch(self, layer: Layer) -> None:
        """Correct the measures of a layer from now on, if it is one of shapes."""
        if not isinstance(layer, Shapes) or layer in self._watched:
            return
        self._watched.add(layer)
        correct = partial(_correct, layer)

        def switch(_: Any = None) -> None:
            """Follow napari's command, which sets the text last when it is switched on."""
            text = getattr(layer.text.string, "format", "")
            if text == _TEXT:
                return
            layer.events.set_data.disconnect(correct)
            layer.events.scale.disconnect(correct)
            if _PERIMETER in text:
                layer.events.set_data.connect(correct, position="last")  # napari's is there now
                layer.events.scale.connect(correct)
                correct()
                layer.text = _TEXT
            elif _WORDS in layer.features:
                layer.features = layer.features.drop(columns=_WORDS)

        layer.text.events.string.connect(switch)
        switch()


def _correct(layer: Shapes, _: Any = None) -> None:
    """Write the measures of all shapes of a layer into its features."""
    if _PERIMETER not in layer.features:
        return
    um, matrix = _to_um(layer)
    corners = [np.asarray(data)[:, -2:] @ matrix.T for data in layer.data]
    sizes = [measure(kind, one) for kind, one in zip(layer.shape_type, corners, strict=True)]
    layer.features[_PERIMETER] = [length for length, _ in sizes]
    layer.features[_AREA] = [area or 0.0 for _, area in sizes]
    layer.features[_WORDS] = [measure_words(*size, um) for size in sizes]
    layer.refresh_text()


def _to_um(layer: Shapes) -> tuple[bool, NDArray[np.float64]]:
    """Return whether a layer has a unit of length, and the (2, 2) data-to-µm matrix."""
    origin = np.zeros(layer.ndim)
    base = np.asarray(layer.data_to_world(origin))
    axes = [np.eye(layer.ndim)[axis] for axis in (-2, -1)]
    matrix = np.stack([(np.asarray(layer.data_to_world(one)) - base)[-2:] for one in axes], axis=1)
    factors = np.array([in_um(unit) for unit in layer.units[-2:]])
    known = bool(np.isfinite(factors).all())
    return known, matrix * factors[:, None] if known else matrix
