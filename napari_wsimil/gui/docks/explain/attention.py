"""AttentionTab: on how many patches each attention lies, and how far several agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_wsimil.explain.statistics import concentration, disagreement, overlap
from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.basic import Table
from napari_wsimil.gui.widgets.dock import Refresher, allow
from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane

#: Share of the patches that count as the first of a map.
_FIRST = 0.02
_SOURCE = "disagreement"
_FACTS = (
    "Effective: as many patches with equal attention would have the same entropy. "
    "A fact, not an alarm: attention to few patches is neither good nor bad."
)


class AttentionTab(Tab):
    """Tells the concentration of each attention map; branches also by overlap and disagreement."""

    name = "Attention"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self.facts = Table("Click a map to see it on the slide")
        self.overlaps = Table(
            f"Of the first {_FIRST:.0%} of the patches of two maps, the share in both"
        )
        self.overlap_words = QLabel(f"Overlap of the first {_FIRST:.0%} of the patches")
        words = QLabel(_FACTS)
        words.setWordWrap(True)
        self.beside = QPushButton("Side by side")
        self.differ = QPushButton("Show disagreement")
        row = QHBoxLayout()
        row.addWidget(self.beside)
        row.addWidget(self.differ)
        for part in (self.facts, words, self.overlap_words, self.overlaps):
            self.column.addWidget(part)
        self.column.addLayout(row)
        self.column.addStretch(1)
        self.facts.chosen.connect(lambda row: pane.show_map(self._attentions()[row].name))
        self.beside.clicked.connect(self._lay_beside)
        self.differ.clicked.connect(self._show_disagreement)
        events = pane.prediction_state.events
        self._refresher = Refresher(self, self._show, events.prediction)

    def fits(self, prediction: Prediction) -> bool:
        return any(one.kind is ExplanationKind.ATTENTION for one in prediction.explanations)

    def _attentions(self) -> list[Explanation]:
        prediction = self._pane.prediction
        maps = prediction.explanations if prediction is not None else ()
        return [one for one in maps if one.kind is ExplanationKind.ATTENTION]

    def _branches(self) -> list[Explanation]:
        """Return the maps of the first family of several attentions."""
        families: dict[str, list[Explanation]] = {}
        for one in self._attentions():
            families.setdefault(one.family, []).append(one)
        several = (maps for family, maps in families.items() if family and len(maps) > 1)
        return next(several, [])

    def _lay_beside(self) -> None:
        self._pane.view_state.side = tuple(one.name for one in self._branches())

    def _show_disagreement(self) -> None:
        if _SOURCE in self._pane.prediction_state.extras:
            self._pane.show_map(_SOURCE)
            return
        spread = disagreement(self._branches())
        unit = "standard deviation in × uniform"
        map_ = Explanation(_SOURCE, ExplanationKind.AMOUNT, spread, unit=unit)
        self._pane.show_extra(_SOURCE, (map_,), first=True)

    def _show(self) -> None:
        prediction = self._pane.prediction
        if prediction is None:
            return
        rows = []
        for one in self._attentions():
            found = concentration(one)
            units = f"{found.units} regions" if one.index is not None else f"{found.units}"
            effective = f"{found.effective:.3g} of {units}"
            rows.append((prediction.title(one), effective, f"{found.entropy:.2f} nats"))
        self.facts.fill(("map", "effective patches", "entropy"), rows)
        self._show_overlaps(prediction)

    def _show_overlaps(self, prediction: Prediction) -> None:
        branches = self._branches()
        for part in (self.overlaps, self.overlap_words, self.beside, self.differ):
            part.setVisible(bool(branches))
        if not branches:
            return
        names = [prediction.title(one) for one in branches]
        shares = overlap(branches, _FIRST).tolist()
        rows = [
            (name, *(f"{share:.0%}" for share in row))
            for name, row in zip(names, shares, strict=True)
        ]
        self.overlaps.fill(("", *(name.removeprefix("branch ") for name in names)), rows)
        allow(self.beside, True, "", "All of these in a second canvas")
        allow(self.differ, True, "", "Where the maps differ, as a map")
