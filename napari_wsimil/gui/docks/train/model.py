"""ModelBox: which model is trained, with which options, and how."""

from __future__ import annotations

import math
import os
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from magicgui.widgets import create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.widgets.basic import Fold
from napari_wsimil.models import MODELS, model_class
from napari_wsimil.training.config import settings_of
from napari_wsimil.training.options import options_of
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from magicgui.widgets.bases import ValueWidget

    from napari_wsimil.training.options import Option

#: The largest whole number and number that a field takes where nothing bounds it.
_MOST_INT, _MOST_FLOAT = 10**6, 1e6


class OptionForm(QWidget):
    """A field for each option; the tooltip is what its docstring says.

    A whole number that may be left out is 0 while it is.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._options: Mapping[str, Option] = {}
        self._fields: dict[str, ValueWidget[Any]] = {}
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)

    def show_options(self, options: Mapping[str, Option], given: Mapping[str, Any] = {}) -> None:
        """Replace the fields by those of `options`, at their defaults but for what is given."""
        while self._form.rowCount():
            self._form.removeRow(0)
        self._options = options
        self._fields = {n: _field(n, o, given.get(n, o.default)) for n, o in options.items()}
        for field in self._fields.values():
            self._form.addRow(field.label, field.native)
            field.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            field.changed.connect(lambda _: self.changed.emit())

    def field(self, name: str) -> ValueWidget[Any]:
        """Return the field of an option."""
        return self._fields[name]

    @property
    def values(self) -> dict[str, Any]:
        """Return what is chosen, by name."""
        found = {name: field.value for name, field in self._fields.items()}
        left_out = (n for n, one in self._options.items() if one.default is None and not found[n])
        return found | dict.fromkeys(left_out)


def _field(name: str, option: Option, value: Any) -> ValueWidget[Any]:
    if isinstance(option.default, float):
        return _number(name, option, value)
    limits: dict[str, Any] = {"tooltip": _tip(option.text)}
    if option.choices:
        limits["choices"] = option.choices
    elif option.default is None:
        limits |= {"min": 0, "max": _MOST_INT, "tooltip": _tip(f"{option.text} 0 here is none.")}
    elif isinstance(option.default, int):
        most = _MOST_INT if math.isinf(option.most) else int(option.most)
        limits |= {"min": int(option.least), "max": most}
    return _made(0 if value is None else value, name, limits)


def _number(name: str, option: Option, value: float) -> ValueWidget[Any]:
    """Return a field whose arrows step by the size of the default, and which rounds nothing."""
    most = _MOST_FLOAT if math.isinf(option.most) else option.most
    size = math.floor(math.log10(float(option.default or 0.1)))
    digits = max(2 - size, -int(Decimal(str(value)).as_tuple().exponent))
    limits = {"min": option.least, "max": most, "step": 10.0**-digits}
    field = _made(float(value), name, limits | {"tooltip": _tip(option.text)})
    field.native.setSingleStep(10.0**size)
    return field


def _made(value: Any, name: str, limits: dict[str, Any]) -> ValueWidget[Any]:
    label = name.replace("_", " ")
    field: Any = create_widget(value=value, name=name, label=label, options=limits)
    return cast("ValueWidget[Any]", field)


def _tip(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 60))


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
