"""Pipeline: a slide or a features file, and a model's card, become the model's bag.

A slide takes the steps tissue → grid → patches → features (`encode_slide`), a features file is
read and checked (`load_features.py`). `bag_of` does either. The window, the command line, the
demo and the benchmarks call the same functions.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import estimate, extract_features
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import bag_as, is_features, read_stated, with_patches
from napari_wsimil.features.store import is_finished, load_bag
from napari_wsimil.features.subpatches import owning_finer
from napari_wsimil.models.base import Need
from napari_wsimil.models.loaded import LoadedModel
from napari_wsimil.progress import Progress
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import Slide, open_slide
from napari_wsimil.slides.tissue import Tissue, find_tissue
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.progress import Remark

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.features.extraction import Estimate
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue

#: Largest relative difference between µm per pixel of patches and of an encoder's training.
_MPP_TOLERANCE = 0.1


@dataclass(frozen=True)
class PatchSettings:
    """How slides are cut into patches and encoded.

    Attributes
    ----------
    encoder, weights, download
        Name of the encoder, its file of weights, and whether weights may be downloaded.
    mpp, pixels, overlap
        µm per pixel, side of a patch in pixels, and overlap of patches as a share of the side.
    """

    encoder: str = "stain-texture"
    weights: Path | None = None
    mpp: float = 0.5
    pixels: int = 224
    overlap: float = 0.0
    download: bool = False

    @classmethod
    def of(cls, card: Card, weights: Path | str | None = None) -> PatchSettings:
        """Return the settings of the slides that a model was trained on.

        Raises
        ------
        ValueError
            If the model was trained on features without coordinates.
        """
        weights = None if weights is None else Path(weights)
        if card.mpp is None or card.pixels is None:
            raise ValueError(
                f"{card.model} was trained on features without coordinates: µm per pixel and "
                "patch size are unknown. Extract or open this slide's features first."
            )
        name = card.encoder.partition("@")[0]
        if not name:
            raise ValueError(
                f"{card.model} was trained on features of an unnamed encoder. Extract or open "
                "this slide's features first."
            )
        return cls(name, weights, card.mpp, card.pixels, card.overlap or 0.0)

    def create_encoder(self) -> PatchEncoder:
        """Return the encoder; errors as of `create_encoder`."""
        return create_encoder(self.encoder, self.weights, self.download)

    def cut(self, slide: Slide, tissue: Tissue | None = None) -> PatchGrid:
        """Return the grid of patches on a slide's tissue, which is found if None."""
        tissue = find_tissue(slide) if tissue is None else tissue
        return make_grid(slide, tissue, self.mpp, self.pixels, self.overlap)


@dataclass(frozen=True)
class BagOptions:
    """Options of a path that becomes a bag.

    Attributes
    ----------
    weights
        File of weights of a slide's encoder.
    slide_mpp
        µm per level-0 pixel, where the file does not state it or is wrong.
    patch_size
        Side of a patch in level-0 pixels, for features files that do not state it.
    """

    weights: Path | None = None
    slide_mpp: float | None = None
    patch_size: int | None = None


NO_OPTIONS = BagOptions()


@dataclass(frozen=True)
class SlideJob:
    """A slide to encode.

    Attributes
    ----------
    path
        The slide.
    target
        File of its features; None where they are not written.
    mpp
        µm per level-0 pixel where it is given against the header.
    """

    path: Path
    target: Path | None = None
    mpp: float | None = None

    @property
    def finished(self) -> bool:
        """Whether its features are complete, whichever tool wrote them."""
        return self.target is not None and is_finished(self.target)

    @property
    def seems_finished(self) -> bool:
        """Whether nothing will be encoded; True for damaged features too."""
        try:
            return self.finished
        except (ValueError, OSError):
            return True


def model_job(path: Path | str) -> Work[LoadedModel]:
    """Load the model of a checkpoint."""
    yield Progress(text="loading the model")
    model, card = load_checkpoint(path)
    return LoadedModel(model, card, Path(path).stem)


def tissue_job(slide: Slide) -> Work[Tissue]:
    """Find the tissue of a slide."""
    yield Progress(text="finding tissue")
    return find_tissue(slide)


def grid_job(
    slide: Slide, settings: PatchSettings, tissue: Tissue | None = None
) -> Work[tuple[Tissue, PatchGrid]]:
    """Return a slide's tissue, which is found if None, and the grid of patches on it."""
    if tissue is None:
        tissue = yield from tissue_job(slide)
    yield Progress(text="laying patches")
    return tissue, settings.cut(slide, tissue)


def encode_slide(
    slide: Slide,
    settings: PatchSettings,
    encoder: PatchEncoder | None = None,
    target: Path | str | None = None,
    tissue: Tissue | None = None,
    costs: CostAnnouncement | None = None,
) -> Work[Bag]:
    """Encode the tissue of an open slide and return its bag.

    Parameters
    ----------
    encoder
        Created from the settings if None.
    target
        HDF5 file to write or to continue; nothing is written if None.
    tissue
        Found on the slide if None.
    costs
        Announces the cost before the first slide.

    Raises
    ------
    ValueError, OSError
        As `create_encoder`, `make_grid` and `extract_features`.
    """
    encoder = settings.create_encoder() if encoder is None else encoder
    grid = settings.cut(slide, tissue)
    if costs is not None:
        yield from costs.remarks(slide, grid, encoder)
    if target is not None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    return (yield from extract_features(slide, grid, encoder, target))


