"""Feature work: features in a file, laid on their slide after proof that they belong there."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import bag_as, read_stated, with_patches
from napari_wsimil.features.report import passport
from napari_wsimil.progress import Progress, Work
from napari_wsimil.slides.patch_grid import check_places
from napari_wsimil.slides.placeholder import blank_slide, identity_of, made_up_grid

if TYPE_CHECKING:
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.report import Passport
    from napari_wsimil.slides.slide import Slide


@dataclass(frozen=True, eq=False)
class Laid:
    """Features on a slide, and their passport."""

    slide: Slide
    bag: Bag
    passport: Passport


def features_job(path: Path | str, slide: Slide, facts: str = "") -> Work[Laid]:
    """Return the features in a file after proof that they lie on `slide`.

    `facts` is what was confirmed of them, see `SlideRow.feature_facts`.

    Raises
    ------
    ValueError
        If they do not; names the check that failed.
    """
    path = Path(path)
    yield Progress(text="reading features")
    confirmed = with_patches(path, Confirmed.parse(facts))
    stated = read_stated(path, confirmed)
    bag = bag_as(stated, confirmed, slide.resolution)
    if bag.slide and bag.slide != slide.fingerprint:
        raise ValueError(f"{path.name} holds the features of another slide")
    if bag.grid is not None:
        check_places(bag.grid, slide)
    yield Progress(text="checking their places")
    look, rows = bag.slide != slide.fingerprint, bag.features.numpy()
    shown = passport(stated, confirmed, slide, look, rows)
    for check in shown.checks:
        if check.verdict is Verdict.REFUSED:
            raise ValueError(f"{path.name}: {check.name} check: {check.sentence}")
    own = bag.synthetic or slide.synthetic
    reading = bag.reading.of(slide.reading)
    laid = replace(bag, slide=slide.fingerprint, synthetic=own, reading=reading)
    return Laid(slide, laid, shown)


def blank_job(path: Path | str, facts: str = "") -> Work[Laid]:
    """Return the features in a file on a blank slide, for want of their own.

    Features without places get places that are made up, and say so.
    """
    yield Progress(text="reading features")
    confirmed = with_patches(path, Confirmed.parse(facts))
    stated = read_stated(path, confirmed)
    bag = bag_as(stated, confirmed)
    grid = made_up_grid(len(bag)) if bag.grid is None else bag.grid
    slide = blank_slide(grid, identity_of(bag.features.numpy()), bag.synthetic)
    laid = replace(bag, grid=grid, slide=slide.fingerprint)
    return Laid(slide, laid, passport(stated, confirmed, features=bag.features.numpy()))


def passport_words(shown: Passport) -> str:
    """Return a passport as rich text, a line per fact and check."""
    lines = [f"<b>{shown.tool}</b>: {shown.patches:,} × {shown.dim}, places in {shown.unit}"]
    if shown.patch_size is not None and shown.step is not None:
        um = "" if shown.patch_um is None else f" ({shown.patch_um:.4g} µm)"
        size = f"patches of {shown.patch_size:.6g} level-0 px{um}, step {shown.step:.6g}"
        lines.append(f"{size}, seen at {shown.pixels} px")
    lines.append(f"encoder {shown.encoder or 'not named'}: {shown.encoder_source}")
    mpp = "unknown" if shown.mpp is None else f"{shown.mpp:.4g} µm: {shown.mpp_source}"
    lines.append(f"a level-0 px is {mpp}")
    lines += [f"<b>{check.name} {check.verdict}</b>: {check.sentence}" for check in shown.checks]
    said = [*lines, *shown.notes]
    return "<br>".join(line if "<b>" in line else html.escape(line) for line in said)
