"""A tiny cohort of planted bags, as a manifest and as a folder, shared by the tests of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.store import save_bag
from napari_wsimil.synthetic.bags import ENCODER, STRIDE, planted_grid, tissue_cells

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

D = 8
CLASSES = ("normal", "tumor")


def make_bag(k: int, n: int = 12) -> Bag:
    """Return the bag of patient k: of two classes in turn, the second brighter in places."""
    import numpy as np

    generator = torch.Generator().manual_seed(k)
    x = torch.randn(n, D, generator=generator)
    x[:3, 0] += 6 * (k % 2)
    cells: np.ndarray = tissue_cells(n, np.random.default_rng(k))
    return Bag(x, encoder=ENCODER, grid=planted_grid(cells), synthetic=True)


def write_folder(folder: Path, patients: int = 12) -> Path:
    """Return a folder of bags of so many patients."""
    for k in range(patients):
        (folder / CLASSES[k % 2]).mkdir(parents=True, exist_ok=True)
        save_bag(folder / CLASSES[k % 2] / f"p{k}.h5", make_bag(k))
    return folder


def write_manifest(
    folder: Path, splits: tuple[str, ...] = (), patients: int = 12, **cells: Any
) -> Path:
    """Return a manifest of so many patients, whose features it writes into `folder` too."""
    rows = ["patient_id,slide_id,feature_path,split,label"]
    for k in range(patients):
        save_bag(folder / f"p{k}.h5", make_bag(k))
        split = splits[k] if splits else ""
        rows.append(f"Jane Doe {k},p{k},p{k}.h5,{split},{cells.get('label', CLASSES[k % 2])}")
    path = folder / "cohort.csv"
    path.write_text("\n".join(rows))
    return path


SPLITS = ("train",) * 6 + ("validation",) * 2 + ("test",) * 4
__all__ = ["CLASSES", "SPLITS", "STRIDE", "D", "make_bag", "write_folder", "write_manifest"]