def bag_of(
    path: Path | str,
    card: Card,
    options: BagOptions = NO_OPTIONS,
    needs: Collection[Need] = (),
) -> Work[Bag]:
    """Return the bag of a slide, encoded as the model's training slides, or of a features file.

    Parameters
    ----------
    needs
        `MILModel.needs`. If sub-patches are among them the slide stays open while the bag
        lives, since they are read from it on demand.

    Raises
    ------
    ValueError
        If an option is given that does not apply to this kind of file.
    """
    path = Path(path)
    if is_features(path):
        return _features_in(path, options)
    if options.patch_size is not None:
        raise ValueError(f"--patch-size {options.patch_size} is for a file of features, not {path}")
    settings = PatchSettings.of(card, options.weights)
    encoder = settings.create_encoder()
    yield from encoder_remarks(encoder, settings)
    job = SlideJob(path, mpp=options.slide_mpp)
    bag, _ = yield from encode_file(job, settings, encoder, CostAnnouncement(), needs)
    return bag


def encode_file(
    job: SlideJob,
    settings: PatchSettings,
    encoder: PatchEncoder,
    costs: CostAnnouncement | None = None,
    needs: Collection[Need] = (),
) -> Work[tuple[Bag, bool]]:
    """Open and encode one slide; return its bag, and whether that was finished before.

    `costs` and `needs` are those of `encode_slide` and `bag_of`.
    """
    with ExitStack() as opened, spare_core():
        slide = opened.enter_context(open_slide(job.path, mpp=job.mpp))
        for note in slide.notes(names=True):
            yield Remark(remark=f"{job.path.name}: {note}", warning=True)
        finished = _finished_bag(job, slide, encoder, settings)
        if finished is not None:
            if caveat := finished.reading.caveat:
                text = f"{job.target}: {caveat} (delete the file first)"
                yield Remark(remark=text, warning=True)
            return finished, True
        bag = yield from encode_slide(slide, settings, encoder, job.target, costs=costs)
        if Need.FINER in needs:
            bag = replace(bag, finer=owning_finer(bag, slide, encoder))
            opened.pop_all()  # the bag closes it
    return bag, False


def encoder_remarks(encoder: PatchEncoder, settings: PatchSettings) -> Iterator[Remark]:
    """Yield an encoder's license and notes, and a warning where patches do not suit it."""
    card = encoder.card
    license_ = f"encoder {card.identity}: license: {card.license}"
    yield Remark(remark="; ".join((license_, *card.notes)))
    if card.mpp is not None and abs(settings.mpp / card.mpp - 1) > _MPP_TOLERANCE:
        made_for = f"{card.name} was made for {card.mpp:g} µm per pixel"
        yield Remark(remark=f"{made_for}, patches have {settings.mpp:g}", warning=True)


class CostAnnouncement:
    """Measures the cost of encoding `slides` on the first of them, and announces it once."""

    def __init__(self, slides: int = 1) -> None:
        self._slides = slides
        self._made = False

    def remarks(self, slide: Slide, grid: PatchGrid, encoder: PatchEncoder) -> Iterator[Remark]:
        """Yield the cost, the first time it is called."""
        if not self._made:
            yield _cost(estimate(slide, grid, encoder), grid, self._slides)
        self._made = True


def _cost(cost: Estimate, grid: PatchGrid, slides: int) -> Remark:
    of_all = (
        f" per slide, {slides} slides: about {slides * cost.hours:.2g} hours and "
        f"{slides * cost.gigabytes:.2g} GB in all"
        if slides > 1
        else ""
    )
    return Remark(
        remark=f"{len(grid)} patches at {grid.mpp:.3g} µm per pixel: about {cost.hours:.2g} hours "
        f"({cost.patches_per_second:.0f} patches/s) and {cost.gigabytes:.2g} GB{of_all}"
    )


def _finished_bag(
    job: SlideJob, slide: Slide, encoder: PatchEncoder, settings: PatchSettings
) -> Bag | None:
    """Return the bag in a finished file of the same slide, settings and encoder."""
    if job.target is None or slide.resolution.mpp is None or not job.finished:
        return None
    bag = load_bag(job.target)
    size = round(settings.pixels * settings.mpp / slide.resolution.mpp)
    wanted = size, round(size * (1 - settings.overlap)), settings.pixels
    cut = bag.grid and (bag.grid.patch_size, bag.grid.stride, bag.grid.pixels)
    if cut != wanted or (bag.encoder, bag.slide) != (encoder.card.identity, slide.fingerprint):
        return None
    return replace(bag, reading=bag.reading.of(slide.reading))


def _features_in(path: Path, options: BagOptions) -> Bag:
    """Return the bag in a file of features; ValueError if an option is for slides."""
    confirmed = with_patches(path, Confirmed(patch_size=options.patch_size, mpp=options.slide_mpp))
    stated = read_stated(path, confirmed)
    if options.weights is not None:
        raise ValueError(f"--weights {options.weights} is for a slide, not {path}")
    if options.slide_mpp is not None and stated.mpp is not None:
        raise ValueError(f"--slide-mpp {options.slide_mpp} is for a slide, not {path}")
    return bag_as(stated, confirmed)


@contextmanager
def spare_core() -> Iterator[None]:
    """Leave one core to the threads that read patches; torch's would wait for it in a loop."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
