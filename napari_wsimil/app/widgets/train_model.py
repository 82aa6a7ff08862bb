"""ModelBox: which model is trained, with which options, and how."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QGroupBox, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_wsimil.app.widgets.fold import Fold
from napari_wsimil.app.widgets.option_form import OptionForm
from napari_wsimil.models import MODELS, model_class
from napari_wsimil.training.options import options_of, settings_of
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = ("epochs", "lr", "seed")  # settings that are always in sight
_HIDDEN = ("standardize",)  # which is for going on from a model


class ModelBox(QGroupBox):
    """Offers every model of the registry with the options of its own signature."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Model", parent)
        self._task = Task.CLASSIFICATION
        self.model = QComboBox()
        self.model.addItems(list(MODELS))
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.settings, self.options, self.more = OptionForm(), OptionForm(), OptionForm()
        self.threads = QSpinBox()
        cores = os.cpu_count() or 1
        self.threads.setRange(1, cores)
        self.threads.setValue(max(1, cores - 1))  # one is left to the window
        self.threads.setToolTip("Of torch; same seed and same threads, same numbers")
        self.options_fold = Fold("Options of the model", self.options)
        self.more_fold = Fold("More settings of training", self.more)
        inside = QVBoxLayout(self)
        threads = QFormLayout()
        threads.addRow("threads", self.threads)
        for widget in (self.model, self.about, self.settings):
            inside.addWidget(widget)
        inside.addLayout(threads)
        inside.addWidget(self.options_fold)
        inside.addWidget(self.more_fold)
        self.model.currentTextChanged.connect(self._show_model)
        self.threads.valueChanged.connect(self.changed)
        for form in (self.settings, self.options, self.more):
            form.changed.connect(self.changed)
        self.model.setCurrentText("acmil")
        self._show_model()

    @property
    def name(self) -> str:
        return str(self.model.currentText())

    @property
    def values(self) -> dict[str, Any]:
        """Return what a run needs of it."""
        return {
            "model": self.name,
            "options": self.options.values,
            "fit": self.settings.values | self.more.values,
            "threads": self.threads.value(),
        }

    def choose_task(self, task: Task) -> None:
        """Offer the settings that suit a task, where it asks for others."""
        if task is not self._task:
            self._task = task
            self._show_model()

    def take(self, values: Mapping[str, Any]) -> None:
        """Fill the fields with those of a run."""
        self._task = values["task"]
        self.model.setCurrentText(values["model"])
        self._show_fields(values["options"], vars(values["fit"]))
        self.threads.setValue(values["threads"])

    def _show_model(self) -> None:
        self._show_fields({}, {})
        self.changed.emit()

    def _show_fields(self, options: Mapping[str, Any], fit: Mapping[str, Any]) -> None:
        self.about.setText(_about(self.name))
        settings = {n: o for n, o in settings_of(self.name, self._task).items() if n not in _HIDDEN}
        self.settings.show_options({n: settings.pop(n) for n in _FIRST}, fit)
        self.more.show_options(settings, fit)
        self.options.show_options(options_of(self.name), options)


def _about(name: str) -> str:
    text = (model_class(name).__doc__ or "").strip()
    return text.partition("\n")[0]
