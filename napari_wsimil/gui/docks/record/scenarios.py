"""ScenarioButton: saves what is tried on under a name, and tries on what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QToolButton, QWidget

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.scenario import Scenario, read_scenario, write_scenario
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.names import NAMES

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.gui.pane import Pane

_FILES = "Scenarios (*.yaml *.yml)"


class ScenarioButton(QToolButton):
    """Emits the record of a scenario that was opened, and its name."""

    opened = Signal(object, str)
    failed = Signal(str)

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self.setText("Scenario ")
        self.setMinimumWidth(84)
        self.setToolTip("Changes under a name, to be tried on other patients too")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        self.save_action = menu.addAction("Save…")
        self.open_action = menu.addAction("Try on…")
        menu.addSeparator()
        self.none_action = menu.addAction("No record at all")
        self.none_action.setToolTip("What a model says of a patient nothing is known of")
        self.setMenu(menu)
        menu.aboutToShow.connect(self._allow)
        self.save_action.triggered.connect(self._ask_save)
        self.open_action.triggered.connect(self._ask_open)
        self.none_action.triggered.connect(self._take_all_away)

    def save(self, path: Path) -> None:
        """Write what differs from the patient's own record, named after the file."""
        case, changes = self._pane.case, self._changes()
        if case is None or not changes:
            return
        try:
            write_scenario(Scenario(path.stem, case.schema.name, changes), path)
        except OSError as error:
            self.failed.emit(NAMES.words(error))

    def open(self, path: Path) -> None:
        """Try a scenario on, on the patient's own record."""
        case = self._pane.case
        if case is None:
            return
        try:
            scenario = read_scenario(path)
            record = scenario.apply(case.schema, case.record)
        except (RecordError, OSError) as error:
            self.failed.emit(NAMES.words(error))
            return
        self.opened.emit(record, scenario.name)

    def _take_all_away(self) -> None:
        if self._pane.case is not None:
            self.opened.emit(self._pane.case.schema.parse({}), "no record at all")

    def _changes(self) -> dict[str, str]:
        case, record = self._pane.case, self._pane.record
        if case is None or record is None:
            return {}
        fields = case.schema.by_name
        return {
            name: new.value if isinstance(new, Absent) else fields[name].format(new)
            for name, (_, new) in case.record.changes(record).items()
        }

    def _allow(self) -> None:
        self.save_action.setEnabled(bool(self._changes()))
        self.open_action.setEnabled(self._pane.case is not None)

    def _ask_save(self) -> None:
        start = str(Path(memory.last_folder()) / "scenario.yaml")
        path, _ = QFileDialog.getSaveFileName(self, "Save a scenario", start, _FILES)
        if path:
            self.save(Path(path))

    def _ask_open(self) -> None:
        start = memory.last_folder()
        path, _ = QFileDialog.getOpenFileName(self, "Try a scenario on", start, _FILES)
        if path:
            self.open(Path(path))


class Trail:
    """Records in the order they came to rest; what was undone is forgotten by a new one."""

    def __init__(self, record: Record | None = None) -> None:
        self._records = [] if record is None else [record]
        self._at = 0

    @property
    def record(self) -> Record | None:
        """Return the one that was reached."""
        return self._records[self._at] if self._records else None

    def add(self, record: Record) -> bool:
        """Go on to a record; return whether it differs from the one before."""
        if self.record is not None and record.values == self.record.values:
            return False
        self._records[self._at + 1 :] = [record]
        self._at = len(self._records) - 1
        return True

    @property
    def first(self) -> bool:
        return self._at == 0

    @property
    def last(self) -> bool:
        return self._at >= len(self._records) - 1

    def go(self, steps: int) -> Record | None:
        """Return the record some steps on, or back, as far as there are any."""
        self._at = max(0, min(self._at + steps, len(self._records) - 1))
        return self.record
