"""TrainWidget: train a model on a cohort, watch it learn, and judge what came of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.train.cohort import CohortBox
from napari_wsimil.gui.docks.train.model import ModelBox
from napari_wsimil.gui.docks.train.progress import ProgressBox
from napari_wsimil.gui.docks.train.results import ResultsBox
from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.gui.widgets.basic import PathRow
from napari_wsimil.gui.widgets.dock import DockedWidget, allow, listen
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.models import model_class
from napari_wsimil.models.base import Need
from napari_wsimil.models.loaded import LoadedModel
from napari_wsimil.training.config import FoldRule, checked_run
from napari_wsimil.training.fit import TrainingError
from napari_wsimil.training.identity import unread_slides
from napari_wsimil.training.options import reads_records
from napari_wsimil.training.splits import gaps_of, split_of
from napari_wsimil.workflows.pipeline import model_job
from napari_wsimil.workflows.training import (
    OpenedCohort,
    TrainingStep,
    open_for_training,
    read_keys,
    save_run_job,
    train_job,
)

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.session import Session
    from napari_wsimil.progress import Progress
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.training.train import Prepared
    from napari_wsimil.workflows.training import Finished

_MEMORY = "train"
_BUSY = "Something is running: wait for it, or cancel it"


class TrainWidget(DockedWidget):
    """Trains in the background; its maps of a pinned slide go to the session's pane."""

    slide_wanted = Signal(Path)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = session.pane
        self._run: RunConfig | None = None
        self._prepared: Prepared | None = None
        self._chosen: tuple[Path | None, ...] = ()
        self._opened: OpenedCohort | None = None
        self._reader = LatestTask(self)
        self.job = JobRow(pausable=True)
        self.cohort, self.model = CohortBox(), ModelBox()
        self.progress, self.results = ProgressBox(session.pane), ResultsBox()
        self._build()
        self._connect()
        self._recall()
        self._choose_model()

    # build

    def _build(self) -> None:
        self.start_button = QPushButton("Start training")
        self.status, self.why = QLabel(), QLabel()
        for label in (self.status, self.why):
            label.setWordWrap(True)
            label.hide()
        self.out = PathRow("Save the model", "Models (*.safetensors)", "where?", to_write=True)
        self.pin = QCheckBox("Map of the open slide after each epoch")
        box = QGroupBox("Result")
        form = QFormLayout(box)
        form.addRow("Checkpoint", self.out)
        form.addRow(self.pin)
        self.setup_page = _page(self.cohort, self.model, box)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.setup_page, "Set up")
        self.tabs.addTab(_page(self.progress), "Progress")
        self.tabs.addTab(_page(self.results), "Results")
        for widget in (self.start_button, self.why, self.job, self.status):
            self.column.addWidget(widget)
        self.column.addWidget(self.tabs, 1)

    def _connect(self) -> None:
        self.start_button.clicked.connect(self.start)
        self.model.model.currentTextChanged.connect(self._choose_model)
        self.cohort.task.currentIndexChanged.connect(self._choose_task)
        for box in (self.cohort, self.model, self.out):
            box.changed.connect(self._refresh)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._end)
        self.results.use_button.clicked.connect(self.use_model)
        self.results.save_button.clicked.connect(self._ask_run)
        self.results.slide_wanted.connect(self.slide_wanted)
        listen(self, self._refresh_on_event, self._pane.slide_state.events.bag)
        NAMES.events.shown.connect(self._refresh_on_event)

    def _recall(self) -> None:
        """Fill in what was trained last, if it is still a run."""
        try:
            run = checked_run(memory.recall(_MEMORY, {}))
        except ValueError:
            return
        self.model.take(dict(run))
        self.cohort.take(dict(run))

    # act

    def config(self) -> RunConfig:
        """Return the run that is set up.

        Raises
        ------
        ValueError
            If something is missing or does not fit, in one sentence.
        """
        if self.cohort.path is None:
            raise ValueError("Open a cohort first")
        if self.out.path is None:
            raise ValueError("Choose where the checkpoint goes")
        values: dict[str, Any] = {"out": self.out.path, "fold_rule": FoldRule.SLIDES}
        return checked_run(values | self.cohort.values | self.model.values, "Training")

    def start(self) -> None:
        """Train what is set up; refused with a sentence while something runs."""
        run = self.config()
        bag = self._pane.bag if self.pin.isEnabled() and self.pin.isChecked() else None
        if not self.job.busy:
            self._begin(run, bag)
        self.job.run(train_job(run, bag), self._finish, self._take)

    def _begin(self, run: RunConfig, bag: Bag | None) -> None:
        memory.remember(_MEMORY, json.loads(run.model_dump_json()))
        self._run, self._prepared = run, None
        self._say("")
        self.results.clear()
        self.progress.start(bag)
        self.tabs.setCurrentIndex(1)

    def _take(self, step: Progress) -> None:
        if isinstance(step, TrainingStep) and step.prepared is not None:
            self._prepared = step.prepared
        self.progress.take(step)

    def _finish(self, finished: Finished) -> None:
        trained = finished.trained
        loaded = LoadedModel(trained.model, trained.card, trained.path.stem)
        self.progress.finish(finished, loaded)
        self.results.show_trained(trained)
        notes = [*trained.card.notes, *filter(None, [trained.unnoted])]
        warnings = "".join(f" Warning: {note}." for note in notes)
        self._say(f"Trained and saved as {trained.path.name}.{warnings}")
        self.tabs.setCurrentIndex(2)

    def use_model(self) -> None:
        """Open the trained model as that of the viewer, in the background."""
        if self._run is not None:
            self.job.run(model_job(self._run.out), self._pane.show_model)

    def save_run(self, path: Path) -> None:
        """Write what is set up, or was trained last, for the command line."""
        run = self._run or self.config()
        self.job.run(save_run_job(path, run), lambda _: self._say(f"Saved {path.name}."))

    def _ask_run(self) -> None:
        start = str(Path(memory.last_folder()) / "run.json")
        path, _ = QFileDialog.getSaveFileName(self, "Save the run", start, "Runs (*.json)")
        if path:
            self.save_run(Path(path))

    # show

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setVisible(bool(text))

    def _choose_model(self) -> None:
        looks_closer = Need.FINER in model_class(self.model.name).needs
        self.cohort.choose_model(reads_records(self.model.name), looks_closer)
        self._refresh()

    def _choose_task(self) -> None:
        self.model.choose_task(self.cohort.task.currentData())

    def _end(self) -> None:
        """Say why a training did not come to its end, and what is left of it."""
        if self.progress.running:
            self._say(f"{self._reason()} {self._left()}")
            self.progress.stop()
        self._refresh()

    def _reason(self) -> str:
        error = self.job.error
        return "Stopped." if error is None else f"Training stopped: {_sentence(error)}."

    def _left(self) -> str:
        """Return where weights are left; a `TrainingError` says it itself."""
        unfinished = None if self._prepared is None else self._prepared.unfinished
        if unfinished is None or unfinished.epoch is None:
            return "" if isinstance(self.job.error, TrainingError) else "Nothing was kept."
        return f"The best weights so far are in {unfinished.path.name}."

    def _refresh_on_event(self, _: object) -> None:
        if isalive(self):
            self._refresh()

    def _refresh(self) -> None:
        manifest, why = self._cohort()
        self.cohort.show_cohort(manifest, why)
        if manifest is None:
            self.cohort.show_split(None, None)
        else:
            why = self._show_split(manifest, why)
        problem = self.cohort.check_features(manifest)
        why = why or problem
        busy, known = self.job.busy, self._run is not None
        self.why.setText("" if busy or self.cohort.path is None else why)
        self.why.setVisible(bool(self.why.text()))
        does = "Trains in the background; the window stays free"
        allow(self.start_button, not (why or busy), _BUSY if busy else why, does)
        self.setup_page.setEnabled(not busy)
        does = "Open the checkpoint as the model of the Explain dock"
        allow(self.results.use_button, not busy, _BUSY, does)
        does = "For `napari-wsimil train --config`: the same numbers again"
        why = _BUSY if busy else "Train first"
        allow(self.results.save_button, known and not busy, why, does)
        self._allow_pin()

    @property
    def reading(self) -> bool:
        """Whether a cohort is being read in the background."""
        return self._reader.busy

    def _cohort(self) -> tuple[Manifest | None, str]:
        """Return the cohort, or why there is none; it is read anew only if another is chosen."""
        path, features = self.cohort.path, self.cohort.features.path
        if path is None:
            return None, "Open a cohort first"
        chosen = (path, self.cohort.values.get("record_schema"), features)
        if chosen != self._chosen:
            self._chosen, self._opened = chosen, None
            self._reader.run(partial(open_for_training, *chosen), self._take_cohort, self._fail)
        if self._opened is None:
            return None, "Reading the cohort"
        error = self._opened.error
        return self._opened.cohort, "" if error is None else _sentence(error)

    def _take_cohort(self, opened: OpenedCohort) -> None:
        self._opened = opened
        self._refresh_on_event(opened)

    def _fail(self, text: str) -> None:
        self._take_cohort(OpenedCohort(error=ValueError(text)))

    def _show_split(self, manifest: Manifest, why: str) -> str:
        """Show the split; return what a run still lacks, or nothing."""
        fold = None
        lacking: tuple[str, ...] = ()
        if self._reads_keys(manifest):
            self.cohort.show_split(manifest, None)
            return "Reading the slides' fingerprints, which the folds hang on"
        try:
            run = self.config()
            fold = split_of(run, manifest)
            lacking = gaps_of(run, manifest, fold)
        except (ValueError, OSError) as error:
            why = _sentence(error)
        self.cohort.show_split(manifest, fold, lacking)
        return why

    def _reads_keys(self, manifest: Manifest) -> bool:
        """Return whether keys of slides are read anew, since their files have changed."""
        features = self.cohort.features.path
        unread = unread_slides(manifest, features)
        if unread and not self._reader.busy:
            work = partial(read_keys, manifest, features)
            self._reader.run(work, self._refresh_on_event, self._say)
        return unread > 0

    def _allow_pin(self) -> None:
        bag, encoder = self._pane.bag, self._opened.encoder if self._opened else ""
        why = ""
        if Need.FINER in model_class(self.model.name).needs:
            why = f"{self.model.name} looks closer at slides: too long to wait for at each epoch"
        elif bag is None or bag.grid is None:
            why = "Open a slide and its features in the Slide dock first"
        elif encoder and bag.encoder != encoder:
            why = f"The slide's features are of {_short(bag.encoder)}, not {_short(encoder)}"
        self.pin.setEnabled(not why)
        self.pin.setToolTip(why or "Shows where the model looks as it learns; takes some time")


def _page(*boxes: QWidget) -> QWidget:
    page = QWidget()
    inside = QVBoxLayout(page)
    inside.setContentsMargins(0, 4, 0, 0)
    for box in boxes:
        inside.addWidget(box)
    inside.addStretch(1)
    return page


def _sentence(error: BaseException) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return NAMES.words(error)
    if not error.filename:
        return error.strerror
    name = error.filename if NAMES.shown else NAMES.of(Path(error.filename))
    return f"{name}: {error.strerror}"


def _short(encoder: str) -> str:
    return encoder.partition("@")[0] or "an unnamed encoder"
