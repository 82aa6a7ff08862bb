"""Sub-patch features of slides, and their cost.

A sub-patch is one of the `SIDE` × `SIDE` tiles of a patch, read at a higher magnification.
Models such as SASHA need the features of the sub-patches of some patches; they are computed
from the open slide when the model requests them.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import estimate
from napari_wsimil.features.subpatches import with_finer
from napari_wsimil.models.base import Need
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.training.bag_files import BagFiles
from napari_wsimil.training.options import options_of
from napari_wsimil.training.sasha import training_cost

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Manifest, SlideRow
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.factory import PatchEncoder
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.training.sasha import TrainingCost

#: Sub-patches along a patch's side.
SIDE = 4


class CloserLook:
    """Source of sub-patch features for bags.

    They are computed at access by the bag's encoder. The slide of a bag stays open as long
    as the bag exists.
    """

    def __init__(self, weights: Path | str | None = None) -> None:
        weights = None if weights is None else Path(weights)
        self._weights = weights
        self._encoders: dict[str, PatchEncoder] = {}

    def __call__(self, slide: SlideRow, bag: Bag) -> Bag:
        """Return the bag with sub-patch features.

        None of them is computed yet.

        Raises
        ------
        ValueError
            If the path of the slide is unknown, or the bag belongs to another slide.
        """
        if slide.slide_path is None:
            raise ValueError(f"slide {slide.slide!r} has no slide_path to read sub-patches from")
        image = open_slide(slide.slide_path, mpp=slide.mpp)
        return with_finer(bag, image, self.encoder(bag), SIDE)

    def encoder(self, bag: Bag) -> PatchEncoder:
        """Return the encoder of a bag."""
        name = bag.encoder.partition("@")[0]
        if name not in self._encoders:
            self._encoders[name] = create_encoder(name, self._weights)
        return self._encoders[name]


def closer_for(model: type[MILModel], weights: Path | str | None) -> CloserLook | None:
    """Return a model's source of sub-patch features.

    None if the model needs none.
    """
    weights = None if weights is None else Path(weights)
    return CloserLook(weights) if Need.FINER in model.needs else None


def cost_of(manifest: Manifest, config: RunConfig, closer: CloserLook) -> TrainingCost:
    """Return the encoder time of a training.

    The speed is measured on the first slide.
    """
    slides = [s for p in manifest.patients if config.task.known_of(p) for s in p.slides]
    bags = BagFiles(tuple(slides), config.features)
    first = bags[0]
    if first.grid is None or slides[0].slide_path is None:
        raise ValueError(f"slide {slides[0].slide!r} has no slide_path, or its features no grid")
    with open_slide(slides[0].slide_path, mpp=slides[0].mpp) as slide:
        rate = estimate(slide, first.grid, closer.encoder(first)).patches_per_second
    defaults = {name: option.default for name, option in options_of(config.model).items()}
    budget = (defaults | config.options).get("budget") or 1.0
    patches = round(mean(len(bag) for bag in bags))
    return training_cost(len(slides), patches, SIDE**2, float(budget), rate)
