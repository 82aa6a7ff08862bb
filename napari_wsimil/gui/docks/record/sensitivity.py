"""SweepBox: which field of the record moves this model on this slide, and how its maps look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_wsimil.explain.sensitivity import ranked
from napari_wsimil.gui.widgets.dock import allow, listen, while_shown
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.gui.widgets.plots import COLORS, Plot
from napari_wsimil.workflows.record_edits import sweep_job, values_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.explain.sensitivity import FieldEffect, ValueEffect
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.study.case import Case

#: How many fields are drawn, and how high a bar is, in pixels.
_MOST, _BAR = 10, 18
_SOURCE = "values of a field"
_HINT = "Each field alone, over the cohort's percentiles; click a mark to try that value on."


class SweepPlot(Plot):
    """A line per field with a mark per value; a click on a mark tells its value."""

    def __init__(self) -> None:
        super().__init__(_MOST * _BAR + 44)
        self.effects: tuple[FieldEffect, ...] = ()
        self.by_movement = False
        self.taken: Any = lambda field, value: None
        self.mpl_connect("button_press_event", self._click)  # type: ignore[no-untyped-call]

    def paint(self) -> None:
        """Draw the fields that matter most, the first at the top."""
        if not self.effects:
            return
        axes = self.axes(120, 6, max(60, self.width() - 150), len(self.effects) * _BAR)
        for row, effect in enumerate(self.effects):
            sizes = [self._size(value) for value in effect.values]
            axes.plot([0, max(sizes, default=0)], [row, row], color=self.theme["secondary"])
            colors = [COLORS[3] if value.broken else COLORS[0] for value in effect.values]
            axes.scatter(sizes, [row] * len(sizes), c=colors, s=16, zorder=3)
        axes.set_yticks(range(len(self.effects)), [effect.field for effect in self.effects])
        axes.set_ylim(len(self.effects) - 0.5, -0.5)
        axes.set_xlim(left=0)
        what = "part of the map that moves" if self.by_movement else "change of probability"
        axes.set_xlabel(what, fontsize=8, color=self.theme["text"])

    def _size(self, value: ValueEffect) -> float:
        if self.by_movement:
            return value.movement.moved
        return max(abs(change) for change in value.probability.values())

    def _click(self, event: Any) -> None:
        if event.inaxes is None or not self.effects:
            return
        row = round(event.ydata)
        if 0 <= row < len(self.effects) and self.effects[row].values:
            values = self.effects[row].values
            near = min(values, key=lambda value: abs(self._size(value) - event.xdata))
            self.taken(self.effects[row], near)


class SweepBox(QWidget):
    """Emits the record of a value that was chosen, and whether there is anything to try."""

    chosen = Signal(str, object)
    offered = Signal(bool)

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self._case: Case | None = None
        self.found: tuple[FieldEffect, ...] = ()
        self._field: FieldEffect | None = None
        self.compared = ""
        self.job = JobRow()
        self.run_button = QPushButton("Try all")
        self.movement = QCheckBox("By map shift")
        self.movement.setToolTip("Rank by map shift instead of change of probability")
        self.values_button = QPushButton("Its maps")
        self.words = QLabel(_HINT)
        self.words.setWordWrap(True)
        self.plot = SweepPlot()
        self.plot.taken = self.take
        row = QHBoxLayout()
        for part in (self.run_button, self.movement, self.values_button):
            row.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.words)
        column.addLayout(row)
        column.addWidget(self.job)
        column.addWidget(self.plot)
        self.run_button.clicked.connect(self.run)
        self.movement.toggled.connect(self._show)
        self.values_button.clicked.connect(self.show_values)
        self.job.started.connect(self._show)
        self.job.finished.connect(self._show)
        listen(self, self._show_ready, pane.prediction_state.events.prediction)
        self._show()

    def show_case(self, case: Case | None) -> None:
        """Forget what was found for another patient."""
        self._case, self.found, self._field = case, (), None
        self._show()

    def run(self) -> None:
        """Try the fields in the background."""
        pane, case = self._pane, self._case
        if pane.model is None or pane.prediction is None or pane.record is None or case is None:
            return
        job = sweep_job(pane.model, case, pane.prediction, pane.record)
        self.job.run(job, while_shown(pane, self._take))

    def show_values(self) -> None:
        """Lay the maps of the chosen field's values beside the slide."""
        pane, case, effect = self._pane, self._case, self._field
        if pane.model is None or pane.prediction is None or case is None or effect is None:
            return
        field = case.schema.by_name[effect.field]
        name = self.compared or pane.prediction.explanations[0].name
        job = values_job(pane.model, pane.prediction, field, effect, name)
        self.job.run(job, while_shown(pane, self._lay_beside))

    def _take(self, found: tuple[FieldEffect, ...]) -> None:
        self.found = found
        self._field = found[0] if found else None
        self._show()

    def take(self, effect: FieldEffect, value: ValueEffect) -> None:
        """Choose a field, and try one of its values on."""
        self._field = effect
        said = [f"{effect.field} = {value.value}", *value.broken, value.unseen]
        self.words.setText("\n".join(filter(None, said)))
        self.chosen.emit(effect.field, value.value)
        self._show()

    def _lay_beside(self, maps: Sequence[Explanation]) -> None:
        self._pane.show_extra(_SOURCE, tuple(maps))
        self._pane.view_state.side = tuple(one.name for one in maps)

    def _show_ready(self, _: object = None) -> None:
        prediction = self._pane.prediction
        reads = prediction is not None and prediction.card.record is not None
        self.offered.emit(reads and self._case is not None)

    def _show(self, _: object = None) -> None:
        by_movement = self.movement.isChecked()
        self.plot.by_movement = by_movement
        self.plot.effects = ranked(self.found, by_movement=by_movement)[:_MOST]
        self.plot.setVisible(bool(self.found))
        self.plot.refresh()
        if not self.found:
            self.words.setText(_HINT)
        busy = self.job.busy
        allow(self.run_button, not busy, "Something is running", "Which field matters here?")
        name = self._field.field if self._field is not None else ""
        ready = bool(name) and not busy
        allow(self.values_button, ready, "Try every field first", f"A map for each value of {name}")
        self._show_ready()
