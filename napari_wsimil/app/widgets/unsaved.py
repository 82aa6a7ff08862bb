"""Unsaved: a correction of a patient's record that is typed and not saved yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication

from napari_wsimil.app.case import edits
from napari_wsimil.app.widgets.close_guard import CloseGuard
from napari_wsimil.app.widgets.unsaved_dialog import DISCARDED, UnsavedDialog

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_wsimil.app.session import Pane
    from napari_wsimil.app.widgets.record_form import RecordForm
    from napari_wsimil.app.widgets.record_keeper import RecordKeeper
    from napari_wsimil.app.widgets.record_mode import RecordMode

_WRONG = "A field has a text that is none of its values: stay and mend it, or discard."


class Unsaved(QObject):
    """Holds the pane's patient, and the window, while there is a correction to lose.

    Parameters
    ----------
    pane, form, mode
        Whose record is corrected, where it is typed, and whether it is corrected at all.
    keeper
        Tells when a correction has been saved, or why it has not.

    Attributes
    ----------
    wanted
        Emits the reason for which the correction is to be saved.
    """

    wanted = Signal(str)

    def __init__(
        self, pane: Pane, form: RecordForm, mode: RecordMode, keeper: RecordKeeper, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._pane, self._form, self._mode, self._keeper = pane, form, mode, keeper
        self._guard = CloseGuard(self.ask, parent)

    @property
    def there(self) -> bool:
        """Whether a correction is typed and not saved."""
        if not isalive(self) or not self._mode.correcting:
            return False
        return self._form.wrong or bool(edits(self._pane))

    def watch(self) -> None:
        """Hold the patient while there may be something to lose; called whenever that changes."""
        correcting = self._mode.correcting
        self._mode.allow_saving(bool(edits(self._pane)), self._form.wrong)
        self._guard.watch(correcting)
        if correcting and self.ask not in self._pane.holds:
            self._pane.holds.append(self.ask)
        elif not correcting and self.ask in self._pane.holds:
            self._pane.holds.remove(self.ask)

    def ask(self) -> bool:
        """Return whether nothing would be lost, having asked to save or to discard what would."""
        if self._guard.is_late or not isalive(self):
            return True
        self._finish()
        case = self._pane.case
        if case is None or not self.there:
            return True
        why, why_not = self._mode.why.text(), _WRONG if self._form.wrong else ""
        window = self.parent().window()
        dialog = UnsavedDialog(case.patient, self._words(), why, why_not, window)
        if self._answer(dialog) == DISCARDED:
            self._mode.end()
        return not self.there

    def _finish(self) -> None:
        """Take what is being typed in a field as typed: it is not left yet."""
        field = QApplication.focusWidget()
        if field is not None and self._form.isAncestorOf(field):
            field.clearFocus()

    def _answer(self, dialog: UnsavedDialog) -> int:
        dialog.saved.connect(self.wanted)
        self._keeper.corrected.connect(dialog.accept)
        self._keeper.failed.connect(dialog.refuse)
        try:
            return int(dialog.exec_())
        finally:
            self._keeper.corrected.disconnect(dialog.accept)
            self._keeper.failed.disconnect(dialog.refuse)
            dialog.deleteLater()

    def _words(self) -> list[str]:
        case = self._pane.case
        fields = {} if case is None else case.schema.by_name
        return [
            f"{name}: {fields[name].format(old) or 'missing'} becomes "
            f"{fields[name].format(new) or 'missing'}"
            for name, (old, new) in edits(self._pane).items()
        ]
