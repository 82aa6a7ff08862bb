"""Screen: a window with a camera to move and a clock that stops when the picture is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QOpenGLWidget

from napari_wsimil.gui.window import open_window, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image, Layer

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.slides.slide import Slide

#: Screen pixels that a step of a pan goes.
_STEP = 60
Place = tuple[int, int]


class Screen:
    """Our window, to look at a slide of `mpp` µm per pixel."""

    def __init__(self, mpp: float) -> None:
        self.mpp = mpp
        self.window = open_window()
        self._swaps: list[float] = []
        self.maps = 0
        self.window.presenter.pane.prediction_state.events.prediction.connect(self._count_map)
        (self._canvas,) = self.window.slide_dock.window().findChildren(QOpenGLWidget)
        self._canvas.frameSwapped.connect(self._count)
        self._next_frame()

    @property
    def frames(self) -> int:
        """How many frames came to the screen."""
        return len(self._swaps)

    @property
    def image(self) -> Image:
        """The layer that shows the slide's levels."""
        return next(one for one in self.window.viewer.layers if one.multiscale)

    @property
    def loaded(self) -> bool:
        return bool(self.image.loaded)

    def open(self, path: Path) -> float:
        """Open a slide; return the seconds until its first whole picture is on screen."""
        start = time.perf_counter()
        self.window.slide_dock.open(path)
        layers = self.window.viewer.layers
        wait_until(lambda: any(one.multiscale and one.loaded for one in layers))
        self._next_frame()
        spent = time.perf_counter() - start
        wait_until(lambda: not self.window.busy)
        return spent

    def open_plain(self, path: Path) -> None:
        """Show a slide as dask arrays over tiffslide's zarr levels, without our code."""
        import dask.array as da
        import tiffslide

        levels = tiffslide.TiffSlide(path).zarr_group
        data = [da.from_zarr(levels[str(i)]) for i in range(len(levels))]
        self.window.viewer.add_image(
            data, rgb=True, cache=False, contrast_limits=(0, 255), scale=(self.mpp, self.mpp)
        )
        wait_until(lambda: self.loaded)
        self._next_frame()

    @property
    def slide(self) -> Slide:
        """The slide that is shown."""
        slide = self.window.presenter.pane.slide
        if slide is None:
            raise RuntimeError("no slide is open")
        return slide

    def look(self, place: Place, downsample: float = 1.0) -> None:
        """Center the camera on a place, with so many level-0 pixels per screen pixel."""
        camera = self.window.viewer.scene.camera
        camera.zoom = 1 / (downsample * self.mpp)
        camera.center = (0.0, place[1] * self.mpp, place[0] * self.mpp)

    def jump(self, place: Place, downsample: float = 1.0) -> float:
        """Look at a place not seen before; return the seconds until it is on screen."""
        return self.drawn(self.image, lambda: self.look(place, downsample))

    def drawn(self, layer: Layer, act: Callable[[], object]) -> float:
        """Do what gives a layer a new picture; return the seconds until that is on screen."""
        given: list[int] = []

        def note(_: object) -> None:
            given.append(self.frames)

        layer.events.set_data.connect(note)
        start = time.perf_counter()
        act()
        wait_until(lambda: bool(given) and layer.loaded and self.frames > given[-1])
        layer.events.set_data.disconnect(note)
        return self._swaps[given[-1]] - start

    def frame(self, act: Callable[[], object] = lambda: None) -> float:
        """Do something; return the seconds to the next frame, whatever is loaded by then.

        Without an act the frame is a bare one, in which nothing has changed.
        """
        start = time.perf_counter()
        act()
        return self._next_frame() - start

    def wait(self, ready: Callable[[], bool]) -> None:
        """Let the window work until something holds."""
        wait_until(ready)

    def swap(self, number: int) -> float:
        """Return when a frame came to the screen, of which `frames` counts them."""
        return self._swaps[number]

    def settle(self) -> None:
        """Wait until nothing is left to be read, made or drawn."""
        wait_until(lambda: not self.window.busy)
        self._next_frame()

    def pan(self, pixels: float) -> float:
        """Move sideways; return the seconds to the next frame."""
        camera = self.window.viewer.scene.camera
        y, x = camera.center[-2:]
        return self.frame(lambda: setattr(camera, "center", (0.0, y, x + pixels / camera.zoom)))

    def zoom(self, factor: float) -> float:
        """Zoom about the center; return the seconds to the next frame."""
        camera = self.window.viewer.scene.camera
        return self.frame(lambda: setattr(camera, "zoom", factor * camera.zoom))

    def sway(self, place: Place, steps: int) -> list[float]:
        """Pan to and fro about a place at 5×, where a map is seen; return the times of `pan`."""
        self.look(place, 4.0)
        wait_until(lambda: self.loaded)
        return [self.pan(_STEP if step < steps // 2 else -_STEP) for step in range(steps)]

    def open_model(self, path: Path) -> None:
        """Open a model, and find the tissue it is going to work on."""
        self.window.explain_dock.open_model(path)
        self.window.slide_dock.tissue_button.click()
        wait_until(lambda: not self.window.busy)

    def ask(self) -> None:
        """Let the model work on the slide; return when its map has begun to fill in."""
        pane = self.window.presenter.pane
        pane.prediction_state.prediction = None
        self.window.explain_dock.run()
        wait_until(lambda: pane.prediction is not None)

    @property
    def working(self) -> int:
        """How many jobs run in threads of this process."""
        return int(QThreadPool.globalInstance().activeThreadCount())

    def cancel(self) -> float:
        """Press the button; return the seconds until the job has ended."""
        start = time.perf_counter()
        self.window.explain_dock.job.cancel_button.click()
        wait_until(lambda: not self.window.explain_dock.job.busy)
        return time.perf_counter() - start

    def close(self) -> float:
        """Close the window; return the seconds that takes, after a second more of its events."""
        start = time.perf_counter()
        self.window.viewer.close()
        spent = time.perf_counter() - start
        wait_until(lambda: time.perf_counter() > start + spent + 1)
        return spent

    def _next_frame(self) -> float:
        """Draw; return when that came to the screen."""
        before = self.frames
        self._canvas.update()
        wait_until(lambda: self.frames > before)
        return self._swaps[before]

    def _count(self) -> None:
        self._swaps.append(time.perf_counter())

    def _count_map(self, prediction: Prediction | None) -> None:
        self.maps += prediction is not None
