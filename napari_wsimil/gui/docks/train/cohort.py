"""CohortBox: who is learned from, and who trains, chooses and tests."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.train.features import FeatureNote
from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.widgets.basic import PathRow
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.tasks import EVENTS, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.training.splits import Fold

_TASKS = {
    Task.CLASSIFICATION: "classes, by label",
    Task.SURVIVAL: "survival, in time bins",
    Task.COX: "survival, Cox",
}


class CohortBox(QGroupBox):
    """Chooses cohort, features, task and folds; says what is in it and how it is split."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Cohort", parent)
        self.path: Path | None = None
        self._build_fields()
        self._lay_out()
        self._connect()
        self.choose_model(reads_records=False, looks_closer=False)

    def _build_fields(self) -> None:
        self.manifest_button = QPushButton("Manifest…")
        self.manifest_button.setToolTip("A CSV with a row per slide: patient_id, slide_id, label …")
        self.folder_button = QPushButton("Folder of bags…")
        self.folder_button.setToolTip("A subfolder per class, in it a features file per patient")
        self.name = QLabel("No cohort is open.")
        self.name.setWordWrap(True)
        self.features = PathRow("Folder of features", "", "as the cohort says")
        self.features.setToolTip("Where <slide_id>.h5 are, if the manifest has no feature_path")
        self.schema = PathRow("Schema of the records", "Schemas (*.yaml *.yml)", "none")
        self.schema.setToolTip(
            "What the manifest's clinical columns are, for models that read them"
        )
        self.weights = PathRow("Weights of the encoder", "Weights (*)", "built in")
        self.weights.setToolTip("Of the encoder that made the features; this model looks closer")
        self.task = QComboBox()
        for task, text in _TASKS.items():
            self.task.addItem(text, task)
        self.unit = QLineEdit()
        self.unit.setPlaceholderText("such as months")
        self.unit.setToolTip("Unit of the manifest's times")
        self.folds = _spin(3, 20, 5, "Patients are dealt into so many folds, by class or event")
        self.fold = _spin(1, 5, 1, "This fold tests, the next one chooses the weights")
        self.mixed = QCheckBox("Accept mixed scales")
        self.mixed.setToolTip("Features of several µm per pixel or patch sizes; the card says so")
        self.mixed.hide()
        self.feature_note = FeatureNote()
        self.split = QLabel()
        self.split.setWordWrap(True)

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.manifest_button)
        buttons.addWidget(self.folder_button)
        folds = QHBoxLayout()
        folds.addWidget(QLabel("fold"))
        folds.addWidget(self.fold, 1)
        folds.addWidget(QLabel("of"))
        folds.addWidget(self.folds, 1)
        self.fold_row = QWidget()
        self.fold_row.setLayout(folds)
        folds.setContentsMargins(0, 0, 0, 0)
        inside = QVBoxLayout(self)
        inside.addLayout(buttons)
        inside.addWidget(self.name)
        self._form = QFormLayout()
        self._form.addRow("Features", self.features)
        self._form.addRow("Learn", self.task)
        self._form.addRow("Time unit", self.unit)
        self._form.addRow("Test", self.fold_row)
        self._form.addRow("Records", self.schema)
        self._form.addRow("Weights", self.weights)
        inside.addLayout(self._form)
        inside.addWidget(self.split)
        inside.addWidget(self.feature_note)
        inside.addWidget(self.mixed)

    def _connect(self) -> None:
        self.manifest_button.clicked.connect(self._ask_manifest)
        self.folder_button.clicked.connect(self._ask_folder)
        for row in (self.features, self.schema, self.weights):
            row.changed.connect(self.changed)
        self.task.currentIndexChanged.connect(self._choose_task)
        self.unit.textChanged.connect(self.changed)
        self.folds.valueChanged.connect(self._choose_folds)
        self.fold.valueChanged.connect(self.changed)
        self.mixed.toggled.connect(self.changed)
        self.feature_note.changed.connect(self._show_features)
        self._choose_task()

    # act

    @property
    def values(self) -> dict[str, Any]:
        """Return what a run needs of it; paths that are not chosen are left out."""
        paths = {
            "cohort": self.path,
            "features": self.features.path,
            "record_schema": self.schema.path if self._shows(self.schema) else None,
            "encoder_weights": self.weights.path if self._shows(self.weights) else None,
        }
        return {name: path for name, path in paths.items() if path is not None} | {
            "task": self.task.currentData(),
            "time_unit": self.unit.text().strip() if self._shows(self.unit) else "",
            "folds": self.folds.value(),
            "fold": self.fold.value() - 1,
            "mixed_scales": self.mixed.isChecked(),
        }

    def open(self, path: Path) -> None:
        """Take a manifest or a folder of bags."""
        self.path = path
        self.changed.emit()

    def take(self, values: Mapping[str, Any]) -> None:
        """Fill the fields with those of a run."""
        rows = (self.features, self.schema, self.weights)
        for row, name in zip(rows, ("features", "record_schema", "encoder_weights"), strict=True):
            row.choose(values.get(name))
        self.task.setCurrentIndex(self.task.findData(values["task"]))
        self.unit.setText(values["time_unit"])
        self.folds.setValue(values["folds"])
        self.fold.setValue(values["fold"] + 1)
        self.mixed.setChecked(values["mixed_scales"])
        self.open(values["cohort"])

    def choose_model(self, reads_records: bool, looks_closer: bool) -> None:
        """Show the fields that a model needs."""
        self._show(self.schema, reads_records)
        self._show(self.weights, looks_closer)

    def _choose_task(self) -> None:
        self._show(self.unit, self.task.currentData() is not Task.CLASSIFICATION)
        self.changed.emit()

    def _choose_folds(self) -> None:
        self.fold.setMaximum(self.folds.value())
        self.changed.emit()

    def _ask_manifest(self) -> None:
        title, start = "Open a manifest", memory.last_folder()
        path, _ = QFileDialog.getOpenFileName(self, title, start, "Manifests (*.csv)")
        self._take_answer(path)

    def _ask_folder(self) -> None:
        title = "Open a folder of bags"
        self._take_answer(QFileDialog.getExistingDirectory(self, title, memory.last_folder()))

    def _take_answer(self, path: str) -> None:
        if path:
            memory.remember_folder(Path(path).parent)
            self.open(Path(path))

    # show

    def show_cohort(self, manifest: Manifest | None, why: str) -> None:
        """Say what is in the cohort, or why it cannot be read."""
        self.name.setText(_facts(manifest) if manifest else why or "No cohort is open.")
        has_split = manifest is not None and any(p.split for p in manifest.patients)
        self._show(self.fold_row, not has_split)

    def check_features(self, manifest: Manifest | None) -> str:
        """Have the features read, and return why nothing can be trained on them as far as known."""
        self.feature_note.check(manifest, self.features.path, self.task.currentData())
        return self.feature_note.why(self.mixed.isChecked())

    def _show_features(self) -> None:
        report = self.feature_note.report
        self.mixed.setVisible(report is not None and bool(report.scales))
        self.changed.emit()

    def show_split(
        self, manifest: Manifest | None, fold: Fold | None, gaps: Sequence[str] = ()
    ) -> None:
        """Show how many patients of each class train, choose and test, and what is missing."""
        table = (
            ""
            if fold is None or manifest is None
            else _table(manifest, fold, self.task.currentData())
        )
        lines = (html.escape(sentence, quote=False) for sentence in gaps)
        self.split.setText("<br>".join((table, *lines)))
        self.split.setVisible(fold is not None)

    def _show(self, field: QWidget, shown: bool) -> None:
        field.setVisible(shown)
        self._form.labelForField(field).setVisible(shown)

    def _shows(self, field: QWidget) -> bool:
        return bool(field.isVisibleTo(self))


