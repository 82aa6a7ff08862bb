"""Bags from feature files of other tools, in level-0 pixels."""

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

#: Suffix of encoder names that only the user stated.
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
    """Load a bag from a supported tool's feature file.

    Supported are napari-wsimil, TRIDENT, CLAM, STAMP, LazySlide and Slideflow. A file of
    features alone gives a bag without coordinates. TRIDENT and napari-wsimil files state
    their sizes and need no options; CLAM files need them, unless CLAM's patch file is in
    its usual folder.

    Parameters
    ----------
    path
        The file, or a LazySlide zarr folder.
    patch_size
        Patch side in level-0 pixels.
    pixels
        Patch side in pixels of the encoder's input; by default as stated, else `patch_size`.
    stride
        Step between patches in level-0 pixels; by default the most frequent one.
    patches
        CLAM's patch file of the same slide, which states the sizes.
    mpp
        µm per level-0 pixel of the slide, required for STAMP and Slideflow coordinates.
    encoder
        Name of the encoder, then marked as unverified.
    table
        Name of LazySlide's feature table.

    Raises
    ------
    ValueError
        If it is no such file, if a size is missing (the message names the option to
        give), or if features and coordinates do not match.
    """
    overrides = Confirmed(
        patch_size, stride, pixels, mpp, encoder, table, None if patches is None else Path(patches)
    )
    return open_confirmed(Path(path), overrides)


def open_confirmed(path: Path | str, confirmed: Confirmed) -> Bag:
    """Load a bag with user overrides, as `open_bag`."""
    path = Path(path)
    confirmed = with_patches(path, confirmed)
    return bag_as(read_stated(path, confirmed), confirmed)


def is_features(path: Path | str) -> bool:
    """Return whether a path looks like a feature file.

    The suffix decides; LazySlide folders are recognized by their content.
    """
    path = Path(path)
    return path.suffix.lower() in SUFFIXES or is_lazyslide(path)


def with_patches(path: Path | str, confirmed: Confirmed) -> Confirmed:
    """Add CLAM's patch file to the overrides, if it exists."""
    path = Path(path)
    if confirmed.patches is None and confirmed.patch_size is None:
        return replace(confirmed, patches=beside(path))
    return confirmed


def read_stated(path: Path | str, confirmed: Confirmed | None = None) -> Stated:
    """Read a feature file by the layout of its tool.

    Layouts are distinguished in a fixed order. A zarr with tiles is LazySlide's, a tensor
    with a coordinate file beside it Slideflow's. In HDF5, a level-0 patch size with the
    coordinates is TRIDENT's, `feats` or a unit of µm STAMP's, anything else CLAM's or
    features alone.

    Raises
    ------
    ValueError
        If it is none of these, is damaged, or links to other files.
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
        raise ValueError(f"{path}: a folder, but not a LazySlide zarr: give a file in it")
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
    """Build a bag from file contents and user overrides.

    Raises
    ------
    ValueError
        If a size is missing, features and coordinates differ in number, or features are not
        finite.
    """
    encoder = f"{confirmed.encoder}{UNVERIFIED}" if confirmed.encoder else stated.encoder
    layout = locate(stated, confirmed, slide)
    own = stated.tool in (Tool.OWN, Tool.TRIDENT) and confirmed.reading in ("", "stated")
    if layout is not None and own and not layout.sizes_confirmed:
        return _as_stated(stated.path, encoder, layout)
    grid = None if layout is None else layout.grid(stated.slide_size)
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


def _as_stated(path: Path, encoder: str, layout: Located) -> Bag:
    """Load a file with its own grid.

    Missing µm per pixel are added from the layout.
    """
    bag = load_bag(path)
    grid = bag.grid
    if grid is not None and grid.mpp is None and layout.mpp is not None:
        grid = replace(grid, mpp=layout.mpp * grid.patch_size / grid.pixels)
    return replace(bag, encoder=encoder, grid=grid)
