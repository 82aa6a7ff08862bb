"""LazySlide: a slide's zarr folder (wsidata) with tiles as shapes and features as tables."""

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


#: What LazySlide keeps in the place of tables that is none of features.
_SPEC, _SLIDE = "tile_spec", "slide_properties"

_ID_COLUMNS = ("tile_id", "id")


def is_lazyslide(path: Path | str) -> bool:
    """Return whether a folder is a zarr with tiles of LazySlide's."""
    path = Path(path)
    if not path.is_dir() or not any((path / n).is_file() for n in (".zgroup", "zarr.json")):
        return False
    tree = ZarrTree(path)
    return _SPEC in tree.attrs() or _SPEC in tree.members("tables")


def state_lazyslide(path: Path | str, table: str = "") -> Stated:
    """Return what a zarr folder of LazySlide's says of one of its tables of features.

    Parameters
    ----------
    table
        Which one; it may be left out where there is only one.

    Raises
    ------
    ValueError
        If there are several tables and none is named, tiles are not square, or rows and
        tiles do not belong together.
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
    # a tile's own side over its pixels: the level's downsample is a mean of two axes there
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
        raise ValueError(f"{tree.path}: no table of features in it: extract them with LazySlide")
    if len(names) > 1 and not table:
        raise ValueError(f"{tree.path}: has {', '.join(names)}: say which (--table)")
    return table or names[0]


def _described(tree: ZarrTree, name: str) -> dict[str, Any]:
    """Return what lies in the root's attributes, or, as in earlier versions, in a table."""
    attrs = tree.attrs().get(name)
    return dict(attrs) if attrs is not None else _values(tree, "tables", name, "uns")


def _values(tree: ZarrTree, *names: str) -> dict[str, Any]:
    """Return the short arrays of a group as plain values, its groups as dicts of them.

    Texts are passed over: the slide's whole header is among them.
    """
    found: dict[str, Any] = {}
    for name in tree.members(*names):
        if not tree.has_array(*names, name):
            found[name] = _values(tree, *names, name)
        elif math.prod(tree.shape(*names, name)) <= 64:
            value = tree.read(*names, name)
            found |= {} if value.dtype.kind == "U" else {name: value.tolist()}
    return found


def _boxes(tree: ZarrTree, table: str, key: str) -> NDArray[np.float64]:
    """Return (N, 4) of the tiles in the order of a table's rows: x and y, low and high."""
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
    lacking = next((tile for tile in tiles if tile not in row_of), None)
    if lacking is not None:
        raise ValueError(f"{tree.path}: table {table} has tile {lacking}, shapes {key} do not")
    return boxes[[row_of[tile] for tile in tiles]]


