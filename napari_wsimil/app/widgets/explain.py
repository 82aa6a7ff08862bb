"""ExplainWidget: ask a model about the slide, and read its maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.app import memory
from napari_wsimil.app.session import Stretch
from napari_wsimil.app.widgets.docked import DockedWidget, while_shown
from napari_wsimil.app.widgets.job import JobRow
from napari_wsimil.app.widgets.patches import TopPatches, pictures_job
from napari_wsimil.app.work import analyze_job, export_job, model_job

if TYPE_CHECKING:
    from napari_wsimil.app.session import LoadedModel, Session
    from napari_wsimil.app.work import Analysis, Step
    from napari_wsimil.explain.predict import Prediction

_STRETCHES = {
    Stretch.NATURAL: "as the model gives it (× uniform)",
    Stretch.RAW: "raw numbers",
    Stretch.RANKS: "percentile (ranks only)",
}
_EXPORTS = "QuPath tiles (*.geojson);;Table (*.csv);;Picture (*.png)"


class ExplainWidget(DockedWidget):
    """Sets model, prediction and display of the session's pane."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = session.pane
        self.job = JobRow()
        self.pictures = JobRow()
        self._pictured: tuple[object, ...] = ()
        self.column.addWidget(self._build_model())
        self.column.addWidget(self.job)
        self.column.addWidget(self._build_answer())
        self.column.addWidget(self._build_map())
        self.column.addWidget(self._build_patches(), 1)
        self._connect()
        self._show_prediction(self._pane.prediction)
        self._refresh()

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
        return box

    def _build_answer(self) -> QGroupBox:
        self.answer = QFormLayout()
        self.warnings = QLabel()
        self.warnings.setWordWrap(True)
        self.warnings.setStyleSheet("color: #e69f00")
        box = QGroupBox("Probabilities")
        inside = QVBoxLayout(box)
        inside.addLayout(self.answer)
        inside.addWidget(self.warnings)
        self.answer_box = box
        return box

    def _build_map(self) -> QGroupBox:
        self.maps = QComboBox()
        self.stretch = QComboBox()
        for stretch, text in _STRETCHES.items():
            self.stretch.addItem(text, stretch)
        self.opacity = _slider(60, "How much the map covers the tissue, in %; hold H to hide it")
        self.threshold = _slider(0, "Patches below this share of the color bar are left clear")
        self.export_button = QPushButton("Export map…")
        self.export_button.setToolTip("Tiles for QuPath, a table or a picture; names no patient")
        box = QGroupBox("Map")
        form = QFormLayout(box)
        form.addRow("Show", self.maps)
        form.addRow("Scale", self.stretch)
        form.addRow("Opacity", self.opacity)
        form.addRow("Threshold", self.threshold)
        form.addRow(self.export_button)
        self.map_box = box
        return box

    def _build_patches(self) -> QGroupBox:
        self.patches = TopPatches()
        box = QGroupBox("First patches of this map")
        inside = QVBoxLayout(box)
        inside.addWidget(self.patches)
        self.patches_box = box
        return box

    def _connect(self) -> None:
        self.model_button.clicked.connect(self._ask_model)
        self.run_button.clicked.connect(self.run)
        self.maps.activated.connect(self._choose_map)
        self.stretch.activated.connect(self._choose_map)
        self.opacity.valueChanged.connect(self._choose_shade)
        self.threshold.valueChanged.connect(self._choose_shade)
        self.export_button.clicked.connect(self._ask_export)
        self.patches.chosen.connect(self._focus)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        self.job.finished.connect(self._show_patches)
        self.pictures.finished.connect(self._show_patches)
        events = self._pane.events
        events.slide.connect(self._refresh_on_event)
        events.model.connect(self._refresh_on_event)
        events.prediction.connect(self._show_prediction)

    # act

    def open_model(self, path: Path) -> None:
        """Load a checkpoint in the background."""
        self.job.run(model_job(path), self._pane.show_model)

    def run(self) -> None:
        """Ask the model about the slide in the background; the map grows meanwhile."""
        slide, model = self._pane.slide, self._pane.model
        if slide is not None and model is not None:
            job = analyze_job(slide, model, self._pane.tissue, self._pane.bag)
            self.job.run(
                job,
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
        pane.show_prediction(found.prediction)

    def _show_partial(self, step: Step) -> None:
        if step.partial is not None:
            self._pane.show_partial(step.partial)

    def _choose_map(self) -> None:
        self._pane.display = replace(
            self._pane.display,
            map_index=max(0, self.maps.currentIndex()),
            stretch=self.stretch.currentData(),
        )
        self._show_patches()

    def _choose_shade(self) -> None:
        self._pane.display = replace(
            self._pane.display,
            opacity=self.opacity.value() / 100,
            threshold=self.threshold.value() / 100,
        )

    def _focus(self, patch: int) -> None:
        self._pane.focus = None
        self._pane.focus = patch

    def _ask_export(self) -> None:
        start = str(Path(memory.last_folder()) / "map.geojson")
        path, _ = QFileDialog.getSaveFileName(self, "Export the map", start, _EXPORTS)
        if path and self._pane.prediction is not None:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the prediction's maps to a file in the background."""
        if self._pane.prediction is not None:
            job = export_job(
                self._pane.prediction, path, self.maps.currentText(), self._pane.display.stretch
            )
            self.job.run(job, lambda _: show_info("The map was written."))

    # show

    def _show_prediction(self, prediction: Prediction | None) -> None:
        if not isalive(self):
            return
        for box in (self.answer_box, self.map_box, self.patches_box):
            box.setVisible(prediction is not None)
        self.warnings.setText("\n".join(prediction.warnings if prediction else ()))
        self.warnings.setVisible(bool(self.warnings.text()))
        while self.answer.rowCount():
            self.answer.removeRow(0)
        if prediction is None:
            self.patches.clear()
            return
        chances = zip(prediction.card.outcomes, prediction.probabilities.tolist(), strict=True)
        for name, chance in chances:
            self.answer.addRow(name, _bar(chance))
        self._show_maps([prediction.title(one) for one in prediction.explanations])
        self._show_patches()

    def _show_maps(self, names: list[str]) -> None:
        if names != [self.maps.itemText(i) for i in range(self.maps.count())]:
            self.maps.clear()
            self.maps.addItems(names)
        self.maps.setCurrentIndex(self._pane.display.map_index)

    def _show_patches(self) -> None:
        """Read the first patches of the shown map, unless a job or a reading still runs."""
        slide, prediction = self._pane.slide, self._pane.prediction
        shown = (prediction, self._pane.display.map_index, self._pane.display.stretch)
        if slide is None or prediction is None or prediction.bag.grid is None:
            return
        if self.job.busy or self.pictures.busy or shown == self._pictured:
            return
        self._pictured = shown
        job = pictures_job(slide, prediction, self._pane.display)
        self.pictures.run(job, while_shown(self._pane, self.patches.show_pictures))

    def _refresh_on_event(self, _: object) -> None:
        if isalive(self):
            self._refresh()

    def _refresh(self) -> None:
        slide, model, busy = self._pane.slide, self._pane.model, self.job.busy
        ready = slide is not None and model is not None and not busy
        self.run_button.setEnabled(ready)
        missing = "Open a slide first" if slide is None else "Open a model first"
        self.run_button.setToolTip("Cut, encode and ask the model" if ready else missing)
        self.model_button.setEnabled(not busy)
        if model is not None:
            self.model_facts.setText(_model_facts(model))


def _slider(value: int, tip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, 100)
    slider.setValue(value)
    slider.setToolTip(tip)
    return slider


def _bar(chance: float) -> QProgressBar:
    bar = QProgressBar()
    bar.setRange(0, 1000)
    bar.setValue(round(1000 * chance))
    bar.setFormat(f"{chance:.1%}")
    return bar


def _model_facts(model: LoadedModel) -> str:
    card = model.card
    lines = [f"<b>{card.model}</b> on {card.encoder.partition('@')[0]}: {', '.join(card.classes)}"]
    lines.append(f"Learned from: {card.data}")
    if card.synthetic:
        lines.append("<b>Synthetic</b>: trained on drawn slides, not on patients")
    return "<br>".join(lines)
