"""FeatureBox: features of the slide, made here or read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QLabel,
    QMessageBox,
    QPushButton,
    QWidget,
)

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.encoders.factory import BUILT_IN, KNOWN
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.widgets.dock import allow, listen, while_shown
from napari_wsimil.slides.placeholder import is_blank
from napari_wsimil.workflows.analysis import PartialMap, extract_and_ask_job, plan_job
from napari_wsimil.workflows.load_features import blank_job, features_job, passport_words

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.widgets.job_row import JobRow
    from napari_wsimil.progress import Progress
    from napari_wsimil.workflows.analysis import ExtractionPlan
    from napari_wsimil.workflows.load_features import Laid

_FEATURES = "Features (*.h5 *.hdf5 *.pt)"
_SAVED = "Features (*.h5)"
_WEIGHTS = "Weights (*.safetensors *.onnx *.bin *.pth);;All files (*)"
_WITH_FILE = ("onnx", *KNOWN)
#: Work above this many hours is asked about before it starts.
_LONG = 1 / 60


class FeatureBox(QGroupBox):
    """Sets the features of a pane; its jobs run in the row it is given."""

    def __init__(self, pane: Pane, job: JobRow, parent: QWidget | None = None) -> None:
        super().__init__("Features", parent)
        self._pane, self._job = pane, job
        self.encoder = QComboBox()
        self.encoder.setToolTip("What turns a patch into numbers; nothing is downloaded here")
        self.encoder.addItem(f"{BUILT_IN} (built in)", BUILT_IN)
        for name in _WITH_FILE:
            self.encoder.addItem(f"{name} (weights file)", name)
        self.extract_button = QPushButton("Extract and save…")
        self.load_button = QPushButton("Open features…")
        self.facts, self.passport = QLabel(), QLabel()
        for label in (self.facts, self.passport):
            label.setWordWrap(True)
        self.passport.setTextFormat(Qt.TextFormat.PlainText)
        self._laid: Laid | None = None
        form = QFormLayout(self)
        form.addRow("Encoder", self.encoder)
        form.addRow(self.extract_button)
        form.addRow(self.load_button)
        form.addRow(self.facts)
        form.addRow(self.passport)
        self.extract_button.clicked.connect(self._ask_extract)
        self.load_button.clicked.connect(self._ask_features)
        job.started.connect(self._refresh)
        job.finished.connect(self._refresh)
        events = pane.slide_state.events
        listen(self, self._refresh, events.slide, events.grid, events.bag)
        self._refresh()

    def open(self, path: Path, facts: str = "") -> None:
        """Read the features of the open slide from a file in the background.

        Without a slide they are shown on a blank one. `facts` is what was confirmed of the
        file, see `SlideRow.feature_facts`.
        """
        slide = self._pane.slide
        bare = slide is None or is_blank(slide)
        job = blank_job(path, facts) if slide is None or bare else features_job(path, slide, facts)
        self._job.run(job, while_shown(self._pane, self.show))

    def show(self, laid: Laid) -> None:
        """Show features with their passport, on the slide that they are laid on."""
        before, pane = self._pane.slide, self._pane
        if laid.slide is not before:
            pane.show_slide(laid.slide)
        self._laid = laid
        pane.show_bag(laid.bag)
        if before is not None and laid.slide is not before:
            before.close()

    def extract(self, path: Path, weights: Path | None = None) -> None:
        """Encode the patches in the background into `path`; resumes a stopped run.

        What it takes is measured first, and long work is asked about before it starts.
        """
        slide, grid = self._pane.slide, self._pane.grid
        if slide is not None and grid is not None:
            job = plan_job(slide, grid, self.encoder.currentData(), weights, path)
            self._job.run(job, while_shown(self._pane, self._confirm))

    def _confirm(self, plan: ExtractionPlan) -> None:
        slide = self._pane.slide
        if slide is not None and (plan.cost.hours < _LONG or self._agreed(plan)):
            job = extract_and_ask_job(slide, plan, self._pane.model, self._pane.record)
            self._job.run(
                job,
                while_shown(self._pane, self._show),
                while_shown(self._pane, self._show_partial),
            )

    def _show(self, found: tuple[Bag, Prediction | None]) -> None:
        bag, prediction = found
        self._pane.show_bag(bag)
        if prediction is not None:
            self._pane.show_answer(prediction)

    def _agreed(self, plan: ExtractionPlan) -> bool:
        text = (
            f"Encoding {len(plan.grid)} patches with {plan.encoder.card.name} takes about "
            f"{_duration(plan.cost.hours)} and {plan.cost.gigabytes:.2g} GB on this machine. Start?"
        )
        yes = QMessageBox.StandardButton.Yes
        return bool(QMessageBox.question(self, "Extract features", text) == yes)

    def _show_partial(self, step: Progress) -> None:
        if isinstance(step, PartialMap) and step.prediction is not None:
            self._pane.show_partial(step.prediction)

    def _ask_extract(self) -> None:
        weights = ""
        if self.encoder.currentData() != BUILT_IN:
            title = f"Weights of {self.encoder.currentData()}"
            weights, _ = QFileDialog.getOpenFileName(self, title, memory.last_folder(), _WEIGHTS)
            if not weights:
                return
        start = str(Path(memory.last_folder()) / "features.h5")
        path, _ = QFileDialog.getSaveFileName(self, "Save features", start, _SAVED)
        if path:
            self.extract(Path(path), Path(weights) if weights else None)

    def _ask_features(self) -> None:
        folder = memory.last_folder()
        path, _ = QFileDialog.getOpenFileName(self, "Open features", folder, _FEATURES)
        if path:
            self.open(Path(path))

    def _refresh(self, _: object = None) -> None:
        busy, pane = self._job.busy, self._pane
        blank = pane.slide is not None and is_blank(pane.slide)
        why = "There is no slide to encode" if blank else "Create patches first"
        why = "Something is running" if busy else why
        allow(self.extract_button, pane.grid is not None and not busy and not blank, why)
        tip = "Without a slide they are shown on a blank grid"
        allow(self.load_button, not busy, "Something is running", tip)
        self.facts.setText(_facts(pane.bag))
        laid = self._laid if self._laid is not None and self._laid.bag is pane.bag else None
        self.passport.setVisible(laid is not None)
        if laid is not None:
            self.passport.setText(_passport(laid))
            self.passport.setToolTip(passport_words(laid.passport))


def _facts(bag: Bag | None) -> str:
    if bag is None:
        return ""
    encoder = bag.encoder.partition("@")[0] or "an unnamed encoder"
    return f"{len(bag)} × {bag.features.shape[1]} by {encoder}"


def _passport(laid: Laid) -> str:
    """Return what the checks of a passport came to, and why for those that did not pass."""
    shown = laid.passport
    came = ", ".join(f"{check.name} {check.verdict}" for check in shown.checks)
    told = [c.sentence for c in shown.checks if c.verdict is Verdict.WARNED]
    words = [f"Passport ({shown.tool}): {came}", *told, *shown.notes]
    return "\n".join(words)


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"
