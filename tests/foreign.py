"""Files of features exactly as other tools lay them out, for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import shapely
import torch
import zarr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Twelve patches of 512 level-0 px, side by side, from (512, 512) on.
CORNERS = 512 * (1 + np.stack(np.meshgrid(np.arange(4), np.arange(3)), axis=-1).reshape(-1, 2))
FEATURES = np.linspace(0, 1, 12 * 5, dtype=np.float32).reshape(12, 5)


def trident(path: Path, corners: NDArray[Any] = CORNERS, **attrs: Any) -> Path:
    stated = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": path.stem,
        "savetodir": "/elsewhere",
        "level0_width": "None",
        "level0_height": "None",
    }
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=FEATURES, chunks=(1, 5), maxshape=(None, 5))
        file["features"].attrs["encoder"] = "uni_v1"
        file.create_dataset("coords", data=corners, chunks=(1, 2), maxshape=(None, 2))
        file["coords"].attrs.update(stated | attrs)
    return path


def clam(folder: Path, name: str, corners: NDArray[Any] = CORNERS) -> Path:
    """CLAM's two files of a slide; returns that of its features."""
    for part in ("h5_files", "patches", "pt_files"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "patches" / f"{name}.h5", "w") as file:
        places = file.create_dataset("coords", data=corners, chunks=(32, 2), maxshape=(None, 2))
        places.attrs["patch_size"] = 256
        places.attrs["patch_level"] = 1
        places.attrs["downsample"] = (2.0, 2.0)
        places.attrs["name"] = name
    with h5py.File(folder / "h5_files" / f"{name}.h5", "w") as file:
        file.create_dataset("features", data=FEATURES, maxshape=(None, 5))
        file.create_dataset("coords", data=corners.astype(np.int32), maxshape=(None, 2))
    torch.save(torch.from_numpy(FEATURES), folder / "pt_files" / f"{name}.pt")
    return folder / "h5_files" / f"{name}.h5"


def stamp(path: Path, places: NDArray[Any], **attrs: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["coords"] = places.astype(np.float32)
        file["feats"] = FEATURES.astype(np.float16)
        file.attrs.update(attrs)
    return path


def stamp2(path: Path, mpp: float, corners: NDArray[Any] = CORNERS) -> Path:
    """A file of STAMP 2's, whose patches are 512 level-0 px wide."""
    facts = {"stamp_version": "2.3.0", "extractor": "uni2", "unit": "um", "feat_type": "tile"}
    return stamp(path, corners * mpp, tile_size_um=512 * mpp, tile_size_px=224, **facts)


def slideflow(folder: Path, name: str, mpp: float) -> Path:
    """Slideflow's bag of a slide, its places and its settings, of tiles of 512 level-0 px."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(FEATURES), folder / f"{name}.pt")
    np.savez(folder / f"{name}.index.npz", CORNERS + 256)
    extractor = {"class": "slideflow.model.extractors.uni.UNIFeatures", "kwargs": {}}
    said = {"extractor": extractor, "num_features": 5, "tile_px": 224, "tile_um": 512 * mpp}
    (folder / "bags_config.json").write_text(json.dumps(said))
    return folder / f"{name}.pt"


def lazyslide(
    path: Path, *, new: bool = False, order: NDArray[Any] | None = None, **slide: Any
) -> Path:
    """A zarr folder of wsidata's: facts in tables as at first, or in attributes as now."""
    root = zarr.open_group(path, mode="w", zarr_format=3 if new else 2)
    shape = (3072, 4096)
    facts = {"shape": shape, "mpp": 0.5, "bounds": (0, 0, 4096, 3072), **slide}
    spec = {"height": 256, "width": 256, "stride_height": 256, "stride_width": 256, "mpp": 1.0}
    if new:
        spec |= {"base_level": 0, "base_downsample": 2.0, "tissue_name": "tissues"}
        facts = {name: list(v) if isinstance(v, tuple) else v for name, v in facts.items()}
        root.attrs.update({"slide_properties": facts, "tile_spec": {"tiles": spec}})
    else:
        spec |= {"raw_height": 512, "raw_width": 512, "raw_stride_width": 512}
        _fill(root.create_group("tables/slide_properties/uns"), facts)
        _fill(root.create_group("tables/tile_spec/uns/tiles"), spec)
    table = root.create_group("tables/uni_tiles")
    table.attrs.update({"region": "tiles", "encoding-type": "anndata"})
    rows = np.arange(12) if order is None else order
    _fill(table, {"X": FEATURES[rows]})
    _fill(table.create_group("obs"), {"tile_id": rows})
    (path / "shapes" / "tiles").mkdir(parents=True)
    boxes = [shapely.to_wkb(shapely.box(x, y, x + 512, y + 512)) for x, y in CORNERS.tolist()]
    tiles = pyarrow.table({"tile_id": np.arange(12), "geometry": boxes})
    pyarrow.parquet.write_table(tiles, path / "shapes" / "tiles" / "shapes.parquet")
    return path


def _fill(group: zarr.Group, values: dict[str, Any]) -> None:
    for name, value in values.items():
        group.create_array(name, data=np.asarray(value))
