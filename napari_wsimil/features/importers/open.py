"""Exchange: bags that other tools wrote, each normalized to level-0 pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.hdf5 import damage_named, open_h5, read_attrs
from napari_wsimil.features.importers.base import SUFFIXES, Confirmed, Stated, Tool
from napari_wsimil.features.importers.clam import beside, state_clam
from napari_wsimil.features.importers.lazyslide import is_lazyslide, state_lazyslide
from napari_wsimil.features.importers.patch_layout import locate
from napari_wsimil.features.importers.slideflow import state_tensor
from napari_wsimil.features.importers.stamp import state_stamp
from napari_wsimil.features.importers.trident import state_trident
from napari_wsimil.features.store import bag_of, load_bag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.importers.patch_layout import Located
    from napari_wsimil.slides.geometry import Resolution

#: What is put behind the name of an encoder that only a person vouches for.
UNVERIFIED = " (unverified)"


def open_bag(
    path: Path | str,
    *,
    patch_size: int | None = None,
    pixels: int | None = None,
    stride: int | None = None,
    patches: Path | str | None = None,
    mpp: float | None = None,
    encoder: str = "",
    table: str = "",
) -> Bag:
    """Return the bag in a file of ours, TRIDENT's, CLAM's, STAMP's, LazySlide's or Slideflow's.

    A file with features alone is a bag without places. TRIDENT's and ours state their
    sizes and need none of the options; CLAM's do not, unless its file of patches lies
    where CLAM writes it.

    Parameters
    ----------
    path
        The file, or LazySlide's zarr folder.
    patch_size
        Side of a patch in level-0 pixels.
    pixels
        Side of a patch as the encoder saw it; by default as stated, else `patch_size`.
    stride
        Step between patches in level-0 pixels; by default the most frequent one.
    patches
        CLAM's file of patches of the same slide, which states the sizes.
    mpp
        µm per level-0 pixel of the slide, which STAMP's and Slideflow's places need.
    encoder
        Name of the encoder as a person says, then marked as unverified.
    table
        Which of LazySlide's tables of features.

    Raises
    ------
    ValueError
        If it is no such file, if a size is missing (the sentence says which option to
        give), or if features and coordinates do not belong together.
    """
    given = Confirmed(
        patch_size, stride, pixels, mpp, encoder, table, None if patches is None else Path(patches)
    )
    return open_confirmed(Path(path), given)


def open_confirmed(path: Path | str, confirmed: Confirmed) -> Bag:
    """Return the bag in a file, with what a person confirmed of it; otherwise as `open_bag`."""
    path = Path(path)
    confirmed = with_patches(path, confirmed)
    return bag_as(read_stated(path, confirmed), confirmed)


def is_features(path: Path | str) -> bool:
    """Return whether a path is called as files of features are, or is LazySlide's folder."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES or is_lazyslide(path)


def with_patches(path: Path | str, confirmed: Confirmed) -> Confirmed:
    """Return what is confirmed, with CLAM's file of patches if it lies where CLAM writes it."""
    path = Path(path)
    if confirmed.patches is None and confirmed.patch_size is None:
        return replace(confirmed, patches=beside(path))
    return confirmed


def read_stated(path: Path | str, confirmed: Confirmed | None = None) -> Stated:
    """Return what a file says, read by the layout of the tool that wrote it.

    The layouts are told apart in a fixed order: size at level 0 beside the coordinates is
    TRIDENT's, `feats` or a unit of µm STAMP's, anything else in HDF5 CLAM's or features
    alone; a zarr with tiles LazySlide's; a tensor with places beside it Slideflow's.

    Raises
    ------
    ValueError
        If it is none of these, is broken, or leads out of itself.
    """
    path = Path(path)
    with damage_named(path):
        stated = _stated(path, confirmed or Confirmed())
    load = stated.load

    def named() -> NDArray[np.float32]:
        with damage_named(path):
            return load()

    return replace(stated, load=named)


def _stated(path: Path, confirmed: Confirmed) -> Stated:
    if is_lazyslide(path):
        return state_lazyslide(path, confirmed.table)
    if path.is_dir():
        raise ValueError(f"{path}: a folder that is no zarr of LazySlide's: give a file in it")
    if path.suffix.lower() in {".pt", ".pth", ".pkl"}:
        return state_tensor(path)
    with open_h5(path) as file:
        coords = read_attrs(file["coords"]) if "coords" in file else {}
        if "patch_size_level0" in coords:
            return state_trident(path, file)
        if "feats" in file or "patch_embeddings" in file or read_attrs(file).get("unit") == "um":
            return state_stamp(path, file)
        return state_clam(path, file, confirmed.patches)


def bag_as(stated: Stated, confirmed: Confirmed, slide: Resolution | None = None) -> Bag:
    """Return the bag of a file that was stated, with what a person confirmed of it.

    Raises
    ------
    ValueError
        If a size is missing, rows and places differ in number, or features are not finite.
    """
    encoder = f"{confirmed.encoder}{UNVERIFIED}" if confirmed.encoder else stated.encoder
    where = locate(stated, confirmed, slide)
    own = stated.tool in (Tool.OWN, Tool.TRIDENT) and confirmed.reading in ("", "stated")
    if where is not None and own and not where.sizes_confirmed:
        return _as_stated(stated.path, encoder, where)
    grid = None if where is None else where.grid(stated.slide_size)
    if grid is not None and confirmed.stride is not None:
        grid = replace(grid, stride=confirmed.stride)
    return bag_of(
        stated.path,
        stated.load(),
        grid,
        encoder=encoder,
        slide=stated.slide,
        synthetic=stated.synthetic,
        reading=stated.reading,
    )


def _as_stated(path: Path, encoder: str, where: Located) -> Bag:
    """Return the bag of a file that states its own grid, with µm per pixel if it lacks them."""
    bag = load_bag(path)
    grid = bag.grid
    if grid is not None and grid.mpp is None and where.mpp is not None:
        grid = replace(grid, mpp=where.mpp * grid.patch_size / grid.pixels)
    return replace(bag, encoder=encoder, grid=grid)
