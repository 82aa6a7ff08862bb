"""MapBox: which map is shown, and how."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QWidget,
)

from napari_wsimil.explain.color_scale import Stretch
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.compare.controls import BesideBox
from napari_wsimil.gui.widgets.dock import listen, narrow
from napari_wsimil.study.audit_log import Act
from napari_wsimil.workflows.analysis import export_job

if TYPE_CHECKING:
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.widgets.job_row import JobRow

_STRETCHES = {
    Stretch.NATURAL: "× average",
    Stretch.RAW: "raw numbers",
    Stretch.RANKS: "percentile (ranks only)",
}
_EXPORTS = "QuPath tiles (*.geojson);;Table (*.csv);;Picture (*.png)"


class MapBox(QGroupBox):
    """Sets the display of a session's pane; exports run in the row it is given."""

    def __init__(self, session: Session, job: JobRow, parent: QWidget | None = None) -> None:
        super().__init__("Map", parent)
        self._session, self._pane, self._job = session, session.pane, job
        self.beside = BesideBox(session, job)
        self._build()
        self.maps.activated.connect(self._choose)
        self.stretch.activated.connect(self._choose)
        for slider in (self.opacity, self.threshold):
            slider.valueChanged.connect(self._shade)
        for box in (self.smooth, self.outlined):
            box.toggled.connect(self._shade)
        self.export_button.clicked.connect(self._ask_export)
        events = self._pane.prediction_state.events
        listen(self, self._show, events.prediction, events.extras)
        listen(self, self._show, self._pane.view_state.events.display)
        self._show()

    def _build(self) -> None:
        self.maps = QComboBox()
        narrow(self.maps)
        self.maps.setToolTip("Maps of the slide, then maps of queries, edits and differences")
        self.stretch = QComboBox()
        narrow(self.stretch)
        for stretch, text in _STRETCHES.items():
            self.stretch.addItem(text, stretch)
        tip = "Times the attention of the average patch, that is × uniform"
        natural = self.stretch.findData(Stretch.NATURAL)
        self.stretch.setItemData(natural, tip, Qt.ItemDataRole.ToolTipRole)
        self.stretch.setToolTip(f"× average: {tip[0].lower()}{tip[1:]}")
        self.opacity = _slider(60, "Opacity of the map in %; hold H to hide the map")
        self.threshold = _slider(
            0, "Patches below this share of the color bar, in %, are transparent"
        )
        self.smooth = QCheckBox("Smooth")
        self.smooth.setToolTip(
            "Interpolate colors between patches, for display only; the map is labeled as smoothed"
        )
        self.outlined = QCheckBox("Outline choices")
        self.outlined.setChecked(True)
        self.outlined.setToolTip("Outline the patches or regions that the model chose")
        self.export_button = QPushButton("Export…")
        self.export_button.setToolTip("Tiles for QuPath, a table or a picture; names no patient")
        row = QHBoxLayout()
        row.addWidget(self.smooth)
        row.addWidget(self.outlined)
        row.addStretch(1)
        row.addWidget(self.export_button)
        form = QFormLayout(self)
        form.addRow("Show", self.maps)
        form.addRow("Scale", self.stretch)
        form.addRow("Compare", self.beside)
        shades = QHBoxLayout()
        shades.addWidget(self.opacity)
        shades.addWidget(QLabel("Threshold"))
        shades.addWidget(self.threshold)
        form.addRow("Opacity", shades)
        form.addRow(row)

    def export(self, path: Path) -> None:
        """Write the maps that can be chosen here to a file in the background."""
        shown = self._pane.shown
        if shown is not None:
            job = export_job(shown, path, self.maps.currentText(), self._pane.display.stretch)
            self._job.run(job, partial(self._tell_export, shown.card.weights))

    def _tell_export(self, weights: str, written: Path) -> None:
        """Say that a map was written, and note in the open study that it left."""
        show_info("The map was written.")
        study, case = self._session.study, self._pane.case
        if study is not None and not study.read_only:
            patient = "" if case is None else case.patient
            left = partial(study.ledger.left, Act.EXPORTED, written, patient=patient)
            log = partial(left, identifying=False, model=weights)
            self._session.writes.submit(log, failed=show_error)

    def _choose(self) -> None:
        self._pane.view_state.display = replace(
            self._pane.display,
            map_index=max(0, self.maps.currentIndex()),
            stretch=self.stretch.currentData(),
        )

    def _shade(self) -> None:
        self._pane.view_state.display = replace(
            self._pane.display,
            opacity=self.opacity.value() / 100,
            threshold=self.threshold.value() / 100,
            smooth=self.smooth.isChecked(),
            outlined=self.outlined.isChecked(),
        )

    def _ask_export(self) -> None:
        start = str(Path(memory.last_folder()) / "map.geojson")
        path, _ = QFileDialog.getSaveFileName(self, "Export the map", start, _EXPORTS)
        if path:
            self.export(Path(path))

    def _show(self, _: object = None) -> None:
        shown = self._pane.shown
        self.setVisible(shown is not None)
        if shown is None:
            return
        names = [shown.title(one) for one in shown.explanations]
        if names != [self.maps.itemText(i) for i in range(self.maps.count())]:
            self.maps.clear()
            self.maps.addItems(names)
        self.maps.setCurrentIndex(self._pane.display.map_index)
        self.outlined.setVisible(any(one.outlined for one in shown.explanations))


def _slider(value: int, tip: str) -> QSlider:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, 100)
    slider.setValue(value)
    slider.setToolTip(tip)
    return slider
