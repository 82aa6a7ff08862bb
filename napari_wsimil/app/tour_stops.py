"""Stops of the tour: the views of each method, and how one comes there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.app.window import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.app.window import Window
    from napari_wsimil.explain.predict import Prediction


@dataclass(frozen=True)
class Stop:
    """A view: how one comes there from a model's prediction, and what is to be seen.

    Attributes
    ----------
    name
        Of the picture's file.
    method
        Whose model has been asked.
    caption
        What the picture shows.
    arrange
        Clicks what a person would.
    layers
        Names of layers that must be there.
    """

    name: str
    method: str
    caption: str
    arrange: Callable[[Window], None]
    layers: tuple[str, ...]


def _prediction(window: Window) -> Prediction:
    prediction = window.presenter.pane.prediction
    if prediction is None:
        raise ValueError("the model has said nothing")
    return prediction


def _nothing(_: Window) -> None:
    """Leave the window as it is after a run."""


def _map(name: str) -> Callable[[Window], None]:
    return lambda window: window.presenter.pane.show_map(name)


def _evidence(window: Window) -> None:
    """Show what counted for and against the class that is thought most likely."""
    likely = int(_prediction(window).probabilities.argmax())
    window.presenter.pane.show_map(f"evidence: {likely}")
    window.explain_dock.map.beside.choose("all of: evidence")


def _click(window: Window, rank: int = 0) -> None:
    """Click a patch that the main map ranks high."""
    prediction = _prediction(window)
    order = prediction.explanations[0].per_patch().nan_to_num(-1).argsort(descending=True)
    grid = prediction.bag.grid
    if grid is not None:
        x, y = grid.coords[int(order[rank])] + grid.patch_size / 2
        window.presenter.picking.pick(float(x), float(y))


def _close(window: Window) -> None:
    _click(window)
    window.presenter.pane.focus = window.presenter.pane.picked
    window.presenter.camera.magnify(20.0)


def _branches(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.attention)
    dock.attention.beside.click()
    dock.attention.differ.click()


def _query(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.ask)
    _click(window)


def _query_map(name: str) -> Callable[[Window], None]:
    def arrange(window: Window) -> None:
        _query(window)
        settle(window)
        window.presenter.pane.show_map(name)

    return arrange


def _steps(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.steps)
    dock.steps.player.go(dock.steps.player.slider.maximum() // 2)


def _sub_patches(window: Window) -> None:
    _steps(window)
    settle(window)
    window.explain_dock.steps.fine.setChecked(True)
    window.presenter.pane.focus = window.explain_dock.steps.last
    window.presenter.camera.magnify(12.0)


def _effect(window: Window) -> None:
    dock = window.explain_dock
    dock.tabs.setCurrentWidget(dock.effect)
    dock.effect.share.setValue(5)
    dock.effect.top.click()
    dock.effect.draw.click()


def _families(family: str, name: str) -> Callable[[Window], None]:
    def arrange(window: Window) -> None:
        window.presenter.pane.show_map(name)
        window.explain_dock.map.beside.choose(f"all of: {family}")
        window.explain_dock.tabs.setCurrentWidget(window.explain_dock.facts)

    return arrange


STOPS: tuple[Stop, ...] = (
    Stop(
        "acmil",
        "acmil",
        "ACMIL: the mean attention of its branches, in times of equal attention. Hatched tissue "
        "was not looked at.",
        _nothing,
        ("attention", "not looked at"),
    ),
    Stop(
        "patch",
        "acmil",
        "A click tells a patch's picture, and its value and rank in every map.",
        _click,
        ("attention", "area asked about"),
    ),
    Stop(
        "close",
        "acmil",
        "Close up patches are outlines in the colors of the map.",
        _close,
        ("attention (outlines)",),
    ),
    Stop(
        "branches",
        "acmil",
        "ACMIL's branches side by side, where they disagree, and on how many patches each lies.",
        _branches,
        ("disagreement",),
    ),
    Stop(
        "evidence",
        "acmil",
        "Evidence for (orange) and against (purple) a class; it sums to the model's logit.",
        _evidence,
        (),
    ),
    Stop(
        "effect",
        "acmil",
        "Attention or effect? The prediction without the first patches, and as ever more of "
        "them are left out or are all there is, beside as many at random.",
        _effect,
        ("attention", "left out"),
    ),
    Stop(
        "querent",
        "querent",
        "Querent: where one patch looks. The regions that it chose are outlined.",
        _query,
        ("attention of the query", "chosen by the query"),
    ),
    Stop(
        "regions",
        "querent",
        "How important Querent thought each region for that patch, before it looked.",
        _query_map("region score"),
        ("region score", "chosen by the query"),
    ),
    Stop(
        "chosen",
        "querent",
        "How often each region is chosen by all patches of the slide.",
        _map("chosen by"),
        ("chosen by",),
    ),
    Stop(
        "sasha",
        "sasha",
        "SASHA: the path of its looks, in the middle of an episode, and what it has cost.",
        _steps,
        ("order so far", "path of looks"),
    ),
    Stop(
        "subpatches",
        "sasha",
        "Attention inside the patches that SASHA read finely.",
        _sub_patches,
        ("inside looks, × uniform within the patch",),
    ),
    Stop(
        "longmil",
        "longmil",
        "LongMIL: attention that patches receive from the whole slide.",
        _map("attention received"),
        ("attention received",),
    ),
    Stop(
        "neighborhood",
        "longmil",
        "The neighborhood that a clicked patch attends to, with its radius in microns.",
        _query,
        ("neighborhood", "area asked about"),
    ),
    Stop(
        "vib",
        "vib",
        "VIB: the probability that a patch passes the bottleneck; those kept are outlined.",
        _nothing,
        ("selection", "kept"),
    ),
    Stop(
        "kept",
        "vib",
        "VIB's attention among the kept patches; the others were dropped.",
        _map("attention"),
        ("attention", "kept"),
    ),
    Stop(
        "persam",
        "persam-live",
        "PersAM-live: where this patient's record makes it look, and its explanatory attention "
        "for each class, which is absolute and here far below 1.",
        _families("explanatory", "attention"),
        ("attention",),
    ),
    Stop(
        "exploratory",
        "persam-live",
        "Where PersAM-live would look for this record, whatever the class.",
        _map("exploratory"),
        ("exploratory",),
    ),
    Stop(
        "bd",
        "bd",
        "BD: attention with the record less attention without it, and both branches.",
        _families("branch", "attention difference"),
        ("attention difference",),
    ),
)
