"""Pointer: where the mouse is on a canvas, in world units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    Cell = tuple[int, int] | None
    Take = Callable[[tuple[float, float] | None, Cell], None]


class Pointer:
    """Follows the mouse, also while it rests and the camera moves under it.

    Parameters
    ----------
    viewer
        Of the canvas.
    take
        Gets the (y, x) world position and the (row, column) of the cell in grid mode; None
        and None once the mouse has left the canvas, and in 3-D.
    """

    def __init__(self, viewer: ViewerModel, take: Take) -> None:
        self._viewer, self._take = viewer, take
        self._pixel: tuple[float, float] | None = None
        self._cell: Cell = None
        viewer.mouse_move_callbacks.append(self._move)
        viewer.mouse_drag_callbacks.append(self._drag)
        viewer.events.mouse_over_canvas.connect(self._cross)
        viewer.scene.camera.events.zoom.connect(self._follow)
        viewer.scene.camera.events.center.connect(self._follow)
        viewer.dims.events.ndisplay.connect(self._leave)

    def _move(self, _: object, event: Any) -> None:
        if self._viewer.dims.ndisplay != 2:
            self._leave()
            return
        x, y = event.pos
        self._pixel, self._cell = (float(y), float(x)), event.viewbox
        y, x = event.position[-2:]
        self._take((float(y), float(x)), self._cell)

    def _drag(self, _: object, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            self._move(None, event)
            yield

    def _cross(self, _: object = None) -> None:
        """Forget the mouse once it has left."""
        if not self._viewer.mouse_over_canvas:
            self._leave()

    def _leave(self, _: object = None) -> None:
        self._pixel = self._cell = None
        self._take(None, None)

    def _follow(self, _: object = None) -> None:
        """Renew the position: the camera moved under the mouse.

        In grid mode the position stays until the mouse moves.
        """
        if self._pixel is None or self._viewer.canvas.grid.enabled:
            return
        camera = self._viewer.scene.camera
        middle = (side / 2 for side in self._viewer.canvas.size)
        y, x = (
            center + (pixel - half) / camera.zoom
            for center, pixel, half in zip(camera.center[-2:], self._pixel, middle, strict=True)
        )
        self._take((y, x), None)
