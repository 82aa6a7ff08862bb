"""Windows to test: a viewer with our docks, models and features of the real slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch

from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.store import save_bag
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.names import NAMES
from napari_wsimil.models import create_model
from napari_wsimil.models.card import Card
from napari_wsimil.progress import finish
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.training.checkpoint import save_checkpoint
from napari_wsimil.workflows.analysis import analyze_job
from napari_wsimil.workflows.pipeline import model_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_wsimil.gui.plugin import BesideDock, ExplainDock, SlideDock
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.progress import Work


def result_of(job: Work[Any]) -> Any:
    """Drive a job to its end and return its result."""
    return finish(job)


def handles(path: Path) -> int:
    """Return how often this process holds a file open."""
    return [one.path for one in psutil.Process().open_files()].count(str(path.resolve()))


class Docks:
    """A viewer with our two docks, as the plugin menu gives them."""

    def __init__(self, viewer: Viewer, qtbot: QtBot, beside: bool = True) -> None:
        from napari_wsimil.gui.plugin import (
            BesideDock,
            ExplainDock,
            SlideDock,
            presenter_of,
            session_of,
        )

        self.viewer, self.qtbot = viewer, qtbot
        self.slide: SlideDock = SlideDock(viewer)
        self.explain: ExplainDock = ExplainDock(viewer)
        viewer.window.add_dock_widget(self.slide, name="Slide")
        viewer.window.add_dock_widget(self.explain, name="Explain")
        if beside:
            self.beside: BesideDock = BesideDock(viewer)
            viewer.window.add_dock_widget(self.beside, name="Compare", area="bottom").hide()
        self.presenter = presenter_of(viewer)
        self.session = session_of(viewer)
        self.pane = self.presenter.pane

    def wait(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        self.qtbot.waitUntil(ready, timeout=int(seconds * 1000))

    def idle(self) -> None:
        explain = self.explain
        rows = (self.slide.job, *explain.jobs, explain.saver, explain.review)
        self.wait(lambda: not (self.presenter.settling or any(row.busy for row in rows)))

    def ask(self, slide: Path, features: Path, checkpoint: Path) -> None:
        """Open a slide with its tissue and features, and ask a model about it."""
        self.slide.open(slide)
        self.idle()
        self.slide.tissue_button.click()
        self.idle()
        self.slide.features.open(features)
        self.idle()
        self.explain.open_model(checkpoint)
        self.idle()
        self.explain.run()
        self.idle()

    def click(self, patch: int) -> None:
        """Click the middle of a patch on the canvas, as the mouse would."""
        grid = self.pane.prediction.bag.grid
        x, y = grid.coords[patch] + grid.patch_size / 2
        self.presenter.picking.pick(float(x), float(y))

    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_file", lambda: tmp_path / "memory.json")


@pytest.fixture(autouse=True)
def hidden_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NAMES, "shown", False)


@pytest.fixture
def docks(make_napari_viewer: Callable[[], Viewer], qtbot: QtBot) -> Iterator[Docks]:
    made = Docks(make_napari_viewer(), qtbot)
    yield made
    for row in (made.slide.job, *made.explain.jobs):
        row.cancel()
    made.idle()


def save_untrained(
    path: Path, name: str, record: RecordFormat | None = None, **options: int | float | str
) -> Path:
    """Write a model for the built-in encoder: the path is real, its opinion is not."""
    torch.manual_seed(0)
    encoder = create_encoder()
    model = create_model(name, feature_dim=encoder.card.dim, classes=2, **options)
    card = Card(
        model=name,
        config=model.config,
        encoder=encoder.card.identity,
        encoder_dim=encoder.card.dim,
        mpp=0.5,
        pixels=224,
        overlap=0.0,
        classes=("normal", "tumor"),
        record=record,
        data="nothing, untrained",
        synthetic=True,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )
    save_checkpoint(path, model, card)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained ACMIL."""
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained.safetensors", "acmil")


@pytest.fixture(scope="session")
def features(small_slide: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real slide's features, made once."""
    path = tmp_path_factory.mktemp("features") / "slide.h5"
    with open_slide(small_slide) as slide:
        model = result_of(model_job(checkpoint))
        save_bag(path, result_of(analyze_job(slide, model, None, None)).bag)
    return path


@pytest.fixture
def asked(docks: Docks, small_slide: Path, checkpoint: Path, features: Path) -> Docks:
    """The real slide, opened and asked about through the docks."""
    docks.ask(small_slide, features, checkpoint)
    return docks
