"""Scrub: features written anew with nothing but numbers, places and their encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from napari_wsimil.features.hdf5 import open_h5, read_attrs
from napari_wsimil.features.seal import SEAL
from napari_wsimil.features.store import save_bag

if TYPE_CHECKING:
    from napari_wsimil.features.bag import Bag


def save_scrubbed(target: Path | str, bag: Bag, name: str) -> None:
    """Write features, places and encoder of a bag to an HDF5 file that calls the slide `name`.

    The slide's fingerprint, which would lead to its file, is not written.
    """
    target = Path(target)
    if bag.grid is not None:
        save_bag(target, replace(bag, slide=""), name)
        return
    with h5py.File(target, "w") as file:
        file.create_dataset("features", data=bag.features.numpy())
        file["features"].attrs.update(encoder=bag.encoder, name=name)


def left_out(source: Path | str, target: Path | str) -> tuple[str, ...]:
    """Return the names of attributes of an HDF5 file that another has not, or not as they were."""
    source = Path(source)
    target = Path(target)
    gone = _attributes(source) - _attributes(target)
    return tuple(sorted({attribute for attribute, _ in gone}))


def _attributes(path: Path) -> set[tuple[str, str]]:
    """Return names and values of the attributes of an HDF5 file, of another file none."""
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return set()
    with open_h5(path) as file:
        items = (file, *file.values())
        pairs = (pair for item in items for pair in read_attrs(item).items())
        return {(name, str(value)) for name, value in pairs if name != SEAL}
