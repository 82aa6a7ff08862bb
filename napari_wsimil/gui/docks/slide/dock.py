"""SlideWidget: open a slide, read its facts, find tissue, lay patches, make features."""

from __future__ import annotations

import html
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.slide.features import FeatureBox
from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.widgets.dock import DockedWidget, allow, listen, while_shown
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.slides.geometry import PLAUSIBLE_MPP, MppSource
from napari_wsimil.slides.placeholder import is_blank
from napari_wsimil.study.case import newer
from napari_wsimil.workflows.patient import row_job
from napari_wsimil.workflows.pipeline import PatchSettings, grid_job, tissue_job
from napari_wsimil.workflows.slides import open_job

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import SlideRow
    from napari_wsimil.gui.session import Session
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue
    from napari_wsimil.study.case import Case
    from napari_wsimil.workflows.load_features import Laid

SLIDES = "Slides (*.svs *.tif *.tiff *.ndpi *.mrxs *.scn *.bif *.vms *.dcm *.qptiff);;All files (*)"


class SlideWidget(DockedWidget):
    """Sets slide, tissue, patches and features of the session's pane."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._trouble = ""
        self.job = JobRow()
        self.column.addWidget(self._build_slide())
        self.column.addWidget(self._build_patches())
        self.features = FeatureBox(session.pane, self.job)
        self.column.addWidget(self.features)
        self.column.addWidget(self.job)
        self.column.addStretch(1)
        self._connect()
        self._refresh()

    # build

    def _build_slide(self) -> QGroupBox:
        self.open_button = QPushButton("Open slide…")
        self.facts = QLabel()
        self.facts.setWordWrap(True)
        self.names = QCheckBox("Show file names")
        self.names.setChecked(NAMES.shown)
        self.names.setToolTip("File names can name a patient: they are hidden unless asked for")
        self.put_away = QLabel()
        self.put_away.setToolTip(_PUT_AWAY)
        self.mpp = QDoubleSpinBox()
        self.mpp.setRange(*PLAUSIBLE_MPP)
        self.mpp.setDecimals(4)
        self.mpp.setSingleStep(0.05)
        self.mpp.setValue(0.5)
        self.mpp.setSuffix(" µm/px")
        self.mpp.setToolTip("Size of a level-0 pixel in µm; 40× is about 0.25, 20× about 0.5")
        self.mpp_button = QPushButton("Set")
        self.mpp_button.setToolTip("Use this pixel size, and remember it for this slide")
        row = QHBoxLayout()
        row.addWidget(self.mpp, 1)
        row.addWidget(self.mpp_button)
        box = QGroupBox("Slide")
        inside = QVBoxLayout(box)
        inside.addWidget(self.open_button)
        inside.addWidget(self.facts)
        inside.addWidget(self.names)
        inside.addWidget(self.put_away)
        inside.addLayout(row)
        return box

    def _build_patches(self) -> QGroupBox:
        self.tissue_button = QPushButton("Find tissue")
        self.patch_mpp = QDoubleSpinBox()
        self.patch_mpp.setRange(0.1, 10.0)
        self.patch_mpp.setValue(0.5)
        self.patch_mpp.setSuffix(" µm/px")
        self.patch_mpp.setToolTip("µm per pixel at which the encoder sees a patch; 0.5 is 20×")
        self.patch_pixels = QSpinBox()
        self.patch_pixels.setRange(32, 1024)
        self.patch_pixels.setValue(224)
        self.patch_pixels.setSuffix(" px")
        self.patch_pixels.setToolTip("Side of a patch in pixels as the encoder sees it")
        self.overlap = QSpinBox()
        self.overlap.setRange(0, 75)
        self.overlap.setSuffix(" %")
        self.overlap.setToolTip("Share of a patch that its neighbor covers again")
        self.grid_button = QPushButton("Create patches")
        self.patch_facts = QLabel()
        self.patch_facts.setWordWrap(True)
        box = QGroupBox("Tissue and patches")
        form = QFormLayout(box)
        form.addRow(self.tissue_button)
        form.addRow("Seen at", self.patch_mpp)
        form.addRow("Size", self.patch_pixels)
        form.addRow("Overlap", self.overlap)
        form.addRow(self.grid_button)
        form.addRow(self.patch_facts)
        return box

    def _connect(self) -> None:
        self.open_button.clicked.connect(self._ask_slide)
        self.names.toggled.connect(partial(setattr, NAMES, "shown"))
        listen(self, self._follow_names, NAMES.events.shown)
        self.mpp_button.clicked.connect(self._set_mpp)
        self.tissue_button.clicked.connect(self._find_tissue)
        self.grid_button.clicked.connect(self._lay_patches)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        events = self._pane.slide_state.events
        listen(self, self._refresh, events.slide, events.tissue, events.grid)

    # act

    def open(self, path: Path, mpp: float | None = None) -> None:
        """Open a slide in the background and show it, unless the patient who is shown must stay."""
        if self._pane.may_leave():
            self._trouble = ""
            self.job.run(open_job(path, mpp), self._show_slide)

    def open_row(self, row: SlideRow, case: Case | None = None) -> None:
        """Open a slide of a patient in the background, with its features, and show the patient.

        Where it cannot be opened the patient is shown without: no one else's slide stays.
        """

        def show(found: tuple[Slide, Laid | None]) -> None:
            slide, laid = found
            now = newer(case, self._pane.case)
            if not self._show_slide(slide):
                return
            self._pane.slide_state.called = row.slide
            self._pane.show_case(now)
            if laid is not None and self._pane.slide is not None:
                self.features.show(replace(laid, slide=self._pane.slide))

        if self._pane.may_leave():
            self._trouble = ""
            self.job.run(row_job(row), show, failed=partial(self._show_alone, case))

    def _ask_slide(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a slide", memory.last_folder(), SLIDES)
        if path:
            self.open(Path(path))
            memory.remember_folder(Path(path).parent)

    def _show_slide(self, slide: Slide) -> bool:
        """Return whether a slide is shown: not if something was typed meanwhile and holds."""
        if not self._pane.may_leave():
            slide.close()
            return False
        slide = memory.with_remembered_mpp(slide)
        before = self._pane.slide
        self._pane.show_slide(slide)
        if before is not None:
            before.close()
        if len(slide.images) > 1:
            show_warning(slide.notes()[0])
        return True

    def _show_alone(self, case: Case | None, trouble: str) -> None:
        """Show a patient whose slide could not be opened, and why."""
        now = newer(case, self._pane.case)
        if self._pane.may_leave():
            self._trouble = trouble
            self._session.show_alone(now)
            self._refresh()

    def _set_mpp(self) -> None:
        slide = self._pane.slide
        if slide is not None:
            memory.remember_mpp(slide, self.mpp.value())
            self.open(slide.path, self.mpp.value())

    def _find_tissue(self) -> None:
        if self._pane.slide is not None:
            show = while_shown(self._pane, self._pane.show_tissue)
            self.job.run(tissue_job(self._pane.slide), show)

    def _lay_patches(self) -> None:
        if self._pane.slide is not None:
            show = while_shown(self._pane, self._show_patches)
            mpp, pixels = self.patch_mpp.value(), self.patch_pixels.value()
            settings = PatchSettings(mpp=mpp, pixels=pixels, overlap=self.overlap.value() / 100)
            self.job.run(grid_job(self._pane.slide, settings, self._pane.tissue), show)

    def _show_patches(self, found: tuple[Tissue, PatchGrid]) -> None:
        tissue, grid = found
        if tissue is not self._pane.tissue:
            self._pane.show_tissue(tissue)
        self._pane.show_grid(grid)

    # show

    def _follow_names(self, shown: bool) -> None:
        """Show or hide names as another window does."""
        self.names.setChecked(shown)
        self._refresh()

    def _refresh(self, _: object = None) -> None:
        slide, busy = self._pane.slide, self.job.busy
        trouble = html.escape(self._trouble)
        nothing = f"<b>{_NO_SLIDE}</b><br>{trouble}" if trouble else _NO_SLIDE
        self.facts.setText(_slide_facts(slide, self.names.isChecked()) if slide else nothing)
        self.open_button.setEnabled(not busy)
        stated = slide is None or slide.resolution.source is MppSource.HEADER or is_blank(slide)
        self.mpp.setVisible(not stated)
        self.mpp_button.setVisible(self.mpp.isVisibleTo(self))
        self.put_away.setText(_put_away_text(self._session))
        self.put_away.setVisible(bool(self._session.shelves))
        blank = slide is not None and is_blank(slide)
        known = slide is not None and slide.resolution.known
        why = "There is no slide, only its features" if blank else "Open a slide first"
        allow(self.tissue_button, slide is not None and not busy and not blank, why)
        why = "Set the pixel size first" if slide is not None and not blank else why
        allow(self.grid_button, known and not busy and not blank, why)
        self.patch_facts.setText(self._patch_text())

    def _patch_text(self) -> str:
        words = []
        if self._pane.tissue is not None:
            area = self._pane.tissue.area_mm2
            words.append("tissue found" if area is None else f"{area:.1f} mm² of tissue")
        if self._pane.grid is not None and self._pane.grid.made_up:
            words.append(f"{len(self._pane.grid)} patches whose places are not known")
        elif self._pane.grid is not None:
            grid = self._pane.grid
            seen = "" if grid.mpp is None else f" at {grid.mpp:.4g} µm/px"
            words.append(f"{len(grid)} patches of {grid.patch_size} level-0 px{seen}")
        return ", ".join(words)


_NO_SLIDE = "No slide is open."
_PUT_AWAY = (
    "Layers that you add stay with their slide and come back with it. They last until this\n"
    "window closes: save them first with File, Save Selected Layers"
)


def _put_away_text(session: Session) -> str:
    """Return how many layers of other slides are put away."""
    layers = sum(len(shelf.layers) for shelf in session.shelves.values())
    slides = len(session.shelves)
    return f"Put away: {layers} layer{'s' * (layers != 1)} of {slides} slide{'s' * (slides != 1)}"


def _slide_facts(slide: Slide, names: bool) -> str:
    if is_blank(slide):
        return "<b>No slide</b>: its features lie on a blank grid"
    width, height = slide.dimensions
    lines = [f"<b>{slide.path.name}</b>"] if names else []
    if slide.synthetic:
        lines.append("<b>Synthetic</b>: drawn by a program, no patient's tissue")
    lines.append(f"{width:,} × {height:,} px, {len(slide.levels)} stored level(s)")
    resolution = slide.resolution
    if resolution.mpp is None:
        lines.append(f"Pixel size <b>unknown</b>: {resolution.note}. Lengths are in pixels.")
    else:
        size = f"{width * resolution.mpp / 1000:.2f} × {height * resolution.mpp / 1000:.2f} mm"
        lines.append(f"{size} at {resolution.mpp:.4g} µm/px ({_SOURCES[resolution.source]})")
    lines.append(f"Format: {slide.reader.vendor}")
    lines += [html.escape(note) for note in slide.notes(names)]
    return "<br>".join(lines)


_SOURCES = {
    MppSource.HEADER: "from the file's header",
    MppSource.OME: "from OME-XML",
    MppSource.DERIVED: "derived from resolution tags",
    MppSource.USER: "as you said",
}
