"""Tour: every view of the window on the demo study, as pictures with captions."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.settings import get_settings
from napari.utils.notifications import NotificationSeverity, notification_manager

from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.gui.tour_stops import STOPS, Stop
from napari_wsimil.gui.window import open_window, save_screenshot, settle
from napari_wsimil.progress import Progress
from napari_wsimil.study.case import Case
from napari_wsimil.training.dataset import read_cohort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_wsimil.gui.window import Window
    from napari_wsimil.progress import Work
    from napari_wsimil.workflows.demo import DemoStudy


#: Colors of a canvas that shows something.
_FEWEST_COLORS = 100


@dataclass(frozen=True)
class Picture:
    """A stop that was visited: the picture's file, and what is amiss with it, if anything."""

    stop: Stop
    path: Path
    amiss: str


def visit(
    study: DemoStudy, folder: Path, stops: tuple[Stop, ...] | None = None, theme: str = "dark"
) -> Work[tuple[Picture, ...]]:
    """Write a picture of every view to `folder`, and return them all.

    Parameters
    ----------
    study
        With features for every method; see `demo.prepare_tour`.
    folder
        Where pictures go, and `captions.md`.
    stops
        Some of `STOPS`; all of them if None.
    theme
        "dark" or "light".
    """
    folder.mkdir(parents=True, exist_ok=True)
    stops = STOPS if stops is None else stops
    pictures: list[Picture] = []
    with _theme(theme):
        yield from _visit(study, folder, stops, pictures)
    _write_captions(folder, pictures)
    return tuple(pictures)


@contextmanager
def _theme(name: str) -> Iterator[None]:
    """Let a window be dark or light, whatever the user has chosen."""
    appearance = get_settings().appearance
    before, appearance.theme = appearance.theme, name
    try:
        yield
    finally:
        appearance.theme = before


def _visit(
    study: DemoStudy, folder: Path, stops: tuple[Stop, ...], pictures: list[Picture]
) -> Iterator[Progress]:
    window = open_window()
    told = len(notification_manager.records)
    try:
        window.slide_dock.open(study.slide)
        settle(window)
        window.slide_dock.tissue_button.click()
        settle(window)
        method = ""
        for stop in stops:
            if stop.method != method:
                _ask(window, study, stop.method)
                method = stop.method
            pictures.append(_picture(window, stop, folder, told))
            yield Progress(len(pictures), len(stops))
    finally:
        window.viewer.close()


def _ask(window: Window, study: DemoStudy, method: str) -> None:
    pane = window.presenter.pane
    window.slide_dock.features.open(study.features[method])
    settle(window)
    window.explain_dock.open_model(study.checkpoints[method])
    settle(window)
    pane.show_case(_case(study))
    window.explain_dock.run()
    window.explain_dock.come_forward()
    settle(window)


def _case(study: DemoStudy) -> Case:
    schema = read_schema(study.schema)
    records = {one.name: one.record for one in read_cohort(study.manifest, schema).patients}
    cohort = tuple(record for record in records.values() if record is not None)
    own = records[study.patient] or schema.parse({})
    return Case(study.patient, schema, own, cohort=cohort)


def _picture(window: Window, stop: Stop, folder: Path, told: int) -> Picture:
    _clear(window)
    stop.arrange(window)
    settle(window)
    path = folder / f"{stop.name}.png"
    save_screenshot(window, path)
    return Picture(stop, path, _amiss(window, stop, told))


def _clear(window: Window) -> None:
    """Put back what the stop before has changed."""
    pane, dock = window.presenter.pane, window.explain_dock
    dock.come_forward()
    for source in tuple(pane.prediction_state.extras):
        pane.show_extra(source, ())
    pane.view_state.side, pane.view_state.area, pane.view_state.picked, pane.view_state.looks = (
        (),
        None,
        None,
        None,
    )
    window.session.beside.show_model(None)
    dock.map.smooth.setChecked(False)
    dock.steps.fine.setChecked(False)
    dock.steps.player.set_steps(dock.steps.player.slider.maximum())
    dock.tabs.setCurrentWidget(dock.patches)
    pane.show_map("")
    window.viewer.reset_view()


def _amiss(window: Window, stop: Stop, told: int) -> str:
    """Return what is wrong with a view; `told` is how many notes were shown before the tour."""
    warned = NotificationSeverity.WARNING
    notes = [str(n) for n in notification_manager.records[told:] if n.severity >= warned]
    names = [layer.name for layer in window.viewer.layers]
    pixels = window.viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    return amiss_of(notes, names, stop.layers, window.error, pixels)


def amiss_of(
    notes: Sequence[str],
    names: Sequence[str],
    wanted: Sequence[str],
    error: BaseException | None,
    pixels: NDArray[np.uint8],
) -> str:
    """Return what is wrong with a view of these layers and (h, w, 3) pixels; empty if nothing."""
    if error is not None:
        return f"a job failed: {error}"
    if notes:
        return f"the window warned: {'; '.join(notes)}"
    lacking = [name for name in wanted if name not in names]
    if lacking:
        return f"no layer {', '.join(lacking)}: there are {', '.join(names)}"
    if len(np.unique(pixels.reshape(-1, 3), axis=0)) < _FEWEST_COLORS:
        return "the canvas is empty"
    return ""


def _write_captions(folder: Path, pictures: list[Picture]) -> None:
    blocks = [f"![{p.stop.name}]({p.path.name})\n\n{p.stop.caption}\n" for p in pictures]
    (folder / "captions.md").write_text("\n".join(blocks), encoding="utf-8")
