"""StudyRuns: the models that were trained on a study, the last one first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHeaderView, QLabel, QVBoxLayout, QWidget

from napari_wsimil.app.widgets.table import Table
from napari_wsimil.workflows.study import runs_job

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.training_runs import Run
    from napari_wsimil.workflows.pipeline import Step

_NONE = "No model was trained on this study yet, or none that it knows of."
_TITLES = ("trained", "model", "file", "patients", "figures")


class StudyRuns(QWidget):
    """A table of runs: when, which method, its file, on how many patients, and how it did."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = QLabel(_NONE)
        self.words.setWordWrap(True)
        self.table = Table("Models that were trained on patients of this study")
        header = self.table.horizontalHeader()
        header.setMaximumSectionSize(110)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.words)
        column.addWidget(self.table)
        column.addStretch(1)

    def job(self, study: Study) -> Generator[Step, None, tuple[Run, ...]]:
        """Return what reads the runs of a study."""
        return runs_job(study)

    def show_found(self, runs: tuple[Run, ...]) -> None:
        """Show runs."""
        self.words.setVisible(not runs)
        self.table.setVisible(bool(runs))
        self.table.fill(_TITLES, [_cells(run) for run in reversed(runs)])


def _cells(run: Run) -> tuple[str, ...]:
    figures = ", ".join(
        f"{name} not defined" if value is None else f"{name} {value:.3g}"
        for name, value in run.figures.items()
    )
    when = run.when.astimezone().strftime("%Y-%m-%d")
    return when, run.method, run.name.removesuffix(".safetensors"), f"{run.patients:,}", figures
