"""PathRow: a file or folder that may be chosen, and forgotten again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.widgets.dock import listen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qtpy.QtGui import QResizeEvent

_HIDDEN = "File names can name a patient: show them in the Slide dock"


class PathRow(QWidget):
    """A button that asks, the name of what was chosen, and a button that forgets it.

    Parameters
    ----------
    title
        Of the dialog.
    kinds
        Name filter of the files; folders are asked for if it is empty.
    empty
        What is said while nothing is chosen.
    to_write
        Whether the file need not be there yet.
    """

    changed = Signal()

    def __init__(self, title: str, kinds: str, empty: str, to_write: bool = False) -> None:
        super().__init__()
        self._title, self._kinds, self._empty, self._to_write = title, kinds, empty, to_write
        self._path: Path | None = None
        self.button = QPushButton("Choose…")
        self.name = QLabel()
        self.name.setWordWrap(True)
        self.clear_button = QPushButton("✕")
        self.clear_button.setFixedWidth(28)
        self.clear_button.setToolTip("Forget this choice")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button)
        row.addWidget(self.name, 1)
        row.addWidget(self.clear_button)
        self.button.clicked.connect(self._ask)
        listen(self, self._show, NAMES.events.shown)
        self.clear_button.clicked.connect(lambda: self.choose(None))
        self.choose(None)

    @property
    def path(self) -> Path | None:
        return self._path

    def choose(self, path: Path | None) -> None:
        """Take a path, or none."""
        self._path = path
        self._show()
        self.changed.emit()

    def _show(self, _: object = None) -> None:
        path, shown = self._path, NAMES.shown or self._to_write
        name = self._empty if path is None else path.name if shown else NAMES.of(path)
        self.name.setText(name)
        self.name.setToolTip("" if path is None else str(path) if shown else _HIDDEN)
        self.clear_button.setVisible(path is not None)

    def _ask(self) -> None:
        start = str(self._path or memory.last_folder())
        if not self._kinds:
            path = QFileDialog.getExistingDirectory(self, self._title, start)
        elif self._to_write:
            path, _ = QFileDialog.getSaveFileName(self, self._title, start, self._kinds)
        else:
            path, _ = QFileDialog.getOpenFileName(self, self._title, start, self._kinds)
        if path:
            memory.remember_folder(Path(path).parent)
            self.choose(Path(path))


class Fold(QWidget):
    """A title to click, and under it what it shows or hides."""

    def __init__(self, title: str, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.content = content
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.toggled.connect(self._unfold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.button)
        layout.addWidget(content)
        self._unfold(False)

    def open(self) -> None:
        """Show what is under the title."""
        self.button.setChecked(True)

    def _unfold(self, open_: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)
        self.content.setVisible(open_)


def pixmap(picture: NDArray[np.uint8] | Any) -> QPixmap:
    """Return (rows, columns, 3) uint8 RGB as a pixmap."""
    pixels = np.ascontiguousarray(picture)
    height, width, _ = pixels.shape
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)


class Still(QWidget):
    """Holds a label, and asks for another height only where its words take more or fewer lines.

    A label in a layout asks for a place at every change of its words, up to the window, which is
    then painted twice.
    """

    def __init__(self, label: QLabel) -> None:
        super().__init__()
        self._label = label
        label.setParent(self)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the label the new width."""
        super().resizeEvent(event)
        self._fit()

    def event(self, event: QEvent) -> bool:
        """Look whether the label still fits when its words have changed."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return bool(super().event(event))

    def _fit(self) -> None:
        label, width = self._label, self.width()
        wrapped = label.heightForWidth(width)
        height = wrapped if wrapped >= 0 else label.sizeHint().height()
        label.setGeometry(0, 0, width, height)
        self.setFixedHeight(height)


_MOST = 12  # rows that are seen without scrolling


class Table(QTableWidget):
    """Shows words; `chosen` gives the number of the row that was clicked.

    Parameters
    ----------
    tip
        What it shows and what a click does.
    """

    chosen = Signal(int)

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(tip)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(24)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setWordWrap(False)
        self.cellClicked.connect(lambda row, _: self.chosen.emit(row))

    def fill(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows of words under their titles."""
        self.setColumnCount(len(titles))
        self.setHorizontalHeaderLabels(list(titles))
        self.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, word in enumerate(row):
                item = QTableWidgetItem(word)
                item.setToolTip(word)
                self.setItem(i, j, item)
        head = self.horizontalHeader().sizeHint().height()
        self.setFixedHeight(head + 24 * min(max(1, len(rows)), _MOST) + 4)
