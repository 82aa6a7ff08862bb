"""Session: what one window is looking at; evented, knows no Qt and no viewer."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from psygnal import SignalGroupDescriptor

from napari_wsimil.app.pace import Pace
from napari_wsimil.explain.scale import Stretch as Stretch

if TYPE_CHECKING:
    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.space.grid import PatchGrid
    from napari_wsimil.space.slide import Slide
    from napari_wsimil.space.tissue import Tissue


#: Largest share of the window's time that goes into drawing a map that still fills in: so
#: small that not one frame in twenty has to wait for it while somebody moves about.
_DRAWING_SHARE = 0.04


@dataclass(frozen=True)
class Display:
    """How a prediction is shown.

    Attributes
    ----------
    map_index
        Which of the prediction's explanations.
    stretch
        How its numbers are stretched.
    opacity
        0–1.
    threshold
        0–1: the share of the color scale below which a patch is left clear.
    visible
        False while the map is hidden.
    """

    map_index: int = 0
    stretch: Stretch = Stretch.NATURAL
    opacity: float = 0.6
    threshold: float = 0.0
    visible: bool = True


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and the card it came with."""

    model: MILModel
    card: Card
    name: str


@dataclass(eq=False)
class Pane:
    """One slide and what is known of it. Setting an attribute emits its event.

    A field is None until it is known; whoever replaces the slide clears what depended on
    it (`show_slide`). `focus` is the patch that is being looked at closely.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(
            ("slide", "tissue", "grid", "bag", "model", "prediction", "display", "focus"),
            operator.is_,
        )
    )

    slide: Slide | None = None
    tissue: Tissue | None = None
    grid: PatchGrid | None = None
    bag: Bag | None = None
    model: LoadedModel | None = None
    prediction: Prediction | None = None
    display: Display = field(default_factory=Display)
    focus: int | None = None
    _pace: Pace = field(default_factory=lambda: Pace(0.1, _DRAWING_SHARE, 2.0), repr=False)

    def show_slide(self, slide: Slide | None) -> None:
        """Replace the slide; what was known of the former one is forgotten."""
        self.show_tissue(None)
        self.slide = slide

    def show_tissue(self, tissue: Tissue | None) -> None:
        """Replace the tissue; patches, features and prediction are forgotten."""
        self.tissue = None  # first, or what is drawn where no patch lies is drawn once more
        self.show_grid(None)
        self.tissue = tissue

    def show_grid(self, grid: PatchGrid | None) -> None:
        """Replace the patches; features and prediction are forgotten."""
        self.show_bag(None)
        self.grid = grid

    def show_bag(self, bag: Bag | None) -> None:
        """Replace the features, and the patches by theirs; the prediction is forgotten."""
        self.prediction = self.focus = None
        self.bag = bag
        if bag is not None and bag.grid is not None:
            self.grid = bag.grid

    def show_prediction(self, prediction: Prediction) -> None:
        """Show a prediction, unless it is of another model than the one that is shown."""
        if self.model is not None and prediction.card is self.model.card:
            self.prediction = prediction

    def show_partial(self, prediction: Prediction) -> None:
        """Show a map that still fills in, unless drawing it would keep the window busy."""
        if self._pace.due:
            with self._pace:
                self.show_prediction(prediction)

    def show_model(self, model: LoadedModel | None) -> None:
        """Replace the model; its prediction is forgotten."""
        self.prediction = None
        self.model = model


@dataclass(eq=False)
class Session:
    """The panes of one window, the first of which the docks work on."""

    panes: list[Pane] = field(default_factory=lambda: [Pane()])

    @property
    def pane(self) -> Pane:
        return self.panes[0]
