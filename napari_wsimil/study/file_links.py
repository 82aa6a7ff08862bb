"""Links: the files of features of a study's slides, and what is known of each."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from napari_wsimil.study.audit_entry import Act, Entry, append, drafted, per_field
from napari_wsimil.study.health import StudyError
from napari_wsimil.study.orm import Root, StoredFeatures, StoredSlide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session


#: Among the facts of a link, what a person confirmed: the slide's `feature_facts`.
CONFIRMED = "confirmed"


@dataclass(frozen=True)
class Link:
    """The features of one slide.

    Attributes
    ----------
    slide
        Name of the slide in the study.
    path
        The file, which stays where it is.
    encoder
        What made them, as the file says or a person declared.
    verified
        Whether the file itself says so.
    facts
        What else is known, as JSON can say it: layout, sizes, results of the checks.
    """

    slide: str
    path: Path
    encoder: str = ""
    verified: bool = False
    facts: Mapping[str, str | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Linked:
    """What came of linking, by the slides' names: linked anew, so already, or no such slide."""

    linked: tuple[str, ...]
    same: tuple[str, ...]
    unknown: tuple[str, ...]


def write_links(
    session: Session, links: Sequence[Link], places: Mapping[Path, Place], who: str, why: str
) -> Linked:
    """Set the features of slides, with an entry in the ledger for each that changes."""
    query = select(StoredSlide).options(
        joinedload(StoredSlide.features), joinedload(StoredSlide.patient)
    )
    slides = {row.name: row for row in session.scalars(query)}
    unknown = tuple(link.slide for link in links if link.slide not in slides)
    linked: list[str] = []
    same: list[str] = []
    entries: list[Entry] = []
    for link in links:
        if link.slide not in slides:
            continue
        row, place = slides[link.slide], places[link.path]
        before, after = _said(row.features), _values(link, place)
        if before == after:
            same.append(link.slide)
            continue
        row.features = row.features or StoredFeatures()
        for name, value in after.items():
            setattr(row.features, name, value)
        changes = {f"features of {link.slide}": (_text(before), _text(after))}
        entry = drafted(who, Act.LINKED, patient=row.patient.name, why=why)
        entries += per_field(entry, changes)
        linked.append(link.slide)
    append(session, entries)
    return Linked(tuple(linked), tuple(same), unknown)


def read_links(session: Session, roots: Mapping[str, Path]) -> dict[str, Link]:
    """Return the links of a study by the slides' names; StudyError if one climbs out."""
    query = select(StoredSlide).join(StoredSlide.features).order_by(StoredSlide.id)
    rows = session.scalars(query.options(joinedload(StoredSlide.features)))
    return {row.name: link_of(row.name, row.features, roots) for row in rows if row.features}


def link_of(slide: str, row: StoredFeatures, roots: Mapping[str, Path]) -> Link:
    """Return the link in a row."""
    path = resolved(Place(row.root, row.path), roots)
    return Link(slide, path, row.encoder, row.verified, json.loads(row.facts))


def _said(row: StoredFeatures | None) -> dict[str, object]:
    names = ("root", "path", "encoder", "verified", "facts")
    return {} if row is None else {name: getattr(row, name) for name in names}


def _values(link: Link, place: Place) -> dict[str, object]:
    return {
        "root": place.root,
        "path": place.path,
        "encoder": link.encoder,
        "verified": link.verified,
        "facts": json.dumps(dict(link.facts), sort_keys=True),
    }


def _text(said: Mapping[str, object]) -> str:
    if not said:
        return ""
    sure = "verified" if said["verified"] else "unverified"
    return f"{said['root']}:{said['path']} ({said['encoder'] or 'encoder unknown'}, {sure})"


#: Name of the root that is the study's own folder.
OWN = "study"


@dataclass(frozen=True)
class Place:
    """A file: the name of a root, and the path below it with forward slashes."""

    root: str
    path: str


def place_of(path: Path | str, roots: Mapping[str, Path]) -> Place | None:
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


def new_roots(paths: Iterable[Path | str], taken: Iterable[str], name: str) -> dict[str, Path]:
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


def roots_of(session: Session, folder: Path | str) -> dict[str, Path]:
    """Return the roots of the study in `folder`, its own first."""
    folder = Path(folder)
    outside = {root.name: Path(root.folder) for root in session.scalars(select(Root))}
    return {OWN: folder, **outside}


def placed(
    session: Session, folder: Path | str, paths: Sequence[Path | str], name: str
) -> dict[Path, Place]:
    """Return the places of files; folders that are in no root yet become roots."""
    files = [Path(path) for path in paths]
    roots = roots_of(session, folder)
    lost = [path for path in files if place_of(path, roots) is None]
    added = new_roots(lost, roots, name)
    session.add_all(Root(name=n, folder=str(outside)) for n, outside in added.items())
    found = {path: place_of(path, roots | added) for path in files}
    return {path: place for path, place in found.items() if place is not None}


def _numbered(name: str) -> Iterable[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
