"""ExplainWidget: ask a model about the slide, and read what it says and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.explain.attention import AttentionTab
from napari_wsimil.gui.docks.explain.branches import BranchesTab
from napari_wsimil.gui.docks.explain.details import FactsTab
from napari_wsimil.gui.docks.explain.map_controls import MapBox
from napari_wsimil.gui.docks.explain.occlusion import EffectTab
from napari_wsimil.gui.docks.explain.patches import PatchesTab
from napari_wsimil.gui.docks.explain.query import AskTab
from napari_wsimil.gui.docks.explain.review import ReviewRow
from napari_wsimil.gui.docks.explain.slides import SlidesTab
from napari_wsimil.gui.docks.explain.trajectory import StepsTab
from napari_wsimil.gui.prediction_saver import PredictionSaver
from napari_wsimil.gui.widgets.dock import DockedWidget, allow, listen, while_shown
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.workflows.analysis import PartialMap, analyze_job, seen_job
from napari_wsimil.workflows.pipeline import model_job

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import EpisodeProgress, Prediction
    from napari_wsimil.gui.docks.explain.tab import Tab
    from napari_wsimil.gui.session import Session
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.progress import Progress
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.workflows.analysis import Analysis


class ExplainWidget(DockedWidget):
    """Sets model and prediction of the session's pane; its tabs are what the model gives."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = session.pane
        self._seen: tuple[Slide | None, EpisodeProgress] | None = None
        self._bars: dict[str, QProgressBar] = {}
        self.saver, self.review = PredictionSaver(session), ReviewRow(session)
        self.job = JobRow()
        self.map = MapBox(session, self.job)
        self.patches = PatchesTab(self._pane, self.job)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.ask = AskTab(self._pane)
        self.attention = AttentionTab(self._pane)
        self.steps = StepsTab(self._pane)
        self.effect = EffectTab(self._pane)
        self.facts = FactsTab(self._pane)
        self.branches = BranchesTab(self._pane)
        self.slides = SlidesTab(session)
        self._each: tuple[Tab, ...] = (
            *(self.patches, self.ask, self.steps, self.attention, self.branches),
            *(self.effect, self.facts, self.slides),
        )
        for tab in self._each:
            self.tabs.addTab(tab, tab.name)
        self.column.addWidget(self._build_model())
        self.column.addWidget(self.job)
        self.column.addWidget(self.map)
        self.column.addWidget(self.tabs, 1)
        self._connect()
        self._show_prediction(self._pane.prediction)
        self._refresh()

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        """Return all that may run here."""
        return (self.job, *(job for tab in self._each for job in tab.jobs))

    @property
    def asking(self) -> bool:
        """Whether a click or a step still waits for its answer, or an answer to be kept."""
        waiting = self.ask.asking, self.steps.replaying, self.saver, self.review
        return self.patches.waiting or any(
            one.busy for one in (*waiting, self.patches.card.reading)
        )

    # build

    def _build_model(self) -> QGroupBox:
        self.model_button = QPushButton("Open model…")
        self.model_facts = QLabel("No model is open.")
        self.model_facts.setWordWrap(True)
        self.run_button = QPushButton("Run")
        box = QGroupBox("Model")
        inside = QVBoxLayout(box)
        row = QHBoxLayout()
        row.addWidget(self.model_button)
        row.addWidget(self.run_button)
        inside.addLayout(row)
        inside.addWidget(self.model_facts)
        inside.addWidget(self._build_answer())
        return box

    def _build_answer(self) -> QWidget:
        self.answer = QFormLayout()
        self.warnings = QLabel()
        self.warnings.setWordWrap(True)
        self.warnings.setStyleSheet("color: #e69f00")
        self.answer_box = QWidget()
        inside = QVBoxLayout(self.answer_box)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addLayout(self.answer)
        inside.addWidget(self.warnings)
        inside.addWidget(self.review)
        return self.answer_box

    def _connect(self) -> None:
        self.model_button.clicked.connect(self._ask_model)
        self.run_button.clicked.connect(self.run)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        self.job.finished.connect(self._keep_seen)
        self.slides.answered.connect(self.saver.save)
        listen(self, self._tell_unkept, self.saver.failed)
        listen(self, self.saver.take, self._pane.prediction_state.events.final_prediction)
        self.review.failed.connect(self._tell_unkept)
        events = self._pane.prediction_state.events
        listen(self, self._refresh, self._pane.slide_state.events.slide, events.model)
        listen(self, self._show_prediction, events.prediction)
        listen(self, self._offer_tabs, self._pane.record_state.events.case)

    # act

    def open_model(self, path: Path) -> None:
        """Load a checkpoint in the background."""
        self.job.run(model_job(path), self._pane.show_model)

    def run(self) -> None:
        """Ask the model about the slide in the background; the map grows meanwhile."""
        slide, model = self._pane.slide, self._pane.model
        if slide is None or model is None:
            return
        if self._pane.prediction is not None and not self.job.busy:
            self._pane.prediction_state.stale = "a new run is under way"
        self._seen = None
        self.job.run(
            analyze_job(slide, model, self._pane.tissue, self._pane.bag, self._pane.record),
            while_shown(self._pane, self._show_analysis),
            while_shown(self._pane, self._show_partial),
        )

    def _ask_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a model", memory.last_folder(), "Models (*.safetensors);;All files (*)"
        )
        if path:
            self.open_model(Path(path))

    def _show_analysis(self, found: Analysis) -> None:
        pane = self._pane
        if found.tissue is not pane.tissue:
            pane.show_tissue(found.tissue)
        if found.bag is not pane.bag:
            pane.show_bag(found.bag)
        self._seen = None
        pane.show_answer(found.prediction)

    def _show_partial(self, step: Progress) -> None:
        if not isinstance(step, PartialMap):
            return
        self._seen = None if step.episode is None else (self._pane.slide, step.episode)
        if step.prediction is not None:
            self._pane.show_partial(step.prediction)

    def _keep_seen(self) -> None:
        """After a run that was stopped between looks show all that was seen until then."""
        kept, self._seen = self._seen, None
        if kept is not None and kept[0] is self._pane.slide and not self.job.busy:
            self.job.run(seen_job(kept[1]), while_shown(self._pane, self._show_seen))

    def _show_seen(self, prediction: Prediction) -> None:
        if self._pane.bag is None:  # made in the run that was stopped: it need not be made again
            self._pane.show_bag(prediction.bag)
        self._pane.show_prediction(prediction)

    # show

    def _show_prediction(self, prediction: Prediction | None) -> None:
        self.answer_box.setVisible(prediction is not None)
        self.tabs.setVisible(prediction is not None)
        warnings = "\n".join(prediction.warnings if prediction else ())
        if warnings != self.warnings.text():
            self.warnings.setText(warnings)
        self.warnings.setVisible(bool(warnings))
        if prediction is None:
            return
        self._name(prediction.card.outcomes)
        for bar, chance in zip(self._bars.values(), prediction.probabilities.tolist(), strict=True):
            bar.setValue(round(1000 * chance))
            bar.setFormat(f"{chance:.1%}")
        self._offer_tabs()

    def _name(self, outcomes: tuple[str, ...]) -> None:
        """Lay out a bar for each outcome, unless they are there."""
        if outcomes == tuple(self._bars):
            return
        while self.answer.rowCount():
            self.answer.removeRow(0)
        self._bars = {name: QProgressBar() for name in outcomes}
        for name, bar in self._bars.items():
            bar.setRange(0, 1000)
            self.answer.addRow(name, bar)

    def _tell_unkept(self, words: str) -> None:
        self.warnings.setText(f"The study does not keep this: {words}")
        self.warnings.show()

    def _offer_tabs(self, _: object = None) -> None:
        prediction = self._pane.prediction
        if prediction is not None:
            for number, tab in enumerate(self._each):
                self.tabs.setTabVisible(number, tab.fits(prediction))

    def _refresh(self, _: object = None) -> None:
        slide, model, busy = self._pane.slide, self._pane.model, self.job.busy
        missing = "Open a slide first" if slide is None else "Open a model first"
        ready = slide is not None and model is not None
        why = "Something is running" if busy else missing
        allow(
            self.run_button,
            ready and not busy,
            why,
            "Cut patches, extract features and run the model",
        )
        allow(self.model_button, not busy, why, "A checkpoint with its card (.safetensors)")
        self.model_facts.setText("No model is open." if model is None else _model_facts(model))
        self.model_facts.setToolTip("" if model is None else f"Learned from: {model.card.data}")
        if not busy and self._pane.prediction_state.stale:
            self._pane.prediction_state.stale = "the run that was to replace it did not end"


def _model_facts(model: LoadedModel) -> str:
    card = model.card
    outcomes = ", ".join(card.classes)
    encoder = card.encoder.partition("@")[0] or "an unnamed encoder"
    made = ", trained on <b>synthetic</b> slides" if card.synthetic else ""
    return f"<b>{card.model}</b> on {encoder}: {outcomes}{made}"
