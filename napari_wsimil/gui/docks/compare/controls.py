"""BesideBox: what lies beside the map: other maps, another model's map, the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QHBoxLayout, QWidget

from napari_wsimil.explain.map_shift import difference
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.widgets.dock import listen, narrow, while_shown
from napari_wsimil.workflows.analysis import compare_job

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.widgets.job_row import JobRow
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.loaded import LoadedModel

_MODEL = "another model…"


class BesideBox(QWidget):
    """Sets `side` of a session's pane, and the prediction of the pane beside it.

    Parameters
    ----------
    session
        Whose panes are set.
    job
        Where another model is loaded and asked.
    """

    def __init__(self, session: Session, job: JobRow, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane, self._other, self._job = session.pane, session.beside, job
        self.choice = QComboBox()
        narrow(self.choice)
        self.choice.setToolTip("Maps in a second canvas that moves with the first")
        self.difference = QCheckBox("Difference")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.choice, 1)
        row.addWidget(self.difference)
        self.choice.activated.connect(self._choose)
        self.difference.toggled.connect(self._subtract)
        prediction, view = self._pane.prediction_state.events, self._pane.view_state.events
        other = self._other.prediction_state.events.prediction
        listen(self, self._show, prediction.prediction, prediction.extras, view.display, view.side)
        listen(self, self._show, other)
        listen(self, self._stop_subtracting, other, view.side)
        self._show()

    def choose(self, text: str) -> None:
        """Let lie beside what the list calls so.

        Raises
        ------
        ValueError
            If it has nothing of that name.
        """
        index = self.choice.findText(text)
        if index < 0:
            raise ValueError(f"there is no {text!r} to lie beside this map")
        self.choice.setCurrentIndex(index)
        self._choose()

    def compare(self, path: Path) -> None:
        """Ask another model about the same features, in the background."""
        bag = self._pane.bag
        if bag is None:
            show_info("There are no features of this slide to ask another model about.")
        else:
            job = compare_job(path, bag, self._pane.record)
            self._job.run(job, while_shown(self._pane, self._lay_beside))

    def _choose(self) -> None:
        if self.choice.currentText() == _other_title(self._other):
            return
        self._other.show_model(None)
        names = self.choice.currentData()
        self._pane.view_state.side = names or ()
        if self.choice.currentText() == _MODEL:
            folder = memory.last_folder()
            path, _ = QFileDialog.getOpenFileName(
                self, "Another model", folder, "Models (*.safetensors)"
            )
            if path:
                self.compare(Path(path))

    def _lay_beside(self, found: tuple[LoadedModel, Prediction]) -> None:
        self._pane.view_state.side = ()
        self._other.show_same(self._pane)
        self._other.show_model(found[0])
        self._other.show_prediction(found[1])

    def _subtract(self, wanted: bool) -> None:
        """Show the map less the one beside it, or take that away."""
        maps: tuple[Explanation, ...] = ()
        pair = self._pair()
        if wanted and pair is not None and self._pane.prediction is not None:
            index = self._pane.display.map_index
            maps = (difference(self._pane.prediction, index, *pair),)
        self._pane.show_extra("difference", maps, first=True)

    def _stop_subtracting(self, _: object) -> None:
        """Take a difference away whose pair is no longer there."""
        self._pane.show_extra("difference", ())

    def _pair(self) -> tuple[Prediction, int] | None:
        """Return the one map that lies beside, and whose it is."""
        shown, other = self._pane.prediction, self._other.prediction
        if other is not None:
            return other, self._other.display.map_index
        if shown is None or len(self._pane.view_state.side) != 1:
            return None
        names = [one.name for one in shown.explanations]
        name = self._pane.view_state.side[0]
        return (shown, names.index(name)) if name in names else None

    def _why_not(self) -> str:
        """Return why there is no difference to show; empty if there is."""
        shown, pair = self._pane.prediction, self._pair()
        if shown is None or pair is None:
            return "Choose one map to compare with first"
        if self._pane.display.map_index >= len(shown.explanations):
            return "Show a map of the slide first"
        try:
            difference(shown, self._pane.display.map_index, *pair)
        except ValueError as error:
            return str(error)
        return ""

    def _show(self, _: object = None) -> None:
        shown = self._pane.shown
        if shown is None:
            self._pane.view_state.side = ()
            self._other.show_slide(None)
            return
        self._list(_choices(shown, self._other))
        display = replace(self._pane.display, map_index=self._other.display.map_index)
        if display != self._other.display:
            self._other.view_state.display = display
        subtracted = "difference" in self._pane.prediction_state.extras
        with QSignalBlocker(self.difference):
            self.difference.setChecked(subtracted)
        why = "" if subtracted else self._why_not()
        self.difference.setEnabled(not why)
        self.difference.setToolTip(why or "Show this map minus the compared map")

    def _list(self, choices: list[tuple[str, tuple[str, ...]]]) -> None:
        """Offer what may lie beside; what is no longer among it does not."""
        texts = [text for text, _ in choices]
        if texts != [self.choice.itemText(i) for i in range(self.choice.count())]:
            self.choice.clear()
            for text, names in choices:
                self.choice.addItem(text, names)
        found = [
            i
            for i, (_, names) in enumerate(choices)
            if names and names == self._pane.view_state.side
        ]
        if not found:
            self._pane.view_state.side = ()
        other = self.choice.findText(_other_title(self._other))
        self.choice.setCurrentIndex(found[0] if found else max(other, 0))


def _other_title(other: Pane) -> str:
    """Return what another model's map is called in the list, if one lies beside."""
    return f"the other model: {other.model.name}" if other.model is not None else ""


def _choices(shown: Prediction, other: Pane) -> list[tuple[str, tuple[str, ...]]]:
    """Return what may lie beside a map: nothing, families of maps, each map, another model."""
    maps = [one for one in shown.explanations if not one.outlined]
    families: dict[str, list[str]] = {}
    for one in maps:
        families.setdefault(one.family, []).append(one.name)
    return [
        ("nothing", ()),
        *(
            (f"all of: {family}", tuple(names))
            for family, names in families.items()
            if family and len(names) > 1
        ),
        *((shown.title(one), (one.name,)) for one in maps),
        *([(_other_title(other), ())] if other.model is not None else []),
        (_MODEL, ()),
    ]
