"""Scrub: features written anew with nothing but numbers, places and their encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import h5py

from napari_wsimil.bags.exchange import open_confirmed
from napari_wsimil.bags.hdf5 import open_h5
from napari_wsimil.bags.stated import Confirmed
from napari_wsimil.bags.store import save_bag

if TYPE_CHECKING:
    from pathlib import Path


def scrub(source: Path, target: Path, name: str, facts: str = "") -> tuple[str, ...]:
    """Write the bag in a file of any layout in ours, and return the attributes left out.

    The slide is called `name`, and its fingerprint, which would lead to its file, is not
    written; nothing else of the source is copied. `facts` is what was confirmed of it, see
    `SlideRow.feature_facts`.

    Raises
    ------
    ValueError
        As `open_bag`.
    """
    bag = replace(open_confirmed(source, Confirmed.parse(facts)), slide="")
    if bag.grid is not None:
        save_bag(target, bag, name)
    else:
        with h5py.File(target, "w") as file:
            file.create_dataset("features", data=bag.features.numpy())
            file["features"].attrs.update(encoder=bag.encoder, name=name)
    gone = _attributes(source) - _attributes(target)
    return tuple(sorted({attribute for attribute, _ in gone}))


def _attributes(path: Path) -> set[tuple[str, str]]:
    """Return names and values of the attributes of an HDF5 file, of another file none."""
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return set()
    with open_h5(path) as file:
        items = (file, *file.values())
        return {(name, str(value)) for item in items for name, value in item.attrs.items()}
