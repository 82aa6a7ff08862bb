"""CloseGuard: asks before a window is closed with something in it that is not saved."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from napari.qt import QtViewer
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QMainWindow, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable


class CloseGuard(QObject):
    """Keeps the window of a widget open, while it watches, unless it may be closed.

    It watches the application, before all who tidy up when their window is closed: what they
    would end goes on where a person stays. Code that closes a viewer is not asked: it has taken
    the canvas away by then.

    Parameters
    ----------
    may_close
        Whether the window may be closed; may ask a person.
    parent
        Whose window it is.
    """

    def __init__(self, may_close: Callable[[], bool], parent: QWidget) -> None:
        super().__init__(parent)
        self._may_close = may_close
        self._window: ref[QMainWindow] | None = None
        self._watches = False

    def watch(self, wanted: bool) -> None:
        """Watch the window, or let it be closed."""
        window = _window_of(self.parent())
        if window is not None:  # else it was closed alone, out of the window it was in
            self._window = ref(window)
        if wanted is self._watches:
            return
        self._watches = wanted
        application = QApplication.instance()
        if wanted:
            application.installEventFilter(self)
        else:
            application.removeEventFilter(self)

    @property
    def is_late(self) -> bool:
        """Whether code has closed the viewer already: there is no window to stay in."""
        if self._window is None:
            return False
        window = self._window()
        canvas = window.findChild(QtViewer) if window is not None and isalive(window) else None
        return canvas is None or bool(canvas.isHidden())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask when the window is closed."""
        if event.type() != QEvent.Type.Close or self._window is None:
            return False
        if watched is not self._window() or self.is_late or self._may_close():
            return False
        event.ignore()
        return True


def _window_of(widget: QWidget) -> QMainWindow | None:
    """Return the window that a widget is docked in, be its dock afloat or not."""
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = widget.parentWidget()
    return widget