def _bounds(
    slide: Mapping[str, Any], width: int, height: int
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """Return (x, y, width, height) of the scanned part; some versions swap the latter two."""
    x, y, across, down = (int(v) for v in slide.get("bounds", (0, 0, width, height)))
    if x + across > width and x + down <= width and y + across <= height:
        return (x, y, down, across), ("the file states its bounds' height before their width",)
    return (x, y, across, down), ()


def _side(path: Path, boxes: NDArray[np.float64]) -> float:
    sides = np.unique(np.round(boxes[:, 2:] - boxes[:, :2], 3))
    if len(sides) != 1 or not sides[0] > 0:
        raise ValueError(f"{path}: its tiles have sides of {sides[:4]} px: only one size is read")
    return float(sides[0])


def _number(said: Mapping[str, Any], name: str) -> float | None:
    value = said.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None


#: Codecs that only unpack bytes; what else a file may name (pickle, for one) is refused.
CODECS = frozenset(
    (
        *("blosc", "zlib", "gzip", "zstd", "lz4", "lzma", "bz2", "shuffle"),
        *("bytes", "transpose", "crc32c", "vlen-utf8"),
    )
)

#: No codec packs tighter than this; what says it holds more than that is sparse or absurd.
_TIGHTEST = 1032


@dataclass(frozen=True)
class ZarrTree:
    """A folder in zarr's format 2 or 3.

    Nothing is followed out of the folder: names have no slashes, links are refused.
    """

    path: Path

    def attrs(self, *names: str) -> dict[str, Any]:
        """Return the attributes of a group; empty where it has none."""
        place = self.place(*names)
        if (place / "zarr.json").is_file():
            return dict(self._json(place / "zarr.json").get("attributes") or {})
        return self._json(place / ".zattrs") if (place / ".zattrs").is_file() else {}

    def members(self, *names: str) -> tuple[str, ...]:
        """Return the names in a group, sorted; empty where there is no such group."""
        place = self.place(*names)
        if not place.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in place.iterdir() if entry.is_dir()))

    def has_array(self, *names: str) -> bool:
        """Return whether there is an array of this name, not a group."""
        place = self.place(*names)
        if (place / "zarr.json").is_file():
            return bool(self._json(place / "zarr.json").get("node_type") == "array")
        return (place / ".zarray").is_file()

    def shape(self, *names: str) -> tuple[int, ...]:
        """Return the shape of an array, once it is sure that it can be read."""
        return self._checked(*names)[0]

    def read(self, *names: str) -> NDArray[Any]:
        """Return an array of numbers or of short texts.

        Raises
        ------
        ValueError
            If there is none, a codec of it is not known to be harmless, or it says that
            it holds more than is stored.
        """
        self._checked(*names)
        place = self.place(*names)
        try:
            return np.asarray(zarr.open_array(place, mode="r")[...])
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{place}: cannot be read ({error})") from error

    def place(self, *names: str) -> Path:
        """Return the folder of a group or array; ValueError if it would lie elsewhere."""
        place = self.path
        for name in names:
            if not name or name in {".", ".."} or "/" in name or "\\" in name:
                raise ValueError(f"{self.path}: {name!r} is no name of a group in it")
            place = place / name
        if not place.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{place}: a link out of {self.path.name}, which is not followed")
        return place

    def _checked(self, *names: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        place = self.place(*names)
        if not self.has_array(*names):
            raise ValueError(f"{place}: there is no such array")
        shape, dtype, codecs = self._described(place)
        strange = sorted(codecs - CODECS)
        if strange or dtype.kind not in "iufbU":
            what = f"codec {strange[0]!r}" if strange else f"data of type {dtype}"
            raise ValueError(f"{place}: {what} is not read: only plain numbers and texts are")
        stored = 0
        for file in place.rglob("*"):
            if file.is_symlink():
                raise ValueError(f"{file}: a link in place of data, which is not followed")
            stored += file.stat().st_size
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > max(stored, 1) * _TIGHTEST:
            raise ValueError(
                f"{place}: is said to be {shape}, {size / 1e6:.3g} MB, but {stored / 1e6:.3g} "
                "MB are stored: it is broken"
            )
        return shape, dtype

    def _described(self, place: Path) -> tuple[tuple[int, ...], np.dtype[Any], frozenset[str]]:
        """Return shape, type and codecs as an array's own description has them."""
        third = (place / "zarr.json").is_file()
        said = self._json(place / ("zarr.json" if third else ".zarray"))
        try:
            shape = tuple(int(side) for side in said["shape"])
            dtype = np.dtype(said["data_type"] if third else said["dtype"])
            if third:
                codecs = frozenset(str(codec["name"]) for codec in said["codecs"])
            else:
                steps = [said.get("compressor"), *(said.get("filters") or [])]
                codecs = frozenset(str(step["id"]) for step in steps if step)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{place}: its description is not that of an array") from error
        return shape, dtype, codecs

    def _json(self, path: Path) -> dict[str, Any]:
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{path}: a link out of {self.path.name}, which is not followed")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not readable as JSON") from error
        if not isinstance(found, dict):
            raise ValueError(f"{path}: holds a {type(found).__name__}, not an object")
        return found
