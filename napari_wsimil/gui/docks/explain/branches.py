"""BranchesTab: a model with and without the record, side by side, and which one answered."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton

from napari_wsimil.explain.branch_comparison import (
    Branches,
    Route,
    branches,
    gap_of,
    risk_by,
    route,
    said_by,
)
from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.basic import Table
from napari_wsimil.gui.widgets.dock import allow, listen
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.models.protocols import MULTI, SINGLE
from napari_wsimil.progress import Progress, Work

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.models.losses import Survival

_NOTHING = "–"
_FAMILY, _DIFFERENCE = "branch", "attention difference"
_ATTENTION = (
    "Attention is pooled before the record comes in: an edit moves these probabilities and the "
    "patch logits, not the attention. The maps show what training with records changed."
)
_TIP = (
    "What each branch says. change: with less without, in points; its own: with less what the "
    "same branch says where all of the record is missing. The risk is that of the model's card"
)


class BranchesTab(Tab):
    """Tells what the branches of a BD say, and lays their maps beside."""

    name: ClassVar[str] = "Branches"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self._asked: Branches | None = None
        self.job = JobRow()
        self.routed = QLabel()
        self.gap = QLabel()
        attention = QLabel(_ATTENTION)
        for label in (self.routed, self.gap, attention):
            label.setWordWrap(True)
        self.table = Table(_TIP)
        self.beside = QPushButton("Side by side")
        self.differ = QPushButton("Difference")
        self.blind = QPushButton("Record alone")
        row = QHBoxLayout()
        for button in (self.beside, self.differ, self.blind):
            row.addWidget(button)
        for part in (self.routed, self.table, self.gap):
            self.column.addWidget(part)
        self.column.addLayout(row)
        for part in (self.job, attention):
            self.column.addWidget(part)
        self.column.addStretch(1)
        self.beside.setToolTip("Attention of both branches in a second canvas")
        self.differ.setToolTip(
            "Attention of the branch with records minus that of the other branch"
        )
        self.beside.clicked.connect(self._lay_beside)
        self.differ.clicked.connect(lambda: pane.show_map(_DIFFERENCE))
        self.blind.clicked.connect(self.ask)
        listen(self, self._follow, pane.prediction_state.events.prediction)
        self.job.finished.connect(self._show)
        self._show()

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        return (self.job,)

    def fits(self, prediction: Prediction) -> bool:
        return route(prediction) is not None

    def ask(self) -> None:
        """Ask the branch with records also of a record without any group, in the background."""
        model, prediction = self._pane.model, self._pane.prediction
        if model is None or prediction is None:
            return

        def take(found: Branches) -> None:
            if self._pane.prediction is prediction:
                self._asked = found

        self.job.run(_job(model, prediction.bag, prediction.record), take)

    def _lay_beside(self) -> None:
        prediction = self._pane.prediction
        maps = prediction.explanations if prediction is not None else ()
        self._pane.view_state.side = tuple(one.name for one in maps if one.family == _FAMILY)

    def _follow(self, _: object) -> None:
        self._asked = None
        self._show()

    def _show(self) -> None:
        prediction = self._pane.prediction
        if prediction is None:
            return
        taken = route(prediction)
        if taken is None:
            return
        said = _told(prediction.card.survival)[2]
        self.routed.setText(f"{_routed_words(taken)} {said}".strip())
        self.table.fill(*branch_rows(prediction, self._asked))
        self.gap.setText(_gap_words(prediction, self._asked))
        known = bool(taken.present)
        tip = "Asks the same branch without the record: two networks differ anyway, one does not"
        allow(self.blind, known and not self.job.busy, "Here all of the record is missing", tip)


def _job(model: LoadedModel, bag: Bag, record: Record | None) -> Work[Branches]:
    yield Progress(text="asking both branches")
    return branches(model.model, model.card, bag, record)


def branch_rows(
    prediction: Prediction, asked: Branches | None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles and rows of what the branches say: per outcome, and the risk of survival."""
    own = ["its own"] if asked is not None else []
    head, names, _ = _told(prediction.card.survival)
    titles = (head, "without", "with", "change", *own)
    single, multi = (said_by(prediction, name) for name in (SINGLE, MULTI))
    rows = []
    for c, name in enumerate(names or prediction.card.classes):
        row = [name, _percent(single, c), _percent(multi, c)]
        both = single is not None and multi is not None
        row.append(_points(float(multi[c] - single[c])) if both else _NOTHING)  # type: ignore[index]
        if asked is not None:
            row.append(_points(float(asked.own_change[c])))
        rows.append(tuple(row))
    if prediction.card.survival is not None:
        rows.append(_risk_row(prediction, asked))
    return titles, rows


def _told(survival: Survival | None) -> tuple[str, tuple[str, ...], str]:
    """Return what the rows are of, their names, short, and a sentence that says them in full."""
    if survival is None:
        return "", (), ""
    if survival.loss == "cox":
        sentence = "Chances of an event later, or earlier, than the median patient's."
        return "event", ("later", "earlier"), sentence
    ends = tuple(f"{end:g}" for end in survival.bins)
    return "event-free", ends, f"Chances of no event before these times, in {survival.unit}."


def _risk_row(prediction: Prediction, asked: Branches | None) -> tuple[str, ...]:
    single, multi = (risk_by(prediction, name) for name in (SINGLE, MULTI))
    change = None if single is None or multi is None else multi - single
    row = ["risk", _number(single), _number(multi), _number(change, "+")]
    return tuple([*row, _number(asked.own_risk, "+")] if asked is not None else row)


def _routed_words(taken: Route) -> str:
    absent = html.escape(", ".join(taken.missing))
    if not taken.present:
        return f"Answered by the branch <b>without the record</b>: {absent} all missing."
    rest = f"; {absent} missing, a learned prompt stands in" if absent else ""
    here = html.escape(", ".join(taken.present))
    return f"Answered by the branch <b>with the record</b>, which has {here}{rest}."


def _gap_words(prediction: Prediction, asked: Branches | None) -> str:
    gap = gap_of(prediction)
    if gap is None:
        return "There is no record that could change anything."
    words = f"<b>What the record changes</b>: KL {gap:.3g} nats between the branches"
    if asked is None:
        return f"{words}, some of it since they are two networks."
    return (
        f"{words}; {asked.own:.3g} nats within the one that reads it, beside the same patient "
        "without any record (<i>its own</i>)."
    )


def _number(number: float | None, sign: str = "") -> str:
    return _NOTHING if number is None else f"{number:{sign}.3g}"


def _percent(chances: object, c: int) -> str:
    return _NOTHING if chances is None else f"{float(chances[c]):.1%}"  # type: ignore[index]


def _points(change: float) -> str:
    return f"{round(100 * change, 1) + 0.0:+.1f}"
