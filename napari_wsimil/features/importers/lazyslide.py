"""LazySlide zarr folders (wsidata): tiles as shapes, features as tables."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet
import shapely
import zarr

from napari_wsimil.features.importers.base import Stated, Tool, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


#: LazySlide's tables without features.
_SPEC, _SLIDE = "tile_spec", "slide_properties"

_ID_COLUMNS = ("tile_id", "id")


def is_lazyslide(path: Path | str) -> bool:
    """Return whether a folder is a LazySlide zarr with tiles."""
    path = Path(path)
    if not path.is_dir() or not any((path / n).is_file() for n in (".zgroup", "zarr.json")):
        return False
    tree = ZarrTree(path)
    return _SPEC in tree.attrs() or _SPEC in tree.members("tables")


def state_lazyslide(path: Path | str, table: str = "") -> Stated:
    """Read a feature table of a LazySlide zarr folder.

    Parameters
    ----------
    table
        Name of the table; optional if there is only one.

    Raises
    ------
    ValueError
        If there are several tables and none is named, tiles are not square, or rows and
        tiles do not match.
    """
    path = Path(path)
    tree = ZarrTree(path)
    name = _chosen(tree, table)
    shape = tree.shape("tables", name, "X")
    if len(shape) != 2:
        raise ValueError(f"{path}: table {name} has features of {shape}, not (N, D)")
    key = str(tree.attrs("tables", name).get("region") or "tiles")
    spec, slide = _described(tree, _SPEC).get(key) or {}, _described(tree, _SLIDE)
    boxes = _boxes(tree, name, key)
    side = _side(path, boxes)
    pixels = _number(spec, "width")
    # tile side over pixels, because LazySlide's level downsample is a mean of two axes
    stride = _number(spec, "raw_stride_width") or (
        (_number(spec, "stride_width") or 0) * (side / (pixels or side))
    )
    height, width = (int(v) for v in slide.get("shape", (0, 0)))
    bounds, notes = _bounds(slide, width, height)
    return Stated(
        path=path,
        tool=Tool.LAZYSLIDE,
        shape=(int(shape[0]), int(shape[1])),
        load=lambda: tree.read("tables", name, "X").astype(np.float32, copy=False),
        corners=boxes[:, :2],
        unit=Unit.PIXELS,
        patch_size=side,
        pixels=None if pixels is None else int(pixels),
        step=stride or side,
        mpp=_number(slide, "mpp"),
        slide_size=(width, height) if width and height else None,
        bounds=bounds,
        encoder=name.removesuffix(f"_{key}"),
        notes=notes,
    )


def _chosen(tree: ZarrTree, table: str) -> str:
    own = {_SPEC, _SLIDE}
    names = [n for n in tree.members("tables") if n not in own and tree.has_array("tables", n, "X")]
    if table and table not in names:
        raise ValueError(f"{tree.path}: no table {table!r}; it has {', '.join(names) or 'none'}")
    if not names:
        raise ValueError(f"{tree.path}: no feature table in it: extract features with LazySlide")
    if len(names) > 1 and not table:
        raise ValueError(f"{tree.path}: has several tables: choose {' or '.join(names)} (--table)")
    return table or names[0]


def _described(tree: ZarrTree, name: str) -> dict[str, Any]:
    """Return metadata of the folder.

    They are root attributes, or a table in earlier versions of LazySlide.
    """
    attrs = tree.attrs().get(name)
    return dict(attrs) if attrs is not None else _values(tree, "tables", name, "uns")


def _values(tree: ZarrTree, *names: str) -> dict[str, Any]:
    """Return a group's short arrays as nested dicts.

    Texts are skipped, because they include the slide's whole header.
    """
    values: dict[str, Any] = {}
    for name in tree.members(*names):
        if not tree.has_array(*names, name):
            values[name] = _values(tree, *names, name)
        elif math.prod(tree.shape(*names, name)) <= 64:
            value = tree.read(*names, name)
            values |= {} if value.dtype.kind == "U" else {name: value.tolist()}
    return values


def _boxes(tree: ZarrTree, table: str, key: str) -> NDArray[np.float64]:
    """Return (N, 4) tile boxes in row order.

    The columns are least x, least y, greatest x, greatest y.
    """
    file = tree.place("shapes", key) / "shapes.parquet"
    if file.is_symlink() or not file.is_file():
        raise ValueError(f"{tree.path}: there are no shapes {key!r} for table {table}")
    try:
        shapes = pyarrow.parquet.read_table(file)
        boxes = shapely.bounds(shapely.from_wkb(shapes["geometry"].to_numpy()))
    except (pyarrow.ArrowException, shapely.errors.ShapelyError, KeyError, OSError) as error:
        raise ValueError(f"{file}: tiles cannot be read ({error})") from error
    boxes = np.asarray(boxes, dtype=np.float64)
    column = next((name for name in _ID_COLUMNS if name in shapes.column_names), None)
    if column is None or not tree.has_array("tables", table, "obs", "tile_id"):
        return boxes
    row_of = {tile: row for row, tile in enumerate(shapes[column].to_pylist())}
    tiles = tree.read("tables", table, "obs", "tile_id").tolist()
    unknown = next((tile for tile in tiles if tile not in row_of), None)
    if unknown is not None:
        raise ValueError(f"{tree.path}: table {table} has tile {unknown}, shapes {key} do not")
    return boxes[[row_of[tile] for tile in tiles]]


def _bounds(
    slide: Mapping[str, Any], width: int, height: int
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """Return bounds (x, y, width, height), and notes.

    Some versions of LazySlide swap width and height.
    """
    x, y, across, down = (int(v) for v in slide.get("bounds", (0, 0, width, height)))
    if x + across > width and x + down <= width and y + across <= height:
        return (x, y, down, across), ("the file states its bounds' height before their width",)
    return (x, y, across, down), ()


def _side(path: Path, boxes: NDArray[np.float64]) -> float:
    sides = np.unique(np.round(boxes[:, 2:] - boxes[:, :2], 3))
    if len(sides) != 1 or not sides[0] > 0:
        raise ValueError(
            f"{path}: its tiles have sides of {sides[:4]} px: only one tile size is supported"
        )
    return float(sides[0])


def _number(settings: Mapping[str, Any], name: str) -> float | None:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None


#: Codecs that only unpack bytes; all others (such as pickle) are refused.
CODECS = frozenset(
    (
        *("blosc", "zlib", "gzip", "zstd", "lz4", "lzma", "bz2", "shuffle"),
        *("bytes", "transpose", "crc32c", "vlen-utf8"),
    )
)

#: Highest compression ratio of a codec; data declared larger are sparse or invalid.
_TIGHTEST = 1032


@dataclass(frozen=True)
class ZarrTree:
    """Folder in zarr format 2 or 3.

    Access is limited to the folder: names have no slashes, links are refused.
    """

    path: Path

    def attrs(self, *names: str) -> dict[str, Any]:
        """Return the attributes of a group, possibly empty."""
        folder = self.place(*names)
        if (folder / "zarr.json").is_file():
            return dict(self._json(folder / "zarr.json").get("attributes") or {})
        return self._json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}

    def members(self, *names: str) -> tuple[str, ...]:
        """Return the sorted names in a group, if any."""
        folder = self.place(*names)
        if not folder.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))

    def has_array(self, *names: str) -> bool:
        """Return whether the name is an array, not a group."""
        folder = self.place(*names)
        if (folder / "zarr.json").is_file():
            return bool(self._json(folder / "zarr.json").get("node_type") == "array")
        return (folder / ".zarray").is_file()

    def shape(self, *names: str) -> tuple[int, ...]:
        """Return the shape of an array after validation."""
        return self._checked(*names)[0]

    def read(self, *names: str) -> NDArray[Any]:
        """Return an array of numbers or of short texts.

        Raises
        ------
        ValueError
            If there is none, it uses a codec that is not known to be harmless, or it
            declares more data than are stored.
        """
        self._checked(*names)
        folder = self.place(*names)
        try:
            return np.asarray(zarr.open_array(folder, mode="r")[...])
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{folder}: cannot be read ({error})") from error

    def place(self, *names: str) -> Path:
        """Return the folder of a group or array.

        Raises
        ------
        ValueError
            If it would be outside the zarr folder.
        """
        folder = self.path
        for name in names:
            if not name or name in {".", ".."} or "/" in name or "\\" in name:
                raise ValueError(f"{self.path}: {name!r} is not a valid group name")
            folder = folder / name
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{folder}: a link out of {self.path.name}: links are not followed")
        return folder

    def _checked(self, *names: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        folder = self.place(*names)
        if not self.has_array(*names):
            raise ValueError(f"{folder}: there is no such array")
        shape, dtype, codecs = self._described(folder)
        unsupported = sorted(codecs - CODECS)
        if unsupported or dtype.kind not in "iufbU":
            kind = f"codec {unsupported[0]!r}" if unsupported else f"data of type {dtype}"
            raise ValueError(f"{folder}: {kind} is not supported: only plain numbers and texts are")
        stored = 0
        for file in folder.rglob("*"):
            if file.is_symlink():
                raise ValueError(f"{file}: a link in place of data: links are not followed")
            stored += file.stat().st_size
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > max(stored, 1) * _TIGHTEST:
            raise ValueError(
                f"{folder}: is declared as {shape}, {size / 1e6:.3g} MB, but only "
                f"{stored / 1e6:.3g} MB are stored: damaged"
            )
        return shape, dtype

    def _described(self, folder: Path) -> tuple[tuple[int, ...], np.dtype[Any], frozenset[str]]:
        """Return shape, type and codecs from an array's metadata."""
        is_v3 = (folder / "zarr.json").is_file()
        metadata = self._json(folder / ("zarr.json" if is_v3 else ".zarray"))
        try:
            shape = tuple(int(side) for side in metadata["shape"])
            dtype = np.dtype(metadata["data_type"] if is_v3 else metadata["dtype"])
            if is_v3:
                codecs = frozenset(str(codec["name"]) for codec in metadata["codecs"])
            else:
                steps = [metadata.get("compressor"), *(metadata.get("filters") or [])]
                codecs = frozenset(str(step["id"]) for step in steps if step)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{folder}: its metadata do not describe an array") from error
        return shape, dtype, codecs

    def _json(self, path: Path) -> dict[str, Any]:
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{path}: a link out of {self.path.name}: links are not followed")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not readable as JSON") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: contains a {type(content).__name__}, not an object")
        return content
