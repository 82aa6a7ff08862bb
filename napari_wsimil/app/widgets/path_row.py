"""PathRow: a file or folder that may be chosen, and forgotten again."""

from __future__ import annotations

from pathlib import Path

from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_wsimil.app import memory
from napari_wsimil.app.names import NAMES

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
        NAMES.events.shown.connect(self._show)
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
        if isalive(self):
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
