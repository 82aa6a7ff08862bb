"""DockedWidget: base of our docks, and how widgets listen to a session."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakMethod, ref

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDockWidget,
    QFrame,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from psygnal import SignalInstance
    from qtpy.QtGui import QShowEvent

    from napari_wsimil.gui.pane import Pane

#: What the widest dock needs with its scroll bar, in pixels; nothing is cut off at the right.
_WIDTH = 400
Result = TypeVar("Result")


def listen(owner: QObject, act: Callable[..., Any], *signals: SignalInstance) -> None:
    """Call the method `act` at each event of a state, until `owner` is destroyed.

    A widget whose dock is closed is disconnected here and needs no checks of its own.
    """
    for signal in signals:
        _connect(ref(owner), WeakMethod(act), _positional(act), signal)


def _connect(
    owner: ref[QObject], method: WeakMethod[Any], count: int | None, signal: SignalInstance
) -> None:
    def call(*args: object) -> None:
        alive, act = owner(), method()
        if alive is not None and act is not None and isalive(alive):
            act(*args[:count])
        else:  # not at once: the signal is calling its slots
            QTimer.singleShot(0, lambda: signal.disconnect(call, missing_ok=True))

    signal.connect(call)


def _positional(act: Callable[..., Any]) -> int | None:
    """Return the number of positional arguments of a method, None if it takes any."""
    kinds = [one.kind for one in signature(act).parameters.values()]
    return None if Parameter.VAR_POSITIONAL in kinds else len(kinds)


def while_alive(owner: QObject, act: Callable[..., Any]) -> Callable[..., None]:
    """Return `act`, which does nothing once `owner` is destroyed, for results of a thread."""

    def acted(*args: object) -> None:
        if isalive(owner):
            act(*args)

    return acted


class Refresher(QObject):
    """Calls a method after events; while its widget is hidden, once it is shown again.

    Several events within the wait count as one.

    Parameters
    ----------
    widget
        Widget that the method refreshes.
    act
        Method to call.
    signals
        Events after which it is called.
    wait
        Milliseconds between the last event and the call; None for a call at each event.
    """

    def __init__(
        self,
        widget: QWidget,
        act: Callable[[], None],
        *signals: SignalInstance,
        wait: int | None = None,
    ) -> None:
        super().__init__(widget)
        self._act, self._due, self._wait = WeakMethod(act), False, wait
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)
        widget.installEventFilter(self)
        listen(self, self.request, *signals)

    @property
    def waiting(self) -> bool:
        """Whether the method is about to be called."""
        return bool(self._timer.isActive())

    def request(self, *_: object) -> None:
        """Call the method after the wait."""
        if self._wait is None:
            self.refresh()
        else:
            self._timer.start(self._wait)

    def refresh(self) -> None:
        """Call the method now, or when the widget is shown."""
        widget, act = self.parent(), self._act()
        self._due = not widget.isVisibleTo(widget.window())
        if act is not None and not self._due:
            act()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Call the method when the widget is shown."""
        if self._due and event.type() in (QEvent.Type.Show, QEvent.Type.ShowToParent):
            self.refresh()
        return False


def while_shown(pane: Pane, take: Callable[[Result], None]) -> Callable[[Result], None]:
    """Return `take`, which does nothing once the pane shows another slide.

    A job that ends late must not lay its result on what is shown by then.
    """
    slide = pane.slide

    def taken(result: Result) -> None:
        if pane.slide is slide:
            take(result)

    return taken


class DockedWidget(QWidget):
    """A widget that lives in a dock; what it puts into `column` scrolls on a low screen.

    `docked` tells the window that it is shown in.
    """

    docked = Signal(QWidget)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        inside = QWidget()
        self.column = QVBoxLayout(inside)
        self._area = area = QScrollArea()
        area.setWidget(inside)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumWidth(_WIDTH)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def showEvent(self, event: QShowEvent) -> None:
        """Tell where this is shown."""
        super().showEvent(event)
        self.docked.emit(self.window())

    def reveal(self, part: QWidget) -> None:
        """Scroll until a part of this dock is seen."""
        self._area.ensureWidgetVisible(part)

    def come_forward(self) -> None:
        """Show this dock where it shares its place with another."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QDockWidget):
            parent = parent.parentWidget()
        if parent is not None:
            parent.raise_()


def allow(button: QAbstractButton, allowed: bool, why: str, does: str = "") -> None:
    """Enable a button and say what it does, or let its tooltip say why it is not."""
    button.setEnabled(allowed)
    button.setToolTip(does if allowed else why)


def narrow(box: QComboBox) -> None:
    """Let a list of long words be as narrow as its dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
