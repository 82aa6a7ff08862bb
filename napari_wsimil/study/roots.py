"""Roots: where a study's files are, as paths below folders that can be moved.

What lies in the study is kept relative to it, so that the study can be moved as a whole.
What lies elsewhere is kept relative to a named root: when slides move, one root is pointed
anew. A stored path never climbs out of its root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sqlalchemy import select

from napari_wsimil.study.condition import StudyError
from napari_wsimil.study.stored import Root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

#: Name of the root that is the study's own folder.
OWN = "study"


@dataclass(frozen=True)
class Place:
    """A file: the name of a root, and the path below it with forward slashes."""

    root: str
    path: str


def place_of(path: Path, roots: Mapping[str, Path]) -> Place | None:
    """Return the place of a file below the first root that has it, None if none has."""
    path = Path(os.path.abspath(path))
    for name, folder in roots.items():
        if path.is_relative_to(folder):
            return Place(name, path.relative_to(folder).as_posix())
    return None


def resolved(place: Place, roots: Mapping[str, Path]) -> Path:
    """Return the absolute path of a place.

    Raises
    ------
    StudyError
        If it climbs out of its root, as nothing that was written here does, by its steps or,
        in the study itself, by a link; or there is no such root.
    """
    below = PurePosixPath(place.path)
    if place.root not in roots:
        raise StudyError(f"the study has no root {place.root!r}, where it has {place.path}")
    root = roots[place.root]
    path = Path(root, below)
    climbs = below.is_absolute() or ".." in below.parts or not below.parts
    if climbs or (place.root == OWN and not path.resolve().is_relative_to(root.resolve())):
        raise StudyError(
            f"the study has a file at {place.path!r}, which climbs out of {root}: it is not read"
        )
    return path


def new_roots(paths: Iterable[Path], taken: Iterable[str], name: str) -> dict[str, Path]:
    """Return roots for files that have none: per top folder the deepest that has them all.

    They are called `name`, `name-2` and so on, passing over those that are taken.
    """
    folders: dict[str, list[Path]] = {}
    for path in paths:
        folder = Path(os.path.abspath(path)).parent
        folders.setdefault("/".join(folder.parts[:2]), []).append(folder)
    used = set(taken)
    found: dict[str, Path] = {}
    for inside in folders.values():
        free = next(n for n in _numbered(name) if n not in used)
        used.add(free)
        found[free] = Path(os.path.commonpath(inside))
    return found


def roots_of(session: Session, folder: Path) -> dict[str, Path]:
    """Return the roots of the study in `folder`, its own first."""
    outside = {root.name: Path(root.folder) for root in session.scalars(select(Root))}
    return {OWN: folder, **outside}


def placed(session: Session, folder: Path, paths: Sequence[Path], name: str) -> dict[Path, Place]:
    """Return the places of files; folders that are in no root yet become roots."""
    roots = roots_of(session, folder)
    lost = [path for path in paths if place_of(path, roots) is None]
    added = new_roots(lost, roots, name)
    session.add_all(Root(name=n, folder=str(outside)) for n, outside in added.items())
    found = {path: place_of(path, roots | added) for path in paths}
    return {path: place for path, place in found.items() if place is not None}


def _numbered(name: str) -> Iterable[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
