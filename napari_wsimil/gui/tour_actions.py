"""Ways of the tour: what a person clicks to come to a view."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.statistics import top
from napari_wsimil.features.bag import take_patches
from napari_wsimil.features.store import save_bag
from napari_wsimil.gui.window import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.window import Window

#: Bags of each class in the toy cohort that the tour trains on.
_PARTS = 15


def _prediction(window: Window) -> Prediction:
    prediction = window.presenter.pane.prediction
    if prediction is None:
        raise ValueError("the model has said nothing")
    return prediction


def nothing(_: Window) -> None:
    """Leave the window as it is after a run."""


def show(name: str) -> Callable[[Window], None]:
    return lambda window: window.presenter.pane.show_map(name)


def evidence(window: Window) -> None:
    """Show what counted for and against the class that is thought most likely."""
    likely = int(_prediction(window).probabilities.argmax())
    window.presenter.pane.show_map(f"evidence: {likely}")
    window.explain_dock.map.beside.choose("all of: evidence")


def click(window: Window, rank: int = 0) -> None:
    """Click a patch that the main map ranks high."""
    prediction = _prediction(window)
    order = prediction.explanations[0].per_patch().nan_to_num(-1).argsort(descending=True)
    grid = prediction.bag.grid
    if grid is not None:
        x, y = grid.coords[int(order[rank])] + grid.patch_size / 2
        window.presenter.picking.pick(float(x), float(y))


def edit(window: Window) -> None:
    """Try every field of the record, and take the value that changes the answer most."""
    dock = window.record_dock
    dock.come_forward()
    show("explanatory")(window)
    dock.fields.open()
    dock.sweep.run()
    settle(window)
    effect = dock.sweep.found[0]
    value = max(effect.values, key=lambda one: max(map(abs, one.probability.values())))
    dock.sweep.take(effect, value)
    settle(window)
    dock.change.change_button.click()


def values(window: Window) -> None:
    """Lay maps of the values of the field that matters most beside the slide."""
    show("attention")(window)
    window.record_dock.sweep.show_values()


def close(window: Window) -> None:
    click(window)
    window.presenter.pane.view_state.focus = window.presenter.pane.view_state.picked
    window.presenter.camera.magnify(20.0)


def branches(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.attention)
    dock.attention.beside.click()
    dock.attention.differ.click()


def query(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.ask)
    click(window)


def query_map(name: str) -> Callable[[Window], None]:
    def arrange(window: Window) -> None:
        query(window)
        settle(window)
        window.presenter.pane.show_map(name)

    return arrange


def steps(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.steps)
    dock.steps.player.go(dock.steps.player.slider.maximum() // 2)


def sub_patches(window: Window) -> None:
    steps(window)
    settle(window)
    window.explain_dock.steps.fine.setChecked(True)
    window.presenter.pane.view_state.focus = window.explain_dock.steps.last
    window.presenter.camera.magnify(12.0)


def effect(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.effect)
    dock.effect.share.setValue(5)
    dock.effect.top.click()
    settle(window)
    dock.effect.draw.click()
    settle(window)
    dock.reveal(dock.effect.plot)


def families(family: str, name: str) -> Callable[[Window], None]:
    def arrange(window: Window) -> None:
        window.presenter.pane.show_map(name)
        window.explain_dock.map.beside.choose(f"all of: {family}")
        window.explain_dock.tabs.setCurrentWidget(window.explain_dock.facts)

    return arrange


def train(window: Window) -> None:
    """Train on parts of the slide with and without what the model ranks first."""
    dock = window.train_dock
    with TemporaryDirectory() as place:
        dock.cohort.open(_write_parts(_prediction(window), Path(place)))
        settle(window)
        dock.out.choose(Path(place, "toy.safetensors"))
        dock.model.settings.field("epochs").value = 12
        dock.pin.setChecked(True)
        dock.start()
        settle(window)
    dock.tabs.setCurrentIndex(1)
    dock.come_forward()


def _write_parts(prediction: Prediction, folder: Path) -> Path:
    """Return a folder of features by class: draws of patches, half of them without the first."""
    random = torch.Generator().manual_seed(0)
    first = top(prediction.explanations[0], 0.1)
    for name, count in (("with", _PARTS), ("without", _PARTS)):
        (folder / name).mkdir()
        for number in range(count):
            drawn = torch.rand(len(prediction.bag), generator=random) < 0.5
            chosen = drawn & ~first if name == "without" else drawn
            part = take_patches(prediction.bag, chosen.nonzero()[:, 0])
            save_bag(folder / name / f"{name}-{number}.h5", part)
    return folder
