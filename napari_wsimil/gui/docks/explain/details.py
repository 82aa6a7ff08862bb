"""FactsTab: the numbers that a model tells of itself beside its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.basic import Table
from napari_wsimil.gui.widgets.dock import listen

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane


class FactsTab(Tab):
    """Lists the scalars of a pane's prediction."""

    name = "Details"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self.table = Table("Numbers that the model reports in addition to its maps")
        self.column.addWidget(self.table)
        self.column.addStretch(1)
        listen(self, self._show, pane.prediction_state.events.prediction)
        self._show(pane.prediction)

    def fits(self, prediction: Prediction) -> bool:
        return bool(prediction.scalars)

    def _show(self, prediction: Prediction | None) -> None:
        if prediction is not None:
            self.table.fill(("what", "number"), fact_rows(prediction))


def fact_rows(prediction: Prediction) -> list[tuple[str, str]]:
    """Return name and number of each scalar."""
    return [(name, f"{value:.4g}") for name, value in prediction.scalars.items()]
