"""Rescue: a new, sound study made of what could be read of a damaged one."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, text, update

from napari_wsimil.study.cases import patient_of, rows_of
from napari_wsimil.study.chain import pinned, spans
from napari_wsimil.study.condition import Health, StudyError
from napari_wsimil.study.database import WAIT_S, create_database, open_database
from napari_wsimil.study.entry import Act, append, drafted, entry_of, is_intact, is_linked
from napari_wsimil.study.mending import placing
from napari_wsimil.study.opened import Study
from napari_wsimil.study.roots import OWN, new_roots, roots_of
from napari_wsimil.study.stored import (
    VERSION,
    Base,
    Fact,
    Root,
    StoredEntry,
)
from napari_wsimil.study.study import DATABASE, FOLDERS, open_study, user_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.study.database import Database
    from napari_wsimil.study.entry import Entry

#: The root of a rescued study that is the folder of the damaged one, with the files in it.
OLD = "damaged-study"


@dataclass(frozen=True, eq=False)
class Rescued:
    """A study that was made of a damaged one.

    Attributes
    ----------
    study
        It, open.
    lost
        What is known to be lost, in sentences.
    left
        The folder of the damaged study, if files of the new one still lie there.
    """

    study: Study
    lost: tuple[str, ...]
    left: Path | None


def rescue_study(
    folder: str | Path, new: str | Path, *, who: str | None = None, wait_s: float = WAIT_S
) -> Rescued:
    """Return a new study made of what can be read of a damaged one, which stays as it is.

    Entries of the ledger keep their numbers and hashes; an entry at its end names those that
    are lost. Features and other files stay where they are, below a root of the new study.

    Parameters
    ----------
    folder
        The damaged study; also one that cannot be reached but through a copy.
    new
        Folder of the new one, outside of the other; may hold other things, but no study.
    who
        Who stands in the ledger; the user of the operating system if None.
    wait_s
        Seconds to wait for other programs that write.

    Raises
    ------
    StudyError
        If the study is not damaged, is of a newer version, or its schema is lost; or there is
        a study at `new` already.
    OSError
        If the new folder cannot be written.
    """
    folder, new = Path(os.path.abspath(folder)), Path(os.path.abspath(new))
    database = open_database(folder / DATABASE, wait_s)
    try:
        _check(database, folder, new)
        work = _Rescue(Study(folder, database, who or user_name()), new, database)
        for part in ("", *FOLDERS):
            (new / part).mkdir(parents=True, exist_ok=True)
        with database.reading() as source:
            create_database(new / DATABASE, partial(work.fill, source))
    finally:
        database.close()
    return Rescued(open_study(new, who=who), tuple(work.lost), work.left)


def _check(database: Database, folder: Path, new: Path) -> None:
    with database.path.open("rb") as file:
        version = int.from_bytes(file.read(64)[60:], "big")
    if version > VERSION:
        raise StudyError(
            f"{database.path} was made by a newer version of this program (format {version}, "
            f"this one knows {VERSION}): rescue it with that one"
        )
    if database.health not in (Health.DAMAGED, Health.UNREACHABLE):
        raise StudyError(
            f"{folder} is not damaged, there is nothing to rescue: to have it twice copy "
            "its folder while no program has it open"
        )
    if new.is_relative_to(folder):
        raise StudyError(f"{new} is in the damaged study itself: name a folder outside")


class _Rescue:
    """A new study being filled with what an old one has."""

    def __init__(self, old: Study, new: Path, database: Database) -> None:
        self._old, self._new, self._schema = old, new, old.schema
        self._path, self.lost = database.path, list(database.lost)
        files = (path for part in FOLDERS for path in (old.folder / part).rglob("*"))
        self.left = old.folder if any(path.is_file() for path in files) else None

    def fill(self, source: Session, session: Session) -> None:
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in source.execute(select(table)).mappings()]
            if rows and table is not StoredEntry.__table__:
                session.execute(insert(table), rows)
        self._complete(session)
        self._point_back(session)
        self._leave_out(session)
        self._take_ledger(source, session)

    def _complete(self, session: Session) -> None:
        """Say anew what the study has lost of itself."""
        new = {"name": self._new.name, "unit": self._old.unit.value, "identity": uuid.uuid4().hex}
        known = set(session.scalars(select(Fact.name)))
        session.add_all(Fact(name=n, value=value) for n, value in new.items() if n not in known)

    def _point_back(self, session: Session) -> None:
        """Make files in the old folder files below a root."""
        taken = roots_of(session, self._new)
        ((name, folder),) = new_roots([self._path], taken, OLD).items()
        moved = 0
        for table in placing():
            own = update(table).where(table.c.root == OWN).values(root=name)
            moved += session.connection().execute(own).rowcount
        if moved:
            session.add(Root(name=name, folder=str(folder)))
            session.flush()

    def _leave_out(self, session: Session) -> None:
        """Take out patients of whom something was read that cannot be."""
        roots = roots_of(session, self._new)
        for row in rows_of(session):
            try:
                patient_of(row, self._schema, roots)
            except ValueError as error:
                self.lost.append(f"patient {row.name}, who cannot be read: {error}")
                session.delete(row)
        session.flush()

    def _take_ledger(self, source: Session, session: Session) -> None:
        rows = source.scalars(select(StoredEntry).order_by(StoredEntry.number)).all()
        written = text("SELECT seq FROM sqlite_sequence WHERE name = 'ledger'")
        taken = _Taken(rows, source.scalar(written) or 0)
        session.add_all(taken.rows)
        session.flush()
        self.lost += taken.lost
        told = "; ".join((f"made of what could be read of {self._old.folder}", *self.lost))
        entry = drafted(
            self._old.ledger.who,
            Act.RESCUED,
            why=told,
            field="ledger",
            new=pinned(taken.rows),
            file=_sha256(self._path),
            erased=tuple(sorted(taken.gone)),
        )
        append(session, [entry], given=taken.last)


class _Taken:
    """The entries of a ledger that are as they were written, and which are not.

    Attributes
    ----------
    rows
        Those of which the link is whole; what they say may be gone.
    last
        The number of the last that was written.
    gone
        Numbers of those that are gone, or of which what they say is, and no other tells.
    lost
        This in sentences.
    """

    def __init__(self, rows: Sequence[StoredEntry], written: int) -> None:
        linked = {row.number: row for row in rows if is_linked(row)}
        whole = {number: entry_of(row) for number, row in linked.items() if is_intact(row)}
        self.rows = [_taken(row, whole.get(number)) for number, row in linked.items()]
        self.last = max(written, *linked, 0)
        erased = {n for entry in whole.values() for n in entry.erased}
        known = {n for entry in whole.values() if entry.act is Act.RESCUED for n in entry.erased}
        missing = set(range(1, self.last + 1)) - set(linked) - known
        blank = {number for number in linked if number not in whole} - erased
        nameless = {number for number in blank if linked[number].content is None}
        self.gone = missing | blank
        told = {
            f"entries {spans(missing)} of {self.last} of the ledger": missing,
            f"what entries {spans(blank - nameless)} of the ledger said": blank - nameless,
            f"who was forgotten, of entries {spans(nameless)} of the ledger": nameless,
        }
        self.lost = [sentence for sentence, numbers in told.items() if numbers]


def _taken(row: StoredEntry, entry: Entry | None) -> StoredEntry:
    return StoredEntry(
        number=row.number,
        patient=entry.patient if entry else "",
        content=row.content if entry else None,
        salt=row.salt if entry else None,
        digest=row.digest,
        previous=row.previous,
        hash=row.hash,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
