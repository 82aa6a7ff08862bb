"""Window: our own start of napari, with the docks at hand and slicing off the GUI thread."""

from __future__ import annotations

import gc
import math
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer

    from napari_wsimil.gui.plugin import (
        BesideDock,
        ExplainDock,
        RecordDock,
        SlideDock,
        StudyDock,
        TrainDock,
    )
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.startup import Opening
    from napari_wsimil.gui.viewer.presenter import Presenter
    from napari_wsimil.gui.widgets.job_row import JobRow

SIZE = (1366, 768)
#: Seconds after which a job's thread lets the window's go on; Python's own 5 ms is felt.
_SWITCH = 5e-4
_LONGEST_WAIT = 600.0  # seconds


@dataclass(frozen=True, eq=False)
class Window:
    """A viewer with our docks."""

    viewer: Viewer
    session: Session
    presenter: Presenter
    study_dock: StudyDock
    slide_dock: SlideDock
    explain_dock: ExplainDock
    record_dock: RecordDock
    train_dock: TrainDock
    beside_dock: BesideDock

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        docks = (self.study_dock, self.slide_dock, self.train_dock)
        return (*(one.job for one in docks), *self.explain_dock.jobs, *self.record_dock.jobs)

    @property
    def error(self) -> BaseException | None:
        """Return what the last job of a dock failed with, if any did."""
        return next((job.error for job in self.jobs if job.error is not None), None)

    @property
    def busy(self) -> bool:
        loading = any(not layer.loaded for layer in self.viewer.layers)
        loading = loading or not self.beside_dock.loaded or self.explain_dock.asking
        loading = loading or self.record_dock.busy or self.study_dock.writing
        return loading or self.presenter.settling or any(job.busy for job in self.jobs)


def open_window(show: bool = True) -> Window:
    """Return a new window with the Slide, Explain and Train docks, asynchronous slicing on."""
    os.environ.setdefault("NAPARI_ASYNC", "1")
    import napari

    from napari_wsimil.gui.plugin import (
        BesideDock,
        ExplainDock,
        RecordDock,
        SlideDock,
        StudyDock,
        TrainDock,
        presenter_of,
        session_of,
    )

    with _without_toast():
        viewer = napari.Viewer(title="napari-wsimil", show=show)
    presenter = presenter_of(viewer)
    study_dock = StudyDock(viewer)
    slide_dock, explain_dock = SlideDock(viewer), ExplainDock(viewer)
    record_dock, train_dock = RecordDock(viewer), TrainDock(viewer)
    viewer.window.add_dock_widget(study_dock, name="Study", area="right")
    viewer.window.add_dock_widget(slide_dock, name="Slide", area="right", tabify=True)
    viewer.window.add_dock_widget(explain_dock, name="Explain", area="right", tabify=True)
    viewer.window.add_dock_widget(record_dock, name="Record", area="right", tabify=True)
    viewer.window.add_dock_widget(train_dock, name="Train", area="right", tabify=True)
    beside_dock = BesideDock(viewer)
    viewer.window.add_dock_widget(beside_dock, name="Compare", area="bottom").hide()
    viewer.window.resize(*SIZE)
    wait_until(lambda: True)
    slide_dock.come_forward()
    if show:
        _warm_up(viewer)
    sys.setswitchinterval(_SWITCH)
    gc.freeze()  # napari collects garbage at every layer it removes: let it skip what stays
    docks = (study_dock, slide_dock, explain_dock, record_dock, train_dock, beside_dock)
    return Window(viewer, session_of(viewer), presenter, *docks)


def _warm_up(viewer: Viewer) -> None:
    """Draw a picture and words once and take them away, so that the first slide need not wait.

    Readers, units of length, letters and shaders are all made at their first use.
    """
    import napari_wsimil.slides.readers.openslide
    import napari_wsimil.slides.readers.tiffslide  # noqa: F401

    words = viewer.canvas.overlays
    viewer.add_image(np.full((64, 64, 3), 255, np.uint8), rgb=True, units=("um", "um"))
    words.text.text = "SYNTHETIC"
    words.text.visible = words.scale_bar.visible = True
    viewer.screenshot(flash=False)
    words.text.visible = words.scale_bar.visible = False
    viewer.layers.clear()


