"""Validation report of a feature file.

A feature file of another tool states coordinates in its own unit and frame. Patches that
are shifted, scaled or taken from another slide still give a map, but a wrong one. The
report therefore compares the file with its slide before the features are used: each
`Check` has a verdict and a sentence, each `Question` asks for a fact that the file lacks.

For example, coordinates in µm read as pixels leave the slide: the check "edges" is
refused, and its sentence names the interpretation that fits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.checks import (
    Check,
    Verdict,
    check_edges,
    check_number,
    check_repeats,
    check_stride,
    check_tissue,
)
from napari_wsimil.features.importers.base import READINGS, Confirmed, Stated, Tool, Unit
from napari_wsimil.features.importers.patch_layout import Question, level0_mpp, locate, questions
from napari_wsimil.features.place_readings import check_reading, other_places
from napari_wsimil.features.values import check_values, values_of
from napari_wsimil.slides.patch_grid import modal_stride
from napari_wsimil.slides.tissue import find_tissue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_wsimil.features.importers.patch_layout import Located
    from napari_wsimil.slides.slide import Slide

#: Interpretations suggested if the stated coordinates leave the slide.
_NAMED = ("exchanged", "centers", "corners")
#: Relative tolerance between µm per pixel of file and slide.
_MPP_TOLERANCE = 0.02
#: Longest side of the thumbnail for tissue detection, in pixels.
_THUMBNAIL = 1024
_SAME_SLIDE = Check(
    "tissue", None, None, Verdict.PASSED, "the file has the fingerprint of this slide"
)
_SAME_READING = replace(_SAME_SLIDE, name="reading")


@dataclass(frozen=True)
class Passport:
    """Validation report of a feature file.

    Attributes
    ----------
    tool, unit
        Tool that wrote the file, and unit of its coordinates.
    patches, dim
        N and D of its features.
    origin
        (x, y) of the first corner in level-0 pixels of the full canvas; None without
        coordinates.
    bounds
        (x, y, width, height) of the scanned region, if the file or slide states one.
    patch_size, patch_um, step
        Patch side in level-0 pixels and in µm, and extent minus overlap in level-0 pixels.
    pixels
        Patch side in pixels of the encoder's input.
    encoder, encoder_source, verified
        Encoder name, its source, and whether a hash in the file verifies it.
    mpp, mpp_source
        µm per level-0 pixel, and its source.
    checks
        Edges (a), stride (b), tissue (c), number (d), repeated coordinates, values, and
        interpretation of the coordinates.
    questions
        Open questions to the user.
    notes
        Assumptions made.
    content
        SHA-256 of the features, hexadecimal; empty if they cannot be read.
    norm
        Median length of the features; None if they cannot be read.
    """

    tool: Tool
    unit: Unit
    patches: int
    dim: int
    origin: tuple[float, float] | None
    bounds: tuple[int, int, int, int] | None
    patch_size: float | None
    patch_um: float | None
    step: float | None
    pixels: int | None
    encoder: str
    encoder_source: str
    verified: bool
    mpp: float | None
    mpp_source: str
    checks: tuple[Check, ...]
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()
    content: str = ""
    norm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Worst verdict; refused while a required answer is missing."""
        verdicts = {check.verdict for check in self.checks}
        if any(question.needed for question in self.questions):
            return Verdict.REFUSED
        worst = (Verdict.REFUSED, Verdict.WARNED, Verdict.UNTESTED)
        return next((verdict for verdict in worst if verdict in verdicts), Verdict.PASSED)

    @property
    def facts(self) -> dict[str, object]:
        """Plain values by name, for tables, audit log, JSON."""
        checks = {c.name: f"{c.verdict}: {c.sentence}" for c in self.checks}
        return {
            "tool": self.tool.value,
            "verdict": self.verdict.value,
            "patches": self.patches,
            "dim": self.dim,
            "unit": self.unit.value,
            "origin_level0_px": self.origin,
            "bounds_level0_px": self.bounds,
            "patch_level0_px": self.patch_size,
            "patch_um": self.patch_um,
            "step_level0_px": self.step,
            "patch_px": self.pixels,
            "encoder": self.encoder or None,
            "encoder_source": self.encoder_source,
            "mpp_um": self.mpp,
            "mpp_source": self.mpp_source,
            "content_sha256": self.content or None,
            "median_norm": self.norm,
            "checks": checks,
            "asked": {question.fact: question.text for question in self.questions},
            "notes": self.notes,
        }