def _spin(least: int, most: int, value: int, tip: str) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(least, most)
    spin.setValue(value)
    spin.setToolTip(tip)
    return spin


def _facts(manifest: Manifest) -> str:
    slides = sum(len(patient.slides) for patient in manifest.patients)
    persons = len({patient.person for patient in manifest.patients})
    alone = ", each a case of its own" if unit_of(manifest.patients) == "slides" else ""
    return f"<b>{NAMES.of(manifest.path)}</b>: {persons} patients, {slides} slides{alone}"


def _table(manifest: Manifest, fold: Fold, task: Task) -> str:
    """Return a table of patients, or of slides as cases, a row a class or event, as rich text."""
    kinds = {patient.name: _kind(patient, task) for patient in manifest.patients}
    parts = [
        Counter(kinds[name] for name in part) for part in (fold.train, fold.validation, fold.test)
    ]
    classes = manifest.classes if task is Task.CLASSIFICATION else EVENTS
    rows: list[tuple[str, ...]] = [(unit_of(manifest.patients), "train", "choose", "test")]
    rows += [(name, *(str(part[name]) for part in parts)) for name in classes]
    rows += [("all", *(str(part.total()) for part in parts))]
    cells = ("".join(f"<td align='right'>{cell}</td>" for cell in row[1:]) for row in rows)
    lines = (f"<tr><td>{row[0]}</td>{cell}</tr>" for row, cell in zip(rows, cells, strict=True))
    return f"<table cellspacing='0' cellpadding='3' width='100%'>{''.join(lines)}</table>"


def _kind(patient: Patient, task: Task) -> str:
    if task is Task.CLASSIFICATION:
        return patient.label or ""
    return EVENTS[bool(patient.event)]
