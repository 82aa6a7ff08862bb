"""Paced: something that is asked for more often than it should be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.workflows.progress import Pace

_WAIT = 50  # milliseconds until what came too early is tried again


class Paced(QObject):
    """Does something at a pace; however often it is asked for, it is done after the last time.

    Parameters
    ----------
    act
        What is done, on this thread.
    pace
        When it may be done again.
    """

    def __init__(self, parent: QObject, act: Callable[[], None], pace: Pace) -> None:
        super().__init__(parent)
        self._act, self._pace = act, pace
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.ask)

    def ask(self) -> None:
        """Do it now, or as soon as it may be done."""
        if self._pace.due:
            self._timer.stop()
            with self._pace:
                self._act()
        elif not self._timer.isActive():
            self._timer.start(_WAIT)

    def forget(self) -> None:
        """Do what was asked for no more."""
        self._timer.stop()
