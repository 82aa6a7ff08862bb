"""ViewState: camera, display settings and selection of a pane; knows no Qt and no viewer."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from psygnal import SignalGroupDescriptor

from napari_wsimil.explain.color_scale import Stretch
from napari_wsimil.slides.geometry import Region


@dataclass(frozen=True)
class Display:
    """How a prediction is shown.

    Attributes
    ----------
    map_index
        Which of the maps of `Pane.shown`.
    stretch
        How its numbers are stretched.
    opacity
        0–1.
    threshold
        0–1: the share of the color scale below which a patch is left clear.
    smooth
        Whether colors run from patch to patch, which is for the eye alone and said so.
    outlined
        Whether choices of patches or regions are drawn as outlines.
    visible
        False while the map is hidden.
    """

    map_index: int = 0
    stretch: Stretch = Stretch.NATURAL
    opacity: float = 0.6
    threshold: float = 0.0
    smooth: bool = False
    outlined: bool = True
    visible: bool = True

    def of(self, map_index: int) -> Display:
        """Return the same display of another map."""
        return replace(self, map_index=map_index)


#: µm per screen pixel at a magnification of 1×: 10× is 1 µm, 40× is 0.25 µm.
UM_AT_ONE = 10.0


@dataclass(frozen=True)
class Cursor:
    """Where the mouse is on a slide.

    Attributes
    ----------
    x, y
        In level-0 pixels; pixel 0 reaches from -0.5 to 0.5.
    cell
        Which of the maps beside the main canvas it is over; None on the main canvas.
    """

    x: float
    y: float
    cell: int | None = None


@dataclass(frozen=True)
class View:
    """What a canvas shows.

    Attributes
    ----------
    x, y
        Center in level-0 pixels.
    width, height
        In level-0 pixels.
    um
        µm per screen pixel; None where the slide's pixel size is unknown.
    """

    x: float
    y: float
    width: float
    height: float
    um: float | None

    @property
    def magnification(self) -> float | None:
        """Return the objective's magnification that shows this: 10 at 1 µm per screen pixel."""
        return None if self.um is None else UM_AT_ONE / self.um

    def moved(self, x: float, y: float, scale: float = 1.0) -> View:
        """Return the view of another center, `scale` times as wide."""
        um = None if self.um is None else self.um * scale
        return View(x, y, self.width * scale, self.height * scale, um)

    @property
    def region(self) -> Region:
        """Return what is shown in whole level-0 pixels."""
        corner = math.floor(self.x - self.width / 2), math.floor(self.y - self.height / 2)
        return Region(*corner, math.ceil(self.width), math.ceil(self.height))


@dataclass(eq=False)
class ViewState:
    """Display settings of a pane, its camera, and the selection of the user.

    Attributes
    ----------
    display
        Map on screen and its colors.
    area
        Patch or drawn area of the last query, in level-0 pixels.
    picked, focus
        Patch that was clicked, and patch to center.
    view, wanted
        Visible part of the slide, set by the viewer; part to show, set by widgets.
    cursor
        Position of the mouse; None if it is on no canvas.
    looks
        Number of steps of a trajectory to show; None for all.
    side
        Names of the maps in the Compare dock.
    finely
        Whether attention inside the patches of a trajectory is shown.
    follows
        Whether the camera follows the last step of a trajectory.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(("display", "area", "focus", "wanted"), operator.is_)
    )

    display: Display = field(default_factory=Display)
    area: Region | None = None
    picked: int | None = None
    focus: int | None = None
    view: View | None = None
    wanted: View | None = None
    cursor: Cursor | None = None
    looks: int | None = None
    side: tuple[str, ...] = ()
    finely: bool = False
    follows: bool = False