def passport(
    stated: Stated,
    confirmed: Confirmed | None = None,
    slide: Slide | None = None,
    look: bool = True,
    features: NDArray[np.float32] | None = None,
) -> Passport:
    """Return the validation report of a feature file.

    The file is compared with `slide` if one is given. Failures are reported as checks, not
    raised.

    Parameters
    ----------
    look
        Whether to detect tissue under the patches, which reads a thumbnail. It can be
        skipped for a file with the slide's fingerprint.
    features
        (N, D), if already read.
    """
    confirmed = confirmed or Confirmed()
    resolution = None if slide is None else slide.resolution
    open_questions = questions(stated, confirmed, resolution)
    blocked = any(question.needed for question in open_questions)
    layout = None if blocked else locate(stated, confirmed, resolution)
    mpp, source = level0_mpp(stated, confirmed, resolution)
    checks = _checks(stated, layout, mpp, slide, look, confirmed.reading)
    values, content, norm = _values(stated, features)
    reading = () if confirmed.reading else _reading_question(checks, layout, stated.centered)
    encoder, encoder_source = _encoder(stated, confirmed)
    return Passport(
        tool=stated.tool,
        unit=stated.unit,
        patches=stated.shape[0],
        dim=stated.shape[1],
        origin=None if layout is None or not len(layout.corners) else _first(layout.corners),
        bounds=stated.bounds or _bounds(slide),
        patch_size=None if layout is None else layout.patch_size,
        patch_um=None if layout is None or mpp is None else layout.patch_size * mpp,
        step=None if layout is None else layout.step,
        pixels=None if layout is None else layout.pixels,
        encoder=encoder,
        encoder_source=encoder_source,
        verified=stated.verified and not confirmed.encoder,
        mpp=mpp,
        mpp_source=source,
        checks=(*checks[:-1], values, checks[-1]),
        questions=(*open_questions, *reading),
        notes=stated.notes + _remarks(stated, layout, slide),
        content=content,
        norm=norm,
    )


def _values(
    stated: Stated, features: NDArray[np.float32] | None
) -> tuple[Check, str, float | None]:
    """Return value check, hash and median length of features."""
    try:
        rows = stated.load() if features is None else features
    except (ValueError, OSError) as error:
        return Check("values", None, None, Verdict.REFUSED, str(error)), "", None
    values = values_of(rows)
    content = hashlib.sha256(np.ascontiguousarray(rows, dtype=np.float32).data).hexdigest()
    return check_values(values), content, values.norm


def _reading_question(
    checks: tuple[Check, ...], layout: Located | None, centered: bool
) -> tuple[Question, ...]:
    """Return the question of interpretation if another one fits better."""
    by_name = {check.name: check for check in checks}
    why = by_name["reading"].sentence if by_name["reading"].verdict is Verdict.WARNED else ""
    if layout is not None and by_name["edges"].verdict is Verdict.REFUSED and not why:
        layouts = other_places(layout, centered)
        names = [READINGS[name] for name in _NAMED if name in layouts]
        why = by_name["edges"].sentence
        if not any(name in why for name in names):
            return ()
    if not why:
        return ()
    return (
        Question("reading", f"how should the coordinates be read ({', '.join(READINGS)})? {why}"),
    )


def _first(corners: NDArray[np.float64]) -> tuple[float, float]:
    x, y = corners[0].tolist()
    return x, y


def _encoder(stated: Stated, confirmed: Confirmed) -> tuple[str, str]:
    if confirmed.encoder:
        return confirmed.encoder, "declared by the user, unverified"
    if stated.verified:
        return stated.encoder, "named with a hash of its definition by the file"
    return stated.encoder, "named by the file, unverified" if stated.encoder else "unknown"


