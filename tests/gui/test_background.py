"""Background work: order, the latest task, and widgets whose dock is closed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QObject

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


class Source:
    changed = Signal(int, int)


class Listener(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[int] = []

    def take(self, value: int) -> None:
        self.heard.append(value)


def test_queue_does_all_tasks_in_order_and_goes_on_after_an_error(qtbot: QtBot) -> None:
    from napari_wsimil.gui.widgets.background import TaskQueue

    queue, written, failed = TaskQueue(), [], []
    gate = threading.Event()
    queue.submit(lambda: gate.wait(5))
    queue.submit(lambda: 1 / 0, failed=failed.append)
    for number in range(3):
        queue.submit(lambda number=number: number, written.append)
    gate.set()
    qtbot.waitUntil(lambda: not queue.busy)
    assert written == [0, 1, 2]
    assert failed == ["division by zero"]


def test_only_the_latest_task_is_done(qtbot: QtBot) -> None:
    from napari_wsimil.gui.widgets.background import LatestTask

    owner, gate, ran, shown = QObject(), threading.Event(), [], []
    task = LatestTask(owner)
    task.run(lambda: gate.wait(5), shown.append, shown.append)
    for number in range(3):
        task.run(lambda number=number: ran.append(number) or number, shown.append, shown.append)
    gate.set()
    qtbot.waitUntil(lambda: not task.busy)
    assert ran == shown == [2]


def test_dropped_task_reports_nothing(qtbot: QtBot) -> None:
    from napari_wsimil.gui.widgets.background import LatestTask

    owner, gate, shown = QObject(), threading.Event(), []
    task = LatestTask(owner)
    task.run(lambda: gate.wait(5), shown.append, shown.append)
    task.run(lambda: 1, shown.append, shown.append)
    task.drop()
    gate.set()
    qtbot.waitUntil(lambda: not task.busy)
    assert shown == []


def test_destroyed_widget_is_disconnected_from_its_events(qtbot: QtBot) -> None:
    from napari_wsimil.gui.widgets.dock import listen

    source, listener = Source(), Listener()
    listen(listener, listener.take, source.changed)
    source.changed.emit(1, 0)
    with qtbot.waitSignal(listener.destroyed):
        listener.deleteLater()
    source.changed.emit(2, 1)
    assert listener.heard == [1]
    qtbot.waitUntil(lambda: len(source.changed) == 0)


def test_hidden_widget_is_refreshed_once_it_is_shown(qtbot: QtBot) -> None:
    from qtpy.QtWidgets import QTabWidget, QWidget

    from napari_wsimil.gui.widgets.dock import Refresher

    class Page(QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.refreshed = 0

        def refresh(self) -> None:
            self.refreshed += 1

    source, tabs, first, second = Source(), QTabWidget(), Page(), Page()
    qtbot.addWidget(tabs)
    for page in (first, second):
        tabs.addTab(page, "")
        Refresher(page, page.refresh, source.changed)
    tabs.show()
    for value in range(3):
        source.changed.emit(value, 0)
    assert (first.refreshed, second.refreshed) == (3, 0)
    tabs.setCurrentWidget(second)
    assert second.refreshed == 1
