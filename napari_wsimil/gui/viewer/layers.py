"""Layers: those of a viewer that are ours, by what they are for, in their order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Layer

from napari_wsimil.gui.viewer.guards import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from napari_wsimil.gui.viewer.slide_layers import LayerTuple

#: From the bottom up. Layers of anyone else stay where they are.
ROLES = (
    "underlay",
    "slide",
    "tissue",
    "map",
    "fine",
    "outlines",
    "chosen",
    "path",
    "look",
    "query",
)
#: Those of lines that are as wide on screen wherever one is.
LINES = ("chosen", "path", "look", "query")
#: Screen pixels that such a line is wide, and by how much it may be off.
_WIDTH, _SLACK = 2.5, 1.3


class Layers:
    """Adds and removes our layers and touches no other.

    Parameters
    ----------
    viewer
        Whose layers these are among.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._by_role: dict[str, Layer] = {}
        self._under: dict[str, list[Layer]] = {}
        self._over: dict[str, list[Layer]] = {}
        viewer.layers.events.moved.connect(lambda _: self.expect({}, {}))

    def __contains__(self, layer: Layer) -> bool:
        return any(layer is ours for ours in self._by_role.values())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._by_role))

    def expect(self, under: dict[str, list[Layer]], over: dict[str, list[Layer]]) -> None:
        """Take the layers of others that lay under and over each role, for its next layer."""
        self._under, self._over = dict(under), dict(over)

    def around(self) -> tuple[dict[str, list[Layer]], dict[str, list[Layer]]]:
        """Return by role the layers of others under and over it, as it is or last was."""
        for role, layer in self._by_role.items():
            self._note(role, layer)
        return dict(self._under), dict(self._over)

    def _note(self, role: str, layer: Layer) -> None:
        every = list(self._viewer.layers)
        at = every.index(layer)
        self._under[role] = [one for one in every[:at] if one not in self]
        self._over[role] = [one for one in every[at + 1 :] if one not in self]

    def get(self, role: str) -> Layer | None:
        """Return the layer of a role, if there is one."""
        return self._by_role.get(role)

    def put(self, role: str, layer: LayerTuple) -> Layer:
        """Return a new layer in the place of its role, above and below our others.

        What is selected stays so, but for a slide, which is then all that is.
        """
        self.remove(role)
        selected = set(self._viewer.layers.selection)
        added = Layer.create(*layer)
        quiet(added)
        place = self._place(role)
        self._by_role[role] = added
        self._viewer.layers.insert(place, added)
        self._viewer.layers.selection = {added} if role == "slide" else selected
        return added

    def put_lines(self, role: str, lines: LayerTuple) -> Layer | None:
        """Draw lines in the layer of a role, in the one it has if there is one; none remove it.

        A layer that stays never has fewer lines than before: where it is moved or widened napari
        slices it in a thread, and a slice under way would look for those that are gone. In their
        place are copies of the last one, clear where lines have colors of their own.
        """
        data, options, _ = lines
        layer = self.get(role)
        if not len(data):
            self.remove(role)
            return None
        if layer is None:
            layer = self.put(role, lines)
            self._widen(layer)
            return layer
        missing = max(0, len(layer.data) - len(data))
        color = options["edge_color"]
        with at_once(layer), layer.events.edge_color.blocker():
            layer.data = np.concatenate([data, data[-1:].repeat(missing, axis=0)])
            if isinstance(color, np.ndarray):
                layer.edge_color = np.concatenate([color, np.zeros((missing, 4))])
        if layer.name != options["name"]:
            layer.name = options["name"]
        return layer

    def widen(self) -> None:
        """Keep lines as wide on screen as they should be, without drawing them at every step."""
        for role in LINES:
            layer = self.get(role)
            if layer is not None:
                self._widen(layer)

    def _widen(self, layer: Layer) -> None:
        wanted = _WIDTH / self._viewer.scene.camera.zoom
        if not 1 / _SLACK < layer.edge_width / wanted < _SLACK:
            layer.edge_width = wanted

    def rest(self, role: str) -> None:
        """Bring up the thumbnail of a layer that was renewed."""
        layer = self.get(role)
        if layer is not None:
            layer.refresh(data_displayed=False, extent=False, highlight=False)

    def remove(self, role: str) -> None:
        """Take a layer away, if it is there."""
        layer = self._by_role.pop(role, None)
        if layer is not None and layer in self._viewer.layers:
            selected = set(self._viewer.layers.selection) - {layer}
            self._note(role, layer)
            self._viewer.layers.remove(layer)
            self._viewer.layers.selection = selected & set(self._viewer.layers)

    def forget(self, layer: Layer) -> str | None:
        """Return the role of a layer that is gone from the viewer, which is then nobody's."""
        for role, ours in self._by_role.items():
            if ours is layer:
                del self._by_role[role]
                return role
        return None

    def _place(self, role: str) -> int:
        rank, layers = ROLES.index(role), self._viewer.layers
        below = [self._by_role[r] for r in ROLES[:rank] if r in self._by_role]
        above = [self._by_role[r] for r in ROLES[rank:] if r in self._by_role]
        below += [layer for layer in self._under.pop(role, ()) if layer in layers]
        above += [layer for layer in self._over.pop(role, ()) if layer in layers]
        if below:
            return int(max(layers.index(layer) for layer in below)) + 1
        if above:
            return int(min(layers.index(layer) for layer in above))
        return len(layers)


@contextmanager
def at_once(layer: Layer) -> Iterator[None]:
    """Let data that a layer is given meanwhile be drawn in the next frame.

    napari would slice them in a thread, as it does slides, and show the ones before in the
    colors of these until then.
    """
    with layer.events.reload.blocker():
        yield
    layer.refresh(data_displayed=False)
    layer.events.set_data()


def renew(layer: Layer, values: NDArray[np.float32]) -> None:
    """Give the image of a layer other values, to be drawn in the next frame.

    Into an image of the same size they are written, which spares napari from asking all
    layers again how far they reach. Its thumbnail in the list of layers, which would cost a
    frame of its own, stays for now: `Layers.rest` brings it up.
    """
    if layer.data.shape != values.shape:
        with at_once(layer):
            layer.data = values
        return
    layer.data[...] = values
    layer.refresh(data_displayed=False, extent=False, highlight=False, thumbnail=False)
    layer.events.set_data()
