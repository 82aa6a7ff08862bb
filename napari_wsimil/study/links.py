"""Links: the files of features of a study's slides, and what is known of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from napari_wsimil.study.entry import Act, Entry, append, drafted, per_field
from napari_wsimil.study.roots import Place, resolved
from napari_wsimil.study.stored import StoredFeatures, StoredSlide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
