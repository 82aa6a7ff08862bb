"""FeatureNote: problems of the features of a cohort, detected in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_wsimil.gui.names import NAMES, unnamed
from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.workflows.training import checked_features, cohort_paths

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.training.feature_check import FeatureReport
    from napari_wsimil.training.tasks import Task


class FeatureNote(QWidget):
    """Reads the features of a cohort once it is chosen, and shows problems and remarks.

    Attributes
    ----------
    report
        The result; None while the features are read.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report: FeatureReport | None = None
        self._unnamed = ""
        self._chosen: object = None
        self._latest = LatestTask(self)
        self.label = QLabel()
        self.label.setWordWrap(True)
        inside = QVBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.label)

    @property
    def busy(self) -> bool:
        """Whether features are being read."""
        return self._latest.busy

    def check(self, manifest: Manifest | None, folder: Path | None, task: Task) -> None:
        """Read the features of a cohort, unless these are the ones read last."""
        chosen = (id(manifest), folder, task)
        if chosen == self._chosen:
            return
        self._chosen, self.report = chosen, None
        if manifest is None:
            self._latest.drop()
            self._say("")
            return
        self._say("Checking the features …")

        def work() -> tuple[FeatureReport, str] | None:
            report = checked_features(manifest, folder, task, lambda: self._chosen == chosen)
            if report is None:
                return None
            return report, unnamed(report.problem, cohort_paths(manifest))

        self._latest.run(work, self._take, self._say)

    def why(self, mixed: bool) -> str:
        """Return why nothing can be trained on the features; empty if that is not known."""
        if self.report is None:
            return ""
        if self.report.problem or mixed or not self.report.scales:
            return self.report.problem if NAMES.shown else self._unnamed
        return f"{'; '.join(self.report.scales)}: extract them anew at one, or accept mixed scales"

    def _take(self, checked: tuple[FeatureReport, str] | None) -> None:
        report, self._unnamed = checked or (None, "")
        self.report = report
        notes = () if report is None else (*report.scales, *report.remarks)
        self._say("<br>".join(f"Features: {note}" for note in notes))
        self.changed.emit()

    def _say(self, text: str) -> None:
        self.label.setText(text)
        self.setVisible(bool(text))
