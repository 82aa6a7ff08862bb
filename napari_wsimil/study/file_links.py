"""Links to feature files, and file places relative to roots."""

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


#: Key of the facts that a person confirmed: the slide's `feature_facts`.
CONFIRMED = "confirmed"


@dataclass(frozen=True)
class Link:
    """Link from a slide to its feature file.

    Attributes
    ----------
    slide
        Name of the slide in the study.
    path
        Path of the file, which is not moved.
    encoder
        Encoder of the features, stated by the file or by a person.
    verified
        Whether the file itself states the encoder.
    facts
        Further facts for JSON: layout, sizes, results of checks.
    """

    slide: str
    path: Path
    encoder: str = ""
    verified: bool = False
    facts: Mapping[str, str | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Linked:
    """Slides that were newly linked, already linked, or unknown."""

    linked: tuple[str, ...]
    same: tuple[str, ...]
    unknown: tuple[str, ...]


def write_links(
    session: Session, links: Sequence[Link], places: Mapping[Path, Place], who: str, why: str
) -> Linked:
    """Link slides to files, with an audit entry per change."""
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
        before, after = _stored_values(row.features), _values(link, place)
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
    """Return links by slide; StudyError for paths outside the study."""
    query = select(StoredSlide).join(StoredSlide.features).order_by(StoredSlide.id)
    rows = session.scalars(query.options(joinedload(StoredSlide.features)))
    return {row.name: link_of(row.name, row.features, roots) for row in rows if row.features}


def link_of(slide: str, row: StoredFeatures, roots: Mapping[str, Path]) -> Link:
    """Return the link in a row."""
    path = resolved(Place(row.root, row.path), roots)
    return Link(slide, path, row.encoder, row.verified, json.loads(row.facts))


def _stored_values(row: StoredFeatures | None) -> dict[str, object]:
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


def _text(values: Mapping[str, object]) -> str:
    if not values:
        return ""
    status = "verified" if values["verified"] else "unverified"
    return f"{values['root']}:{values['path']} ({values['encoder'] or 'encoder unknown'}, {status})"


#: Name of the root that is the folder of the study itself.
OWN = "study"


@dataclass(frozen=True)
class Place:
    """Place of a file: root and relative POSIX path.

    A root is a named folder. If files move together, only the root's folder changes, not the
    place of each file.
    """

    root: str
    path: str


def place_of(path: Path | str, roots: Mapping[str, Path]) -> Place | None:
    """Return a file's place in its root, or None.

    The first root that contains the file counts.
    """
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
        If the root is unknown, or the path leaves it through ".." or, in the study's own
        folder, through a symbolic link. Paths written by this program never do.
    """
    below = PurePosixPath(place.path)
    if place.root not in roots:
        raise StudyError(
            f"the study has no root {place.root!r} for {place.path}. Set it with `study root`."
        )
    root = roots[place.root]
    path = Path(root, below)
    leaves = below.is_absolute() or ".." in below.parts or not below.parts
    if leaves or (place.root == OWN and not path.resolve().is_relative_to(root.resolve())):
        raise StudyError(
            f"the study has a file {place.path!r} outside of its folder {root}: it is not read"
        )
    return path


def new_roots(paths: Iterable[Path | str], taken: Iterable[str], name: str) -> dict[str, Path]:
    """Return new roots for files: the deepest common folders.

    Files with the same top-level folder share a root. Roots are named `name`, `name-2` and so
    on, without the names in `taken`.
    """
    folders: dict[str, list[Path]] = {}
    for path in paths:
        folder = Path(os.path.abspath(path)).parent
        folders.setdefault("/".join(folder.parts[:2]), []).append(folder)
    used = set(taken)
    roots: dict[str, Path] = {}
    for parents in folders.values():
        root = next(n for n in _numbered(name) if n not in used)
        used.add(root)
        roots[root] = Path(os.path.commonpath(parents))
    return roots


def roots_of(session: Session, folder: Path | str) -> dict[str, Path]:
    """Return the roots of a study, its own folder first."""
    folder = Path(folder)
    outside = {root.name: Path(root.folder) for root in session.scalars(select(Root))}
    return {OWN: folder, **outside}


def placed(
    session: Session, folder: Path | str, paths: Sequence[Path | str], name: str
) -> dict[Path, Place]:
    """Return the places of files, with new roots where needed."""
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
