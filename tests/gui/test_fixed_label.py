"""Still: words change without the window being laid out anew, unless they need another height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from napari_wsimil.gui.widgets.basic import Still

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


class Asked(QObject):
    """Counts how often a widget was asked for another layout."""

    count = 0

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        self.count += event.type() == QEvent.Type.LayoutRequest
        return False


@pytest.mark.parametrize("wraps", [False, True])
def test_other_words_lay_nothing_out_until_they_need_another_height(
    qtbot: QtBot, wraps: bool
) -> None:
    window, label, asked = QWidget(), QLabel("some words"), Asked()
    label.setWordWrap(wraps)
    QVBoxLayout(window).addWidget(Still(label))
    qtbot.addWidget(window)
    window.resize(200, 100)
    with qtbot.waitExposed(window):
        window.show()
    height = label.height()
    window.installEventFilter(asked)
    label.setText("other ones")
    QApplication.processEvents()
    assert asked.count == 0
    assert label.text() == "other ones"
    label.setText("words<br>over<br>lines")
    qtbot.waitUntil(lambda: asked.count > 0)
    assert label.height() > 2 * height
    assert label.width() == label.parentWidget().width() > 100
