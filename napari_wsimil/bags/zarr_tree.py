"""ZarrTree: groups and arrays of a zarr folder, read as data and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

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
