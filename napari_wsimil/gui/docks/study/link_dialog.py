"""LinksDialog: the passports of a folder of features, and what a person must say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.text import mismatch_lines, passport_rows
from napari_wsimil.gui.widgets.dock import allow
from napari_wsimil.workflows.link_features import confirmed_of

if TYPE_CHECKING:
    from napari_wsimil.features.importers.base import Confirmed
    from napari_wsimil.workflows.link_features import Found

#: What `exec_` returns where the files are to be checked again with what was said.
AGAIN = 2

_TITLES = ("slide", "checks", "encoder", "what the file says")
_SAID = {
    "patch_size": ("Patch size", "level-0 px"),
    "mpp": ("Pixel size", "µm per level-0 pixel"),
    "reading": ("Places", "stated, exchanged, centers, corners, left, right, up, down"),
    "encoder": ("Encoder", "declared by you, nothing verifies it"),
}
_COLORS = {"refused": QColor("#d55e00"), "warned": QColor("#e69f00")}


class LinksDialog(QDialog):
    """Shows what was found; accepted, its usable files are to be linked.

    Attributes
    ----------
    confirmed
        What a person says of all files of the folder.
    """

    def __init__(self, found: Found, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.confirmed: Confirmed = found.confirmed
        self.setWindowTitle(f"Features in {NAMES.of(found.folder)}")
        screen = QApplication.primaryScreen().availableGeometry()
        self.resize(min(980, screen.width() - 40), min(640, screen.height() - 80))
        self._build_table(found)
        self._build_said(found)
        self.why = QLineEdit("features that were there")
        self.why.setToolTip("The reason, which the ledger keeps")
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.link_button = self.buttons.button(kinds.Ok)
        count = len(found.usable)
        self.link_button.setText(f"Link {count} file{'' if count == 1 else 's'}")
        allow(self.link_button, count > 0, "No file passes its checks", "The files stay in place")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._lay_out(found)

    def _build_table(self, found: Found) -> None:
        self.table = QTableWidget(len(found.survey.matches), len(_TITLES))
        self.table.setHorizontalHeaderLabels(list(_TITLES))
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(True)
        for row, cells in enumerate(passport_rows(found)):
            for place, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                if place == 1 and text in _COLORS:
                    item.setForeground(_COLORS[text])
                self.table.setItem(row, place, item)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(len(_TITLES) - 1, QHeaderView.ResizeMode.Stretch)
        self.table.resizeRowsToContents()

    def _build_said(self, found: Found) -> None:
        self.said: dict[str, QLineEdit] = {}
        self.form = QFormLayout()
        for name, (title, unit) in _SAID.items():
            line = self.said[name] = QLineEdit()
            value = getattr(found.confirmed, name)
            line.setText(f"{value}" if value else "")
            line.setPlaceholderText(found.asked.get(name, f"as the files say; {unit}"))
            line.setToolTip(line.placeholderText())
            self.form.addRow(title, line)
        self.again_button = QPushButton("Check again")
        self.again_button.setToolTip("With what you say of all files of the folder")
        self.again_button.clicked.connect(self._again)
        self.problem = QLabel()
        self.problem.setStyleSheet("color: #d55e00")
        self.problem.setWordWrap(True)

    def _lay_out(self, found: Found) -> None:
        lost = QPlainTextEdit()
        lost.setReadOnly(True)
        lost.setPlainText("\n".join(mismatch_lines(found)))
        self.tabs = QTabWidget()
        self.tabs.addTab(self.table, f"Files of slides ({len(found.survey.matches)})")
        self.tabs.addTab(lost, f"What does not fit ({len(found.survey.mismatches)})")
        below = QHBoxLayout()
        below.addWidget(QLabel("Why"))
        below.addWidget(self.why, 1)
        below.addWidget(self.again_button)
        below.addWidget(self.buttons)
        column = QVBoxLayout(self)
        column.addWidget(self.tabs, 1)
        column.addWidget(QLabel("<b>What a file does not say</b>, of all files here"))
        column.addLayout(self.form)
        column.addWidget(self.problem)
        column.addLayout(below)

    def _again(self) -> None:
        try:
            self.confirmed = confirmed_of({name: line.text() for name, line in self.said.items()})
        except ValueError as error:
            self.problem.setText(str(error))
            return
        self.done(AGAIN)
