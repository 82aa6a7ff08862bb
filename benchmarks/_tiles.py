"""Tiles: real tiles of two classes, a split of them, and mosaic slides laid of them."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch
from platformdirs import user_cache_path
from skimage.io import imread

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_wsimil.features.encoders.factory import PatchEncoder

COLUMNS, ROWS = 20, 10
PARTS, STRETCHES = 6, 12


@dataclass(frozen=True)
class Tiles:
    """All tiles: T names, (T,) tumor or not, places in splits, pixels and features.

    Attributes
    ----------
    part
        (T,) part of the split in use.
    splits
        (T,) part of each split by name.
    pixels
        (T, S, S, 3) uint8.
    features
        (T, D) float32, by the encoder of identity `encoder`.
    """

    names: tuple[str, ...]
    tumor: NDArray[np.bool_]
    part: NDArray[np.int64]
    splits: dict[str, NDArray[np.int64]]
    pixels: NDArray[np.uint8]
    features: torch.Tensor
    encoder: str

    def pools(self, parts: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which tiles of these parts are normal, and which tumor."""
        among = np.isin(self.part, parts)
        return np.flatnonzero(among & ~self.tumor), np.flatnonzero(among & self.tumor)


@dataclass(frozen=True)
class Mosaic:
    """A slide: (N,) which tile lies on each place of the lattice, row by row."""

    tiles: NDArray[np.int64]
    positive: bool


def lattice(side: int) -> PatchGrid:
    """Return the places of a mosaic's tiles of `side` pixels; their µm are not known."""
    y, x = side * np.mgrid[:ROWS, :COLUMNS].astype(np.int64)
    coords = np.stack([x.ravel(), y.ravel()], axis=1)
    return PatchGrid(coords, side, side, side, slide_size=(COLUMNS * side, ROWS * side))


def draw_splits(names: Sequence[str]) -> dict[str, list[list[str]]]:
    """Return two splits of names, "class/file", each in `PARTS` parts of every class.

    "tiles" deals single tiles at random; "sections" cuts each class, in the order of its
    numbers, into `STRETCHES` stretches and deals these, so that neighbors stay together.
    """
    random = np.random.default_rng(0)
    splits: dict[str, list[list[str]]] = {
        name: [[] for _ in range(PARTS)] for name in ("tiles", "sections")
    }
    for class_name in sorted({name.split("/")[0] for name in names}):
        members = sorted((n for n in names if n.split("/")[0] == class_name), key=_by_number)
        for place, dealt in enumerate(random.permutation(len(members))):
            splits["tiles"][dealt % PARTS].append(members[place])
            splits["sections"][place * STRETCHES // len(members) % PARTS].append(members[place])
    return splits


def _by_number(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name.split("/")[1])]


def load_tiles(
    folder: Path, classes: tuple[str, str], encoder: PatchEncoder, committed: Path | None
) -> Tiles:
    """Return the tiles in two class folders, normal and tumor; encoded ones are kept on disk.

    Parameters
    ----------
    committed
        JSON file of the splits; None to draw them.

    Raises
    ------
    ValueError
        If a class has no tile, or a split does not place a tile.
    """
    files = [p for name in classes for p in sorted((folder / name).glob("*.*"))]
    names = tuple(f"{path.parent.name}/{path.name}" for path in files)
    tumor = np.array([name.split("/")[0] == classes[1] for name in names], dtype=bool)
    if tumor.all() or not tumor.any():
        raise ValueError(f"{folder} has no tiles in {classes[0]} or none in {classes[1]}")
    splits = json.loads(committed.read_text()) if committed else draw_splits(names)
    parts = {name: _placed(names, splits[name]) for name in ("tiles", "sections")}
    pixels = np.stack([imread(path) for path in files])
    features = _kept(pixels, encoder)
    return Tiles(names, tumor, parts["tiles"], parts, pixels, features, encoder.card.identity)


def _placed(names: Sequence[str], parts: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return (T,) the part of each name."""
    part = {name: number for number, members in enumerate(parts) for name in members}
    if missing := [name for name in names if name not in part]:
        raise ValueError(f"the split does not place {len(missing)} tiles, such as {missing[0]}")
    return np.array([part[name] for name in names])


def _kept(pixels: NDArray[np.uint8], encoder: PatchEncoder) -> torch.Tensor:
    """Return (T, D) features, from disk if the same encoder has seen the same pixels."""
    key = hashlib.sha256(encoder.card.identity.encode() + pixels.tobytes()).hexdigest()[:16]
    path = user_cache_path("napari-wsimil") / "benchmarks" / f"tiles-{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        batches = torch.from_numpy(pixels).split(encoder.largest_batch)
        np.save(path, torch.cat([encoder(batch) for batch in batches]).numpy())
    return torch.from_numpy(np.load(path, allow_pickle=False))


def draw(
    pools: tuple[NDArray[np.int64], NDArray[np.int64]],
    count: int,
    share: float,
    random: np.random.Generator,
) -> list[Mosaic]:
    """Return `count` mosaics, every second positive, with `share` of their tiles tumor."""
    size = COLUMNS * ROWS
    tumors = round(share * size)
    mosaics = []
    for number in range(count):
        few = tumors if number % 2 else 0
        tiles = np.concatenate([random.choice(pools[0], size - few), random.choice(pools[1], few)])
        mosaics.append(Mosaic(random.permutation(tiles), bool(number % 2)))
    return mosaics


def bag_of(mosaic: Mosaic, tiles: Tiles) -> Bag:
    """Return what a model sees of a mosaic."""
    features = tiles.features[torch.from_numpy(mosaic.tiles)]
    return Bag(features, encoder=tiles.encoder, grid=lattice(tiles.pixels.shape[1]))


def write_slide(mosaic: Mosaic, tiles: Tiles, path: Path) -> None:
    """Write a mosaic as a tiled TIFF without loss."""
    side = tiles.pixels.shape[1]
    picture = tiles.pixels[mosaic.tiles].reshape(ROWS, COLUMNS, side, side, 3)
    image = picture.swapaxes(1, 2).reshape(ROWS * side, COLUMNS * side, 3)
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", compression="zlib")


def slide_difference(mosaic: Mosaic, tiles: Tiles, encoder: PatchEncoder) -> float:
    """Return the largest difference of features got from a slide file and from its tiles."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.tiff"
        write_slide(mosaic, tiles, path)
        with open_slide(path) as slide:
            bag = finish(extract_features(slide, lattice(tiles.pixels.shape[1]), encoder))
    return float((bag.features - bag_of(mosaic, tiles).features).abs().max())
