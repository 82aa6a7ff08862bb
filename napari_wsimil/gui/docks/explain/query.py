"""AskTab: where a patch or an area looks, of models that answer for one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from qtpy.QtWidgets import QCheckBox, QLabel, QListWidget, QPushButton, QWidget

from napari_wsimil.explain.query import UnitTable, patches_of, query_maps, unit_table
from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.gui.widgets.basic import Table
from napari_wsimil.gui.widgets.dock import listen

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.slides.geometry import Region

_HINT = "Click a patch, or drag with Shift to draw an area: these maps then answer for it."
_SOURCE = "query"


class AskTab(Tab):
    """Asks a pane's model about its `area`, and shows what it answers."""

    name = "Query"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self.asking = LatestTask(self)
        self.clicks = QCheckBox("Query on click")
        self.clicks.setChecked(True)
        self.clicks.setToolTip("If off, a click only shows the patch's picture and values")
        self.words = QLabel(_HINT)
        self.words.setWordWrap(True)
        self.maps = QListWidget()
        self.maps.setToolTip("Maps of this query; choose one to show it on the slide")
        self.table = Table(
            "The regions that were chosen, by what they were thought to be worth; click to go"
        )
        self.back = QPushButton("Back to the slide's maps")
        for part in (self.words, self.clicks, self.maps, self.table, self.back):
            self.column.addWidget(part)
        self.column.addStretch(1)
        self.maps.itemClicked.connect(lambda item: pane.show_map(item.text()))
        self.table.chosen.connect(self._fly)
        self.back.clicked.connect(self._clear)
        listen(self, self._ask, pane.view_state.events.area)
        listen(self, self._forget, pane.prediction_state.events.prediction)
        listen(self, self._show, pane.prediction_state.events.extras)
        self._show()

    def fits(self, prediction: Prediction) -> bool:
        model = self._pane.model
        return model is not None and model.model.answers_queries

    def _ask(self, area: Region | None) -> None:
        pane = self._pane
        if area is None or pane.prediction is None or pane.model is None:
            return
        if not self.fits(pane.prediction):
            return
        if not self.clicks.isChecked():
            self._forget()
            return
        prediction, picked = pane.prediction, pane.view_state.picked
        try:
            index = patches_of(prediction, area) if picked is None else torch.tensor([picked])
        except ValueError as error:
            self._fail(str(error))
            return
        self.asking.run(
            partial(query_maps, pane.model.model, prediction.bag, index, prediction.card.model),
            partial(self._take, prediction, index),
            self._fail,
        )

    def _take(self, prediction: Prediction, index: Tensor, maps: tuple[Explanation, ...]) -> None:
        """Show an answer, unless another prediction is shown by now."""
        if self._pane.prediction is not prediction:
            return
        self._pane.show_extra(
            _SOURCE, maps, first=_SOURCE not in self._pane.prediction_state.extras
        )
        one = f"patch {int(index[0]) + 1}"
        asked = one if len(index) == 1 else f"{len(index)} patches, in the mean,"
        self.words.setText(f"Where {asked} looked. {_HINT}")

    def _fail(self, words: str) -> None:
        self._clear()
        self.words.setText(words)

    def _clear(self) -> None:
        self._pane.view_state.area = None
        self._forget()

    def _forget(self, _: object = None) -> None:
        """Show no answer any more: it is of another patch or another prediction."""
        self.asking.drop()
        self._pane.show_extra(_SOURCE, ())
        self.words.setText(_HINT)

    def _show(self, _: object = None) -> None:
        maps = self._pane.prediction_state.extras.get(_SOURCE, ())
        names = [one.name for one in maps if not one.outlined]
        if names != [self.maps.item(i).text() for i in range(self.maps.count())]:
            self.maps.clear()
            self.maps.addItems(names)
            self.maps.setFixedHeight(24 * max(1, len(names)) + 6)
        for part in (self.maps, self.back):
            part.setVisible(bool(maps))
        self._fill(unit_table(maps))

    def _fill(self, rows: UnitTable) -> None:
        self.table.setVisible(bool(rows.units))
        words = [
            (f"region {unit + 1}", *(f"{value:.3g}" for value in values))
            for unit, values in zip(rows.units, rows.values, strict=True)
        ]
        self.table.fill(("", *rows.titles), words)

    def _fly(self, row: int) -> None:
        """Go to the first patch of a region."""
        rows = unit_table(self._pane.prediction_state.extras.get(_SOURCE, ()))
        self._pane.view_state.focus = None
        self._pane.view_state.focus = rows.patches[row]
