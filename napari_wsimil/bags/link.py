"""Link: a small file that points at features that lie elsewhere, with what was confirmed."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_wsimil.bags.stated import Confirmed

#: Ending of links.
SUFFIX = ".link.json"

_KIND = "napari-wsimil link to features"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "patch_size": int,
    "stride": int,
    "pixels": int,
    "mpp": (int, float),
    "encoder": str,
    "table": str,
    "patches": str,
}


def is_link(path: Path) -> bool:
    """Return whether a path has the ending of a link."""
    return path.name.endswith(SUFFIX)


def write_link(path: Path, features: Path, confirmed: Confirmed) -> None:
    """Write where features lie, relative to the link, and what a person said of them."""
    said = {f.name: getattr(confirmed, f.name) for f in fields(confirmed)}
    said = {name: value for name, value in said.items() if value}
    if confirmed.patches is not None:
        said["patches"] = _relative(confirmed.patches, path)
    content = {"kind": _KIND, "features": _relative(features, path), "confirmed": said}
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_link(path: Path) -> tuple[Path, Confirmed]:
    """Return what a link points at, and what was confirmed of it.

    Raises
    ------
    ValueError
        If it is no link, or says something else than a link does.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as a link ({error})") from error
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise ValueError(f"{path}: is no link to features")
    target, said = found.get("features"), found.get("confirmed")
    if not isinstance(target, str) or not isinstance(said, dict):
        raise ValueError(f"{path}: does not say where the features are")
    if is_link(Path(target)):
        raise ValueError(f"{path}: points at another link, {target}")
    for name, value in said.items():
        if name not in _TYPES or not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            raise ValueError(f"{path}: says {name} = {value!r}, which a link does not")
    return _absolute(target, path), Confirmed(**_paths(said, path))


def _paths(said: dict[str, Any], path: Path) -> dict[str, Any]:
    if "patches" not in said:
        return said
    return {**said, "patches": _absolute(said["patches"], path)}


def _relative(target: Path, link: Path) -> str:
    return Path(os.path.relpath(target.absolute(), link.absolute().parent)).as_posix()


def _absolute(target: str, link: Path) -> Path:
    return Path(os.path.abspath(link.absolute().parent / target))
