"""Pane: one slide with its prediction, clinical record and view; knows no Qt."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from psygnal import SignalGroupDescriptor

from napari_wsimil.gui.case import RecordState
from napari_wsimil.gui.view_state import ViewState
from napari_wsimil.slides.geometry import Region
from napari_wsimil.workflows.progress import RateLimiter

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue
    from napari_wsimil.study.case import Case


#: Largest share of the window's time to draw a map that still fills in: fewer than one frame
#: in twenty waits for it while the camera moves.
_DRAWING_SHARE = 0.04


def _by_identity(*names: str) -> SignalGroupDescriptor:
    """Return events of a state whose large fields are compared by identity."""
    return SignalGroupDescriptor(equality_operators=dict.fromkeys(names, operator.is_))


@dataclass(eq=False)
class SlideState:
    """Slide of a pane, with tissue, patches and features.

    Attributes
    ----------
    slide, tissue, grid, bag
        Each is None until it is known; each depends on those before it.
    called
        Name of the slide in the study it was opened from; empty if from none.
    """

    events: ClassVar[SignalGroupDescriptor] = _by_identity("slide", "tissue", "grid", "bag")

    slide: Slide | None = None
    tissue: Tissue | None = None
    grid: PatchGrid | None = None
    bag: Bag | None = None
    called: str = ""


@dataclass(frozen=True, eq=False)
class _Joined:
    """A prediction joined with extra maps, and the two that it was made of."""

    prediction: Prediction
    extras: dict[str, tuple[Explanation, ...]]
    shown: Prediction


@dataclass(eq=False)
class PredictionState:
    """Model of a pane and its prediction.

    Attributes
    ----------
    model
        Selected model.
    prediction
        Prediction on screen; its maps may still fill in.
    final_prediction
        Last complete prediction.
    baseline
        Prediction that edits of the record are compared with.
    extras
        Further maps by source: the result of a query, a step of a trajectory.
    stale
        Why the prediction is outdated; empty if it is not.
    """

    events: ClassVar[SignalGroupDescriptor] = _by_identity(
        "model", "prediction", "final_prediction", "baseline", "extras"
    )

    model: LoadedModel | None = None
    prediction: Prediction | None = None
    final_prediction: Prediction | None = None
    baseline: Prediction | None = None
    extras: dict[str, tuple[Explanation, ...]] = field(default_factory=dict)
    stale: str = ""
    _joined: _Joined | None = field(default=None, repr=False)

    @property
    def shown(self) -> Prediction | None:
        """Return the prediction with the extra maps among its own."""
        if self.prediction is None or not self.extras:
            return self.prediction
        made = self._joined
        if made is None or made.prediction is not self.prediction or made.extras is not self.extras:
            maps = [*self.prediction.explanations, *(m for e in self.extras.values() for m in e)]
            shown = replace(self.prediction, explanations=tuple(maps))
            made = self._joined = _Joined(self.prediction, self.extras, shown)
        return made.shown


@dataclass(frozen=True, eq=False)
class Pane:
    """One slide with all that is known about it, in four states.

    Each state has its own events: a widget listens to the state that it displays, such as
    `pane.view_state.events.display`, and sets that state alone. A change that makes others
    invalid goes through a method of the pane: a new slide clears tissue, patches, features,
    prediction and patient (`show_slide`). Code that would replace slide or patient calls
    `may_leave` first. The most used fields can be read from the pane itself.
    """

    slide_state: SlideState = field(default_factory=SlideState)
    prediction_state: PredictionState = field(default_factory=PredictionState)
    record_state: RecordState = field(default_factory=RecordState)
    view_state: ViewState = field(default_factory=ViewState)
    _limiter: RateLimiter = field(
        default_factory=lambda: RateLimiter(0.1, _DRAWING_SHARE, 2.0), repr=False
    )

    # fields of the states

    @property
    def slide(self) -> Slide | None:
        return self.slide_state.slide

    @property
    def tissue(self) -> Tissue | None:
        return self.slide_state.tissue

    @property
    def grid(self) -> PatchGrid | None:
        return self.slide_state.grid

    @property
    def bag(self) -> Bag | None:
        return self.slide_state.bag

    @property
    def model(self) -> LoadedModel | None:
        return self.prediction_state.model

    @property
    def prediction(self) -> Prediction | None:
        return self.prediction_state.prediction

    @property
    def shown(self) -> Prediction | None:
        """Return the prediction with the extra maps among its own."""
        return self.prediction_state.shown

    @property
    def case(self) -> Case | None:
        return self.record_state.case

    @property
    def record(self) -> Record | None:
        return self.record_state.record

    @property
    def display(self) -> Display:
        return self.view_state.display

    @property
    def places(self) -> PatchGrid | None:
        """Return the patches of the prediction, or of the slide before there is one."""
        return self.grid if self.prediction is None else self.prediction.bag.grid

    # slide and patient

    def may_leave(self) -> bool:
        """Return whether slide and patient may be replaced; may ask the user."""
        return all(may() for may in tuple(self.record_state.holds))

    def show_slide(self, slide: Slide | None) -> None:
        """Replace the slide; clear patient, tissue, features and prediction."""
        self.show_tissue(None)
        self.show_case(None)
        self.slide_state.called = ""
        self.slide_state.slide = slide

    def show_case(self, case: Case | None) -> None:
        """Replace the patient; the record is reset to that of the study."""
        self.record_state.record = self.prediction_state.baseline = None  # of another patient
        self.record_state.case = case
        if case is not None:
            self.record_state.record = case.record

    def show_tissue(self, tissue: Tissue | None) -> None:
        """Replace the tissue; clear patches, features and prediction."""
        self.slide_state.tissue = None  # first, or tissue without patches is drawn once more
        self.show_grid(None)
        self.slide_state.tissue = tissue

    def show_grid(self, grid: PatchGrid | None) -> None:
        """Replace the patches; clear features and prediction."""
        self.show_bag(None)
        self.slide_state.grid = grid

    def show_bag(self, bag: Bag | None) -> None:
        """Replace the features, and the patches by theirs; clear the prediction."""
        self._clear_prediction()
        self.slide_state.bag = bag
        if bag is not None and bag.grid is not None:
            self.slide_state.grid = bag.grid

    def show_same(self, other: Pane) -> None:
        """Show slide, patches and features of another pane without its prediction."""
        self._clear_prediction()
        ours, theirs = self.slide_state, other.slide_state
        ours.slide, ours.tissue = theirs.slide, theirs.tissue
        ours.grid, ours.bag = theirs.grid, theirs.bag

    # prediction

    def show_model(self, model: LoadedModel | None) -> None:
        """Replace the model; clear its prediction and select the main map."""
        self._clear_prediction()
        self.show_map("")
        self.prediction_state.model = model

    def show_prediction(self, prediction: Prediction) -> None:
        """Show a prediction of this slide and model; ignore any other.

        Maps of queries about the former prediction are removed.
        """
        if self.accepts(prediction):
            self.prediction_state.stale = ""
            self._clear_extras()
            self.prediction_state.prediction = prediction

    def accepts(self, prediction: Prediction) -> bool:
        """Return whether a prediction is one of this slide and this model."""
        of, slide = prediction.bag.slide, self.slide
        if of and slide is not None and of != slide.fingerprint:
            return False
        return self.model is not None and prediction.card is self.model.card

    def show_answer(self, prediction: Prediction) -> None:
        """Show a complete prediction."""
        self.show_prediction(prediction)
        if self.prediction is prediction:
            self.prediction_state.final_prediction = prediction

    def show_partial(self, prediction: Prediction) -> None:
        """Show a prediction whose maps still fill in, at a limited rate."""
        if self._limiter.due:
            with self._limiter:
                self.show_prediction(prediction)

    def show_revision(
        self, prediction: Prediction, source: str = "", maps: tuple[Explanation, ...] = ()
    ) -> None:
        """Show the prediction of the same patches under another record.

        Selected map, clicked patch and comparison stay. Maps of `source` are replaced together
        with the prediction, so that both are drawn once.
        """
        state = self.prediction_state
        if maps:
            with state.events.extras.blocked():
                state.extras = {**state.extras, source: maps}
        state.prediction = prediction

    def _clear_prediction(self) -> None:
        state = self.prediction_state
        # first: maps that depend on it are not drawn again
        state.prediction = self.view_state.focus = None
        state.final_prediction = state.baseline = state._joined = None
        self._clear_extras()
        state.stale = ""

    def _clear_extras(self) -> None:
        view = self.view_state
        view.area = view.picked = view.looks = None
        if self.prediction_state.extras:
            name = self._map_name()
            self.prediction_state.extras = {}
            self.show_map(name)

    # maps and patches

    def pick(self, patch: int | None) -> None:
        """Select a patch, and its area for the next query."""
        grid = self.places
        self.view_state.picked = patch
        if grid is not None and patch is not None:
            x, y = grid.coords[patch].tolist()
            self.view_state.area = Region(x, y, grid.patch_size, grid.patch_size)

    def show_extra(self, source: str, maps: tuple[Explanation, ...], first: bool = False) -> None:
        """Replace the extra maps of one source; an empty tuple removes them.

        The map on screen stays selected by its name; `first` selects the first new map. If the
        selected map is gone, the main map is selected.
        """
        extras = self.prediction_state.extras
        if self.prediction is None or (not maps and source not in extras):
            return
        name = maps[0].name if first and maps else self._map_name()
        others = {key: value for key, value in extras.items() if key != source}
        self.prediction_state.extras = {**others, source: maps} if maps else others
        self.show_map(name)

    def show_map(self, name: str) -> None:
        """Select the map of a name, or the main map if there is none."""
        shown = self.shown
        names = [one.name for one in shown.explanations] if shown is not None else []
        index = names.index(name) if name in names else 0
        if index != self.display.map_index:
            self.view_state.display = self.display.of(index)

    def _map_name(self) -> str:
        shown, index = self.shown, self.display.map_index
        return shown.explanations[index].name if shown is not None else ""
