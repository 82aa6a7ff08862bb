"""OptionForm: fields for what may be chosen, made by magicgui of defaults and docstrings."""

from __future__ import annotations

import math
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from magicgui.widgets import create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QSizePolicy, QWidget

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
