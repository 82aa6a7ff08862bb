"""Tab: a part of the Explain dock that is there where a model gives what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.widgets.job_row import JobRow


class Tab(QWidget):
    """Shows one side of a pane's prediction.

    Attributes
    ----------
    name
        On the tab.
    """

    name: ClassVar[str] = ""

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(4, 8, 4, 4)

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        """Return what may run here in the background."""
        return ()

    def fits(self, prediction: Prediction) -> bool:
        """Return whether there is something to show of a prediction."""
        return True