def _checks(
    stated: Stated,
    layout: Located | None,
    mpp: float | None,
    slide: Slide | None,
    look: bool,
    reading: str,
) -> tuple[Check, ...]:
    number = check_number(stated.shape[0], None if stated.corners is None else len(stated.corners))
    if layout is None or not len(layout.corners):
        why = "a required answer is missing"
        if stated.corners is None:
            why = "features have no coordinates"
        before, after = ("edges", "stride", "tissue"), ("places", "reading")
        return (*_untested(before, why), number, *_untested(after, why))
    others = _other_readings(layout, stated.unit, mpp, stated.bounds or _bounds(slide))
    size = stated.slide_size if slide is None else slide.dimensions
    stride = modal_stride(np.round(layout.corners).astype(np.int64))
    tissue = None if slide is None or not look else find_tissue(slide, _THUMBNAIL)
    layouts = {} if reading else other_places(layout, stated.centered)
    named = {READINGS[name]: at for name, at in layouts.items() if name in _NAMED}
    edges = check_edges(layout, size, {**others, **named})
    return (
        _same_size(edges, stated, slide),
        check_stride(layout, stride),
        check_tissue(layout, tissue, others) if look else _SAME_SLIDE,
        number,
        check_repeats(layout),
        check_reading(layout, tissue, size, stated.centered, reading) if look else _SAME_READING,
    )


def _untested(names: tuple[str, ...], why: str) -> list[Check]:
    return [Check(name, None, None, Verdict.UNTESTED, why) for name in names]


def _same_size(edges: Check, stated: Stated, slide: Slide | None) -> Check:
    """Refuse a file that states another slide size."""
    if slide is None or stated.slide_size in (None, slide.dimensions):
        return edges
    other, own = (" × ".join(map(str, s)) for s in (stated.slide_size or (), slide.dimensions))
    text = f"the file is of a slide of {other} level-0 px, this slide has {own}"
    return Check("edges", edges.value, edges.limit, Verdict.REFUSED, text)


def _other_readings(
    layout: Located, unit: Unit, mpp: float | None, bounds: tuple[int, int, int, int] | None
) -> Mapping[str, Located]:
    """Return the layout in other tools' frames and units."""
    layouts = {}
    if bounds is not None and bounds[:2] != (0, 0):
        offset = np.array(bounds[:2], dtype=np.float64)
        layouts["with the bounds offset added"] = _at(layout, layout.corners + offset)
        layouts["with the bounds offset subtracted"] = _at(layout, layout.corners - offset)
    if mpp is not None and unit is Unit.PIXELS:
        layouts["as µm"] = _at(layout, layout.corners / mpp)
    elif mpp is not None:
        side = layout.patch_size * mpp
        name = "as pixels instead of µm"
        layouts[name] = _at(replace(layout, patch_size=side), layout.corners * mpp)
    return layouts


def _at(layout: Located, corners: NDArray[np.float64]) -> Located:
    return replace(layout, corners=corners)


def _bounds(slide: Slide | None) -> tuple[int, int, int, int] | None:
    """Return the scanned region stated by OpenSlide's properties."""
    properties = {} if slide is None else slide.reader.properties
    names = [f"openslide.bounds-{side}" for side in ("x", "y", "width", "height")]
    if not all(str(properties.get(name, "")).isdigit() for name in names):
        return None
    x, y, width, height = (int(properties[name]) for name in names)
    return x, y, width, height


def _remarks(stated: Stated, layout: Located | None, slide: Slide | None) -> tuple[str, ...]:
    notes = [] if slide is None else list(slide.notes())
    mpp = None if slide is None else slide.resolution.mpp
    if mpp and stated.mpp and abs(stated.mpp / mpp - 1) > _MPP_TOLERANCE:
        notes.append(f"the file states {stated.mpp:g} µm per level-0 px, the slide {mpp:g}")
    if layout is not None and len(layout.corners):
        off = float(np.abs(layout.corners - np.round(layout.corners)).max())
        if off > 0:
            notes.append(f"coordinates are rounded to whole level-0 px, by at most {off:.2f} px")
    reading = stated.reading if slide is None else stated.reading.of(slide.reading)
    return (*notes, *filter(None, [reading.caveat]))