def run(opening: Opening, screenshot: Path | None = None) -> None:
    """Open a window on a slide or a patient, ask a model, and stay until it is closed.

    Parameters
    ----------
    opening
        What is shown.
    screenshot
        Where to write a picture of the window once everything is shown; it then closes.

    Raises
    ------
    OSError, ValueError
        With `screenshot`: what went wrong, in place of a picture. Else the window tells.
    """
    import napari

    window = open_window()
    steps = _steps(window, opening)
    if screenshot is None:
        _take_steps(window, steps)
        napari.run()
        return
    try:
        for step in steps:
            step()
            wait_until(lambda: not window.busy, math.inf)
            if window.error is not None:
                raise window.error
        save_screenshot(window, screenshot)
    finally:
        window.viewer.close()


def _take_steps(window: Window, steps: Iterator[Callable[[], None]]) -> None:
    """Take one step after the other while the window lives, until one fails."""
    from qtpy.QtCore import QTimer

    timer = QTimer(window.slide_dock)

    def advance() -> None:
        if window.busy:
            return
        step = None if window.error is not None else next(steps, None)
        if step is None:
            timer.stop()
        else:
            step()

    timer.timeout.connect(advance)
    timer.start(50)


def _steps(window: Window, opening: Opening) -> Iterator[Callable[[], None]]:
    pane, explain_dock = window.session.pane, window.explain_dock
    yield from _subject(window, opening)
    if (checkpoint := opening.checkpoint) is not None:
        yield lambda: explain_dock.open_model(checkpoint)
        yield explain_dock.run
        yield lambda: pane.show_map(opening.map_name)
        yield explain_dock.come_forward if pane.case is None else window.record_dock.come_forward
    if opening.tried:
        yield lambda: window.record_dock.try_on(opening.tried)
        yield window.record_dock.change.change_button.click
    yield window.viewer.reset_view


def _subject(window: Window, opening: Opening) -> Iterator[Callable[[], None]]:
    """Yield what opens the slide, or the study and its patient."""
    study_dock, slide_dock = window.study_dock, window.slide_dock
    if (folder := opening.study) is not None:
        yield lambda: study_dock.open(folder)
        yield study_dock.come_forward
        if opening.patient:
            yield lambda: study_dock.open_case(opening.patient)
    if (slide := opening.slide) is not None:
        yield lambda: slide_dock.open(slide)
    if (features := opening.features) is not None:
        yield lambda: slide_dock.features.open(features)
    if opening.case is not None:
        yield lambda: window.session.pane.show_case(opening.case)


def settle(window: Window) -> None:
    """Let the window work until it has nothing more to do or to draw."""
    wait_until(lambda: not window.busy)


def save_screenshot(window: Window, path: Path) -> None:
    """Write a picture of the whole window once it has nothing more to draw."""
    settle(window)
    path.parent.mkdir(parents=True, exist_ok=True)
    window.viewer.screenshot(str(path), canvas_only=False, flash=False)


def wait_until(ready: Callable[[], bool], longest: float = _LONGEST_WAIT) -> None:
    """Let the window work until `ready`, at most `longest` seconds."""
    from qtpy.QtCore import QEventLoop, QTimer
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + longest
    alarm = QTimer()  # so that waiting for an event ends
    alarm.start(20)
    QApplication.processEvents()
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"the window is still busy after {longest:.0f} seconds")
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
    QApplication.processEvents()


@contextmanager
def _without_toast() -> Iterator[None]:
    """Keep back napari's note on PyQt5's age, which says nothing to who looks at slides."""
    from napari.settings import get_settings

    application = get_settings().application
    before = application.gui_notification_level
    application.gui_notification_level = "error"
    try:
        yield
    finally:
        application.gui_notification_level = before
