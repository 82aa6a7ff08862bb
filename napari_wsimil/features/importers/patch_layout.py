"""Patch coordinates of a feature file in level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.importers.base import Confirmed, Stated, Tool, Unit
from napari_wsimil.slides.patch_grid import PatchGrid, modal_stride

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.slides.geometry import Resolution

_SHIFTS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Question:
    """Question about a value missing from the file.

    `fact` is the field of `Confirmed` for the answer, `text` the question. `needed` is False
    if the features can be used without an answer.
    """

    fact: str
    text: str
    needed: bool = True


@dataclass(frozen=True, eq=False)
class Located:
    """Patch coordinates in level-0 pixels of OpenSlide's full canvas.

    Attributes
    ----------
    corners
        (N, 2) float64 of (x, y), top-left.
    patch_size, step
        Patch side, and extent minus overlap; real numbers.
    pixels
        Patch side in pixels of the encoder's input.
    mpp, mpp_source
        µm per level-0 pixel, and its source; None and "unknown".
    sizes_confirmed
        Whether the user, not the file, stated the size or the step.
    """

    corners: NDArray[np.float64]
    patch_size: float
    step: float
    pixels: int
    mpp: float | None
    mpp_source: str
    sizes_confirmed: bool

    def grid(self, slide_size: tuple[int, int] | None) -> PatchGrid:
        """Return the grid in whole pixels, rounded once."""
        coords = np.round(self.corners).astype(np.int64)
        side = max(1, round(self.patch_size))
        stride = modal_stride(coords) or max(1, round(self.step))
        mpp = None if self.mpp is None else self.mpp * self.patch_size / self.pixels
        return PatchGrid(coords, side, stride, self.pixels, mpp, slide_size)


def level0_mpp(
    stated: Stated, confirmed: Confirmed, slide: Resolution | None = None
) -> tuple[float | None, str]:
    """Return µm per level-0 pixel, and its source.

    The user's value takes precedence, then the slide's, then the file's.
    """
    if confirmed.mpp is not None:
        return confirmed.mpp, "confirmed by the user"
    if slide is not None and slide.mpp is not None:
        return slide.mpp, f"the slide ({slide.source})"
    if stated.mpp is not None:
        return stated.mpp, f"{stated.tool}'s file"
    return None, "unknown"


def questions(
    stated: Stated, confirmed: Confirmed, slide: Resolution | None = None
) -> tuple[Question, ...]:
    """Return the required and optional questions about a file."""
    open_questions = []
    mpp = level0_mpp(stated, confirmed, slide)[0]
    size = confirmed.patch_size or stated.patch_size
    microns = stated.unit is Unit.MICRONS or (not size and stated.patch_um is not None)
    if stated.corners is not None and microns and mpp is None:
        open_questions.append(Question("mpp", "how many µm per level-0 pixel has the slide?"))
    if stated.corners is not None and not size and stated.patch_um is None:
        text = "how large is a patch, in level-0 pixels?"
        clam = " CLAM's patch file states it" if stated.tool is Tool.CLAM else ""
        open_questions.append(Question("patch_size", text + clam))
    if not (confirmed.encoder or stated.encoder):
        open_questions.append(Question("encoder", "which encoder made the features?", needed=False))
    return tuple(open_questions)


def locate(stated: Stated, confirmed: Confirmed, slide: Resolution | None = None) -> Located | None:
    """Return patch coordinates in level-0 pixels, or None.

    Raises
    ------
    ValueError
        If a size is missing; the message names the option to give.
    """
    if stated.corners is None:
        return None
    for question in questions(stated, confirmed, slide):
        if question.needed:
            raise ValueError(f"{stated.path}: does not state {_remedy(question.fact)}")
    mpp, source = level0_mpp(stated, confirmed, slide)
    scale = 1.0 if stated.unit is Unit.PIXELS else 1 / (mpp or 1)
    size: float = confirmed.patch_size or stated.patch_size or _side(stated, mpp or 1)
    corners = stated.corners * scale
    if stated.centered:
        corners = corners - size // 2
    own = confirmed.stride or (stated.step * scale if stated.step else None)
    corners = read_places(corners, size, own or size, confirmed.reading)
    return Located(
        corners=corners,
        patch_size=size,
        step=own or size,
        pixels=confirmed.pixels or stated.pixels or max(1, round(size)),
        mpp=mpp,
        mpp_source=source,
        sizes_confirmed=bool(confirmed.patch_size or confirmed.stride),
    )


def _side(stated: Stated, mpp: float) -> float:
    """Return the patch side in level-0 pixels; Slideflow truncates it."""
    side = (stated.patch_um or 0) / mpp
    return float(int(side)) if stated.tool is Tool.SLIDEFLOW else side


def _remedy(fact: str) -> str:
    if fact == "mpp":
        return (
            "the size of a level-0 pixel, which its coordinates need: give mpp (µm per level-0 "
            "pixel; --slide-mpp), or the slide"
        )
    return (
        "how large a patch is: give patch_size (side in level-0 pixels; --patch-size), or "
        "patches (CLAM's patch file of this slide)"
    )


def read_places(
    corners: NDArray[np.float64], size: float, step: float, reading: str
) -> NDArray[np.float64]:
    """Return (N, 2) corners in another interpretation.

    Parameters
    ----------
    size, step
        Side of a patch and step between patches, in the unit of the corners.
    reading
        A name in `READINGS`.
    """
    if reading in _SHIFTS:
        return corners + np.array(_SHIFTS[reading]) * step
    if reading == "exchanged":
        return corners[:, ::-1]
    half = {"centers": -size / 2, "corners": size / 2}.get(reading, 0.0)
    return corners + half
