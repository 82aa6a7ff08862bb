"""The Train dock on a real path: set up, train, watch, stop, judge; and rough handling."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from cohorts import CLASSES, SPLITS, make_bag, write_folder, write_manifest
from qtpy.QtCore import Qt
from studies import of_a_later_version, planted_study

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.schema import NO_FIELDS
from napari_wsimil.cohort.manifest import Patient, SlideRow, Split
from napari_wsimil.features.store import save_bag
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.names import NAMES
from napari_wsimil.models import MODELS
from napari_wsimil.progress import Progress
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.create_study import Unit, create_study, open_study
from napari_wsimil.training import dataset as cohort_module
from napari_wsimil.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from napari_wsimil.training.config import read_run, settings_of
from napari_wsimil.training.options import options_of
from napari_wsimil.training.train import train_run
from napari_wsimil.workflows.training import TrainingStep, train_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.plugin import SlideDock, TrainDock

MANY = 100000  # epochs, more than a test waits for


class Dock:
    """A viewer with our Slide and Train docks."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        from napari_wsimil.gui.plugin import SlideDock, TrainDock, presenter_of

        self.viewer, self.qtbot = viewer, qtbot
        self.slide: SlideDock = SlideDock(viewer)
        self.train: TrainDock = TrainDock(viewer)
        viewer.window.add_dock_widget(self.slide, name="Slide")
        viewer.window.add_dock_widget(self.train, name="Train")
        self.presenter = presenter_of(viewer)
        self.pane: Pane = self.presenter.pane

    def wait(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        self.qtbot.waitUntil(ready, timeout=int(seconds * 1000))

    def idle(self) -> None:
        jobs = (self.train.job, self.slide.job)
        self.wait(lambda: not (self.presenter.settling or any(job.busy for job in jobs)))

    def open(self, cohort: Path) -> None:
        """Open a cohort, and wait until it has been read in the background."""
        self.train.cohort.open(cohort)
        self.wait(lambda: not self.train.reading)

    def set_up(self, cohort: Path, out: Path, epochs: int = 3, model: str = "abmil") -> None:
        """Choose a small model and one thread, as the tests do."""
        self.open(cohort)
        self.train.out.choose(out)
        self.train.model.model.setCurrentText(model)
        self.train.model.settings.field("epochs").value = epochs
        self.train.model.threads.setValue(1)

    def until_epoch(self, number: int) -> None:
        self.wait(lambda: len(self.epochs) >= number or not self.train.job.busy)
        assert len(self.epochs) >= number, self.train.status.text()

    def show(self, slide: Path, bag_of: int) -> None:
        """Show a slide, and planted features in its place."""
        self.pane.show_slide(open_slide(slide))
        self.pane.show_bag(make_bag(bag_of))
        self.idle()

    @property
    def epochs(self) -> list[Any]:
        return self.train.progress.curves.epochs

    @property
    def tip(self) -> str:
        return str(self.train.start_button.toolTip())


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_file", lambda: tmp_path / "memory" / "memory.json")
    torch.set_num_threads(1)


@pytest.fixture
def dock(make_napari_viewer: Callable[[], Viewer], qtbot: QtBot) -> Iterator[Dock]:
    made = Dock(make_napari_viewer(), qtbot)
    yield made
    for job in (made.train.job, made.slide.job):
        job.cancel()
    made.idle()
    made.wait(lambda: not made.train.reading)


@pytest.fixture
def ready(dock: Dock, tmp_path: Path) -> Dock:
    """A dock with a tiny cohort that has a split, set up to be trained."""
    dock.set_up(write_manifest(tmp_path, SPLITS), tmp_path / "model.safetensors")
    return dock


def kept(dock: Dock) -> Path:
    out = dock.train.out.path
    assert out is not None
    return out.with_name("model.unfinished.safetensors")


# set up


def test_the_button_says_what_is_missing_until_all_is_there(dock: Dock, tmp_path: Path) -> None:
    assert not dock.train.start_button.isEnabled()
    assert dock.tip == "Open a cohort first"
    dock.open(write_folder(tmp_path / "bags", 10))
    assert dock.tip == "Choose where the checkpoint goes"
    dock.train.out.choose(tmp_path / "m.safetensors")
    assert dock.train.start_button.isEnabled()
    dock.train.model.model.setCurrentText("persam")
    assert "reads clinical records: give the schema" in dock.tip
    dock.train.model.model.setCurrentText("sasha")
    assert not dock.train.pin.isEnabled()
    assert "looks closer" in dock.train.pin.toolTip()


def test_the_split_is_told_before_the_start(ready: Dock, tmp_path: Path) -> None:
    from qtpy.QtGui import QTextDocument

    def told() -> list[str]:
        document = QTextDocument()
        document.setHtml(ready.train.cohort.split.text())
        return [line for line in document.toPlainText().splitlines() if line]

    assert told()[4:8] == ["normal", "3", "1", "2"]
    assert not ready.train.cohort.fold_row.isVisibleTo(ready.train)
    ready.open(write_folder(tmp_path / "bags", 20))
    assert told()[8:12] == ["tumor", "6", "2", "2"]
    assert ready.train.cohort.fold_row.isVisibleTo(ready.train)
    ready.train.cohort.folds.setValue(4)
    ready.train.cohort.fold.setValue(4)
    assert ready.train.config().fold == 3
    assert told()[12:] == ["all", "10", "5", "5", "5 test patients: no intervals below 10"]


def test_the_window_answers_while_a_cohort_is_read(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, go_on, threads = cohort_module.open_cohort, threading.Event(), []

    def slow(*given: Any) -> Any:
        threads.append(threading.current_thread())
        assert go_on.wait(60)
        return opened(*given)

    monkeypatch.setattr(cohort_module, "open_cohort", slow)
    first, second = write_folder(tmp_path / "first", 10), write_folder(tmp_path / "second", 20)
    dock.train.cohort.open(first)
    dock.train.out.choose(tmp_path / "m.safetensors")
    dock.train.cohort.folds.setValue(3)
    assert dock.tip == "Reading the cohort"
    assert dock.train.cohort.name.text() == "Reading the cohort"
    assert not dock.train.cohort.split.isVisibleTo(dock.train)
    dock.train.cohort.open(second)
    dock.wait(lambda: bool(threads))
    assert not dock.train.start_button.isEnabled()
    go_on.set()
    dock.wait(lambda: dock.train.start_button.isEnabled())
    assert "20 patients" in dock.train.cohort.name.text()
    assert threading.main_thread() not in threads
    assert len(threads) == 2  # each cohort once, however many fields were changed meanwhile


def test_a_cohort_that_cannot_be_read_takes_the_split_of_the_last_one_away(
    ready: Dock, tmp_path: Path
) -> None:
    assert ready.train.cohort.split.isVisibleTo(ready.train)
    ready.open(tmp_path / "gone.csv")
    assert not ready.train.cohort.split.isVisibleTo(ready.train)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_form_offers_every_option_at_its_default(dock: Dock, model: str) -> None:
    box = dock.train.model
    box.model.setCurrentText(model)
    values = box.values
    assert values["options"] == {n: one.default for n, one in options_of(model).items()}
    expected = {n: one.default for n, one in settings_of(model).items() if n != "standardize"}
    assert values["fit"] == expected
    tip = " ".join(box.settings.field("lr").native.toolTip().split())
    assert tip == settings_of(model)["lr"].text


def test_an_option_that_the_model_refuses_is_told_in_its_words(ready: Dock) -> None:
    ready.train.model.model.setCurrentText("longmil")
    assert ready.train.start_button.isEnabled()
    ready.train.model.options.field("width").value = 10
    assert not ready.train.start_button.isEnabled()
    assert "divisible" in ready.tip


def test_the_last_settings_are_there_at_the_next_start(
    ready: Dock, make_napari_viewer: Callable[[], Viewer]
) -> None:
    from napari_wsimil.gui.docks.train.dock import TrainWidget
    from napari_wsimil.gui.session import Session

    box = ready.train.model
    box.settings.field("lr").value = 0.00125
    box.more.field("patience").value = 7
    box.options.field("width").value = 8
    ready.train.start()
    ready.idle()
    again = TrainWidget(Session())
    again.out.choose(ready.train.out.path)
    assert again.config() == ready.train.config()
    memory.remember("train", {"model": "no more"})
    assert TrainWidget(Session()).cohort.path is None


# train


def test_the_command_line_repeats_a_run_of_the_window_to_the_last_digit(
    ready: Dock, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ready.train.start()
    ready.idle()
    assert ready.train.job.error is None
    ready.train.save_run(tmp_path / "run.json")
    ready.idle()
    _, card = load_checkpoint(tmp_path / "model.safetensors")
    run = json.loads((tmp_path / "run.json").read_text()) | {"out": "again.safetensors"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert main(["train", "--config", str(tmp_path / "run.json")]) == 0
    _, again = load_checkpoint(tmp_path / "again.safetensors")
    assert again.metrics == card.metrics
    assert again.weights == card.weights


def test_a_pinned_slide_changes_no_number(ready: Dock) -> None:
    """The job asks a copy: with dropout and noise drawn, any disturbance would show."""
    ready.train.model.model.setCurrentText("acmil")
    run = ready.train.config()
    run = run.model_copy(update={"fit": replace(run.fit, epochs=3)})
    plain = [e for e in train_run(run) if hasattr(e, "seconds")]
    steps = list(train_job(run, make_bag(1)))
    watched = [one for s in steps if isinstance(s, TrainingStep) for one in s.snapshots]
    assert [s.epoch.validation for s in watched] == [e.validation for e in plain]
    assert all(len(s.prediction.explanations) == 1 for s in watched)
    maps = [s.prediction.explanations[0].scores for s in watched]
    assert not torch.equal(maps[0], maps[2])


def test_a_finished_training_is_judged_on_the_test_patients(ready: Dock) -> None:
    ready.train.start()
    ready.idle()
    said = ready.train.results.said.text()
    assert "4 test patients" in said
    assert "AUC <b>" in said
    assert "no interval for fewer than 10 patients (4)" in said
    table = ready.train.results.table
    assert [table.item(row, 0).text() for row in range(4)] == [f"patient {k}" for k in (1, 2, 3, 4)]
    ready.train.results.names.setChecked(True)
    assert table.item(0, 0).text() == "Jane Doe 8"
    table.sortItems(3, Qt.SortOrder.DescendingOrder)
    shares = [float(table.item(row, 3).text()) for row in range(4)]
    assert shares == sorted(shares, reverse=True)
    order = [table.item(row, 0).text() for row in range(4)]
    ready.train.results.names.setChecked(False)
    assert [f"Jane Doe {7 + int(table.item(r, 0).text()[8:])}" for r in range(4)] == order
    assert not kept(ready).exists()


def test_the_slides_of_a_large_cohort_are_read_beside_the_window(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_wsimil.training import identity

    opened, threads = identity.open_h5, []

    def noted(path: Path) -> Any:
        threads.append(threading.current_thread())
        return opened(path)

    monkeypatch.setattr(identity, "open_h5", noted)
    dock.set_up(write_folder(tmp_path / "bags", 30), tmp_path / "m.safetensors")
    dock.wait(lambda: dock.train.start_button.isEnabled())
    assert len(threads) == 30  # each file once
    assert threading.main_thread() not in threads
    assert dock.train.cohort.split.text()


def test_a_test_set_of_one_class_is_said_before_the_start_and_has_no_scores(
    dock: Dock, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path, SPLITS)
    rows = path.read_text().splitlines()
    rows = [row.replace("tumor", "normal") if ",test," in row else row for row in rows]
    path.write_text("\n".join(rows))
    dock.set_up(path, tmp_path / "model.safetensors")
    assert (
        "all 4 test patients are of class normal, none of tumor" in dock.train.cohort.split.text()
    )
    dock.train.start()
    dock.idle()
    assert "all 4 test patients are of class normal" in dock.train.progress.who.text()
    said = dock.train.results.said.text()
    assert "AUC not defined: only class normal in the test set (4 patients)" in said
    assert "nan" not in said
    (roc, _) = dock.train.results.figure.figure.axes
    assert "not defined" in roc.texts[0].get_text()


def test_a_study_of_slides_is_trained_and_judged_slide_by_slide(dock: Dock, tmp_path: Path) -> None:
    with create_study(tmp_path / "study", NO_FIELDS, unit=Unit.SLIDE) as study:
        for k in range(12):
            paths = [tmp_path / f"{k}-{n}.h5" for n in range(2)]
            for n, path in enumerate(paths):
                save_bag(path, make_bag(2 * (10 * k + n) + k % 2))
            slides = tuple(SlideRow(path.stem, feature_path=path) for path in paths)
            part = (Split.TRAIN, Split.VALIDATION, Split.TEST)[k // 4]
            study.add([Patient(f"p{k}", slides, CLASSES[k % 2], part)], "test")
    dock.set_up(tmp_path / "study", tmp_path / "model.safetensors")
    assert "12 patients, 24 slides, each a case of its own" in dock.train.cohort.name.text()
    dock.wait(lambda: "<td>slides</td>" in dock.train.cohort.split.text())
    dock.train.start()
    dock.idle()
    assert "8 test slides: no intervals below 10" in dock.train.progress.who.text()
    results = dock.train.results
    assert "8 test slides" in results.said.text()
    assert results.table.horizontalHeaderItem(0).text() == "slide"
    assert results.table.item(0, 0).text() == "slide 1"
    results.names.setChecked(True)
    assert [results.table.item(row, 0).text() for row in range(2)] == ["8-0", "8-1"]


def test_a_double_click_opens_the_patients_slide_in_the_slide_dock(
    ready: Dock, tmp_path: Path, coded_slide: Path
) -> None:
    manifest = tmp_path / "cohort.csv"
    lines = manifest.read_text().splitlines()
    rows = [lines[0] + ",slide_path"]
    rows += [f"{line},{coded_slide if k == 9 else ''}" for k, line in enumerate(lines[1:])]
    (tmp_path / "placed.csv").write_text("\n".join(rows))
    ready.open(tmp_path / "placed.csv")
    ready.train.start()
    ready.idle()
    table = ready.train.results.table
    table.itemDoubleClicked.emit(table.item(0, 1))
    assert not ready.slide.job.busy
    table.itemDoubleClicked.emit(table.item(1, 1))
    ready.idle()
    assert ready.pane.slide is not None
    assert ready.pane.slide.path == coded_slide


def test_the_trained_model_is_used_in_the_viewer(ready: Dock) -> None:
    ready.train.start()
    ready.idle()
    ready.train.results.use_button.click()
    ready.idle()
    assert ready.pane.model is not None
    assert ready.pane.model.card == load_checkpoint(ready.train.out.path)[1]


def test_curves_have_stages_terms_metrics_and_what_the_model_tells(ready: Dock) -> None:
    ready.train.model.model.setCurrentText("vib")
    ready.train.model.settings.field("epochs").value = 2
    ready.train.start()
    ready.idle()
    curves = ready.train.progress.curves
    first = curves.epochs[0]
    curves.epochs += [replace(first, text="policy", done=k, scalars={}) for k in (1, 2, 3)]
    curves.refresh()
    loss, metrics, small, large = curves.figure.axes
    assert {"train loss", "class", "information", "validation loss"} <= labels(loss)
    assert labels(metrics) == {"auc", "balanced accuracy", "macro f1"}
    assert (labels(small), labels(large)) == ({"mean selection"}, {"kept"})
    assert [text.get_text() for text in loss.texts] == ["fit", "policy"]
    line = next(line for line in loss.lines if line.get_label() == "train loss")
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == [epoch.train["loss"] for epoch in curves.epochs[:2]]


def labels(axes: Any) -> set[str]:
    return set(axes.get_legend_handles_labels()[1])


def test_curves_follow_the_theme(ready: Dock) -> None:
    from napari.settings import get_settings

    appearance = get_settings().appearance
    before, curves = appearance.theme, ready.train.progress.curves
    curves.refresh()
    dark = curves.figure.get_facecolor()
    try:
        appearance.theme = "light" if before == "dark" else "dark"
        assert curves.figure.get_facecolor() != dark
    finally:
        appearance.theme = before


def test_survival_asks_for_a_unit_and_has_risks_in_place_of_classes(
    ready: Dock, tmp_path: Path
) -> None:
    lines = (tmp_path / "cohort.csv").read_text().splitlines()
    rows = [lines[0] + ",time,event"]
    rows += [f"{line},{k + 1},{int(k % 3 != 1)}" for k, line in enumerate(lines[1:])]
    (tmp_path / "times.csv").write_text("\n".join(rows))
    ready.open(tmp_path / "times.csv")
    assert not ready.train.cohort.unit.isVisibleTo(ready.train)
    ready.train.cohort.task.setCurrentIndex(2)
    assert "give the unit of its times" in ready.tip
    assert ready.train.model.values["fit"]["accumulate"] == 16
    ready.train.cohort.unit.setText("months")
    assert "no event" in ready.train.cohort.split.text()
    ready.train.start()
    ready.idle()
    assert "c-index" in ready.train.results.said.text()
    assert not ready.train.results.figure.isVisibleTo(ready.train.results)
    assert ready.train.results.table.item(2, 1).text() == "no event until 11 months"


def test_what_is_asked_for_too_often_is_done_after_the_last_time(qtbot: QtBot) -> None:
    from qtpy.QtCore import QObject

    from napari_wsimil.gui.widgets.background import Throttle
    from napari_wsimil.workflows.progress import RateLimiter

    asked, done = [0], []
    owner = QObject()
    throttle = Throttle(owner, lambda: done.append(asked[0]), RateLimiter(0.1, 1.0))
    for asked[0] in range(100):
        throttle.request()
    assert done == [0]
    qtbot.waitUntil(lambda: len(done) == 2, timeout=1000)
    assert done == [0, 99]
    throttle.request()
    throttle.cancel()
    qtbot.wait(200)
    assert len(done) == 2


# pause, resume, cancel


def test_a_paused_training_stands_still_and_goes_on(ready: Dock) -> None:
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.until_epoch(2)
    ready.train.job.pause_button.click()
    ready.wait(lambda: ready.train.job.pause_button.text() == "Resume", seconds=1)
    assert ready.train.job.label.text().startswith("paused, ")
    ready.qtbot.wait(150)
    stands = len(ready.epochs)
    ready.qtbot.wait(300)
    assert len(ready.epochs) == stands
    ready.train.job.pause_button.click()
    ready.until_epoch(stands + 1)


@pytest.mark.parametrize("paused", [False, True])
def test_cancel_takes_less_than_a_second_and_keeps_the_best_so_far(
    ready: Dock, paused: bool
) -> None:
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.until_epoch(2)
    if paused:
        ready.train.job.pause_button.click()
        ready.wait(lambda: ready.train.job.paused, seconds=1)
    start = time.monotonic()
    ready.train.job.cancel_button.click()
    ready.wait(lambda: not ready.train.job.busy, seconds=2)
    assert time.monotonic() - start < 1
    assert ready.train.status.text() == (
        "Stopped. The best weights so far are in model.unfinished.safetensors."
    )
    assert "training not finished" in load_checkpoint(kept(ready))[1].data
    assert not ready.train.out.path.exists()
    assert ready.train.start_button.isEnabled()
    assert ready.train.progress.told.text().startswith("Stopped")


def test_cancel_before_the_first_epoch_says_that_nothing_is_left(
    ready: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*_: object) -> Iterator[Progress]:
        while True:
            yield Progress(text="reading")

    monkeypatch.setattr("napari_wsimil.gui.docks.train.dock.train_job", endless)
    ready.train.start()
    ready.train.job.cancel()
    ready.idle()
    assert ready.train.status.text() == "Stopped. Nothing was kept."


# the pinned slide


def test_the_pinned_slide_shows_each_epoch_and_the_way_back(ready: Dock, coded_slide: Path) -> None:
    ready.show(coded_slide, 1)
    assert ready.train.pin.isEnabled()
    ready.train.pin.setChecked(True)
    ready.train.start()
    ready.idle()
    assert ready.train.job.error is None
    maps = ready.train.progress.maps
    assert maps.isVisibleTo(ready.train.progress)
    assert (maps.slider.minimum(), maps.slider.maximum()) == (1, 4)
    final = ready.pane.prediction
    assert final is not None
    assert final.card.metrics == load_checkpoint(ready.train.out.path)[1].metrics
    assert not any("epoch" in warning for warning in final.warnings)
    maps.slider.setValue(2)
    assert ready.pane.prediction.warnings[0] == "epoch 2 of 3, before the end"
    assert "epoch 2 of 3" in ready.viewer.canvas.overlays.text.text.replace("\n", " ")
    first = ready.pane.prediction.explanations[0].scores
    maps.slider.setValue(1)
    assert not torch.equal(ready.pane.prediction.explanations[0].scores, first)
    maps.slider.setValue(4)
    assert ready.pane.prediction is final


def test_while_training_the_map_says_so(ready: Dock, coded_slide: Path) -> None:
    ready.show(coded_slide, 1)
    ready.train.pin.setChecked(True)
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.until_epoch(3)
    maps = ready.train.progress.maps
    assert "model still training" in ready.pane.prediction.warnings[0]
    maps.slider.setValue(1)
    ready.until_epoch(len(ready.epochs) + 2)
    assert maps.slider.value() == 1
    assert ready.pane.prediction.warnings[0] == f"epoch 1 of {MANY}, model still training"
    ready.train.job.cancel()
    ready.idle()
    assert ready.pane.prediction.warnings[0] == f"epoch 1 of {MANY}, training was stopped"


def test_a_map_is_never_drawn_on_another_slide(
    ready: Dock, coded_slide: Path, small_slide: Path
) -> None:
    ready.show(coded_slide, 1)
    ready.train.pin.setChecked(True)
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.until_epoch(2)
    ready.slide.open(small_slide)
    ready.wait(lambda: not ready.slide.job.busy)
    ready.until_epoch(len(ready.epochs) + 2)
    assert ready.pane.prediction is None
    assert not ready.train.progress.maps.isVisibleTo(ready.train.progress)
    ready.train.progress.maps.slider.setValue(1)
    assert ready.pane.prediction is None


def test_features_of_another_encoder_are_not_pinned(ready: Dock, coded_slide: Path) -> None:
    ready.pane.show_slide(open_slide(coded_slide))
    assert "Open a slide and its features" in ready.train.pin.toolTip()
    ready.pane.show_bag(replace(make_bag(1), encoder="uni2@0123"))
    assert not ready.train.pin.isEnabled()
    assert ready.train.pin.toolTip() == "The slide's features are of uni2, not planted"


# bad input and rough handling


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"label": "tumor"}, "training needs two classes, there is tumor"),
        ({"label": ""}, "training needs two classes, there is no label"),
    ],
)
def test_a_cohort_of_one_class_cannot_be_started(
    dock: Dock, tmp_path: Path, cells: dict[str, str], said: str
) -> None:
    dock.set_up(write_manifest(tmp_path, **cells), tmp_path / "m.safetensors")
    assert not dock.train.start_button.isEnabled()
    assert said in dock.tip
    assert said in dock.train.why.text()
    assert not dock.train.cohort.split.isVisibleTo(dock.train)


def test_a_patient_in_training_and_test_cannot_be_started(dock: Dock, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, SPLITS)
    manifest.write_text(manifest.read_text() + "\nJane Doe 0,other,p0.h5,test,normal")
    dock.set_up(manifest, tmp_path / "m.safetensors")
    assert not dock.train.start_button.isEnabled()
    assert "differs from" in dock.tip
    assert "Jane Doe 0" in dock.tip


def test_a_cohort_that_is_gone_is_told(dock: Dock, tmp_path: Path) -> None:
    dock.set_up(tmp_path / "gone.csv", tmp_path / "m.safetensors")
    assert dock.tip == "a .csv file: No such file or directory"
    dock.slide.names.setChecked(True)
    assert "gone.csv" in dock.tip
    assert not dock.train.start_button.isEnabled()


def test_features_that_are_not_there_are_told_before_the_start(dock: Dock, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, SPLITS)
    (tmp_path / "p0.h5").unlink()
    dock.set_up(manifest, tmp_path / "m.safetensors")
    assert "no features at" in dock.tip


def test_mixed_scales_are_told_before_the_start_and_can_be_accepted(
    dock: Dock, tmp_path: Path
) -> None:
    cohort = write_manifest(tmp_path, SPLITS)
    bag = make_bag(9)
    assert bag.grid is not None
    save_bag(tmp_path / "p9.h5", replace(bag, grid=replace(bag.grid, mpp=0.25)))
    dock.set_up(cohort, tmp_path / "m.safetensors")
    dock.wait(lambda: dock.train.cohort.feature_note.report is not None)
    assert not dock.train.start_button.isEnabled()
    assert "several µm per pixel, 0.25 (1 slide), 0.5 (11 slides)" in dock.tip
    assert "0.25 (1 slide)" in dock.train.cohort.feature_note.label.text()
    assert dock.train.cohort.mixed.isVisibleTo(dock.train)
    dock.train.cohort.mixed.setChecked(True)
    assert dock.train.start_button.isEnabled()
    assert dock.train.config().mixed_scales
    dock.open(write_folder(tmp_path / "bags", 10))
    dock.wait(lambda: dock.train.cohort.feature_note.report is not None)
    assert not dock.train.cohort.mixed.isVisibleTo(dock.train)


def test_equal_features_of_two_patients_cannot_be_started(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_manifest(tmp_path, SPLITS)
    save_bag(tmp_path / "p11.h5", make_bag(1))
    (tmp_path / "p3.h5").write_bytes(b"rotten")
    dock.set_up(cohort, tmp_path / "m.safetensors")
    dock.wait(lambda: dock.train.cohort.feature_note.report is not None)
    assert not dock.train.start_button.isEnabled()
    assert "2 patients have the same features (p1 and the file)" in dock.tip
    assert "unreadable features (1): the file" in dock.tip
    assert "p3.h5" not in dock.tip + dock.train.why.text()
    monkeypatch.setattr(NAMES, "shown", True)
    assert "2 patients have the same features (p1 and p11)" in dock.tip
    assert "p3.h5" in dock.tip


def test_two_runs_at_once_are_refused(ready: Dock) -> None:
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.until_epoch(1)
    assert not ready.train.start_button.isEnabled()
    assert "Something is running" in ready.tip
    shown = ready.epochs[0]
    ready.train.start()
    assert ready.epochs[0] is shown
    ready.until_epoch(len(ready.epochs) + 1)
    ready.train.job.cancel()
    ready.idle()


def test_closing_the_window_while_it_trains_ends_the_training(
    make_napari_viewer: Callable[[], Viewer], qtbot: QtBot, tmp_path: Path
) -> None:
    dock = Dock(make_napari_viewer(show=True), qtbot)
    out = tmp_path / "model.safetensors"
    dock.set_up(write_manifest(tmp_path, SPLITS), out, epochs=MANY)
    dock.train.start()
    dock.until_epoch(1)
    job = dock.train.job
    dock.viewer.close()
    qtbot.waitUntil(lambda: job._worker is None or not job._worker.is_running, timeout=1000)
    assert "not finished" in load_checkpoint(tmp_path / "model.unfinished.safetensors")[1].data


def test_a_loss_that_becomes_nan_is_told_and_nothing_false_is_shown(ready: Dock) -> None:
    ready.train.model.settings.field("lr").native.setMaximum(1e38)
    ready.train.model.settings.field("lr").max = 1e38
    ready.train.model.settings.field("lr").value = 1e38
    ready.train.start()
    ready.idle()
    assert ready.train.status.text().startswith("Training stopped: the ")
    assert "in epoch 1" in ready.train.status.text()
    assert "no earlier epoch could be kept" in ready.train.status.text()
    assert ready.train.results.said.text() == "Nothing is trained yet."
    assert not ready.train.results.use_button.isVisibleTo(ready.train)
    assert ready.train.start_button.isEnabled()


def test_a_disk_that_is_full_in_mid_run_leaves_the_last_good_checkpoint(
    ready: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[bytes] = []

    def save(path: Path, *given: Any) -> Any:
        if saved:
            raise CheckpointError(f"{path.name} could not be written: No space left on device")
        card = save_checkpoint(path, *given)
        saved.append(path.read_bytes())
        return card

    monkeypatch.setattr("napari_wsimil.training.checkpoint.save_checkpoint", save)
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.idle()
    text = ready.train.status.text()
    assert "No space left on device" in text
    assert text.endswith("The best weights so far are in model.unfinished.safetensors.")
    assert kept(ready).read_bytes() == saved[0]
    load_checkpoint(kept(ready))


def test_a_features_file_that_vanishes_in_mid_run_is_named(
    ready: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "IN_MEMORY", 0)
    ready.slide.names.setChecked(True)
    ready.train.model.settings.field("epochs").value = MANY
    ready.train.start()
    ready.until_epoch(2)
    (tmp_path / "p1.h5").unlink()
    ready.idle()
    assert "p1.h5" in ready.train.status.text()
    assert "The best weights so far are in" in ready.train.status.text()
    load_checkpoint(kept(ready))


def test_a_run_that_cannot_be_saved_is_told(ready: Dock, tmp_path: Path) -> None:
    ready.train.start()
    ready.idle()
    ready.train.save_run(tmp_path / "nowhere" / "run.json")
    ready.idle()
    assert isinstance(ready.train.job.error, OSError)
    assert ready.train.results.said.text() != "Nothing is trained yet."
    ready.train.save_run(tmp_path / "run.json")
    ready.idle()
    assert read_run(tmp_path / "run.json") == ready.train.config()


def test_a_study_keeps_what_the_dock_has_trained_or_the_dock_says_why_not(
    dock: Dock, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    planted_study(folder).close()
    dock.set_up(folder, folder / "models" / "one.safetensors", epochs=1)
    dock.train.start_button.click()
    dock.idle()
    assert dock.train.status.text() == "Trained and saved as one.safetensors."
    with open_study(folder) as study:
        assert [run.name for run in study.runs.read("P7")] == ["one.safetensors"]
    of_a_later_version(folder)
    dock.train.start_button.click()
    dock.idle()
    said = "Trained and saved as one.safetensors. Warning: the run was not added to the study"
    assert dock.train.status.text().startswith(said)
