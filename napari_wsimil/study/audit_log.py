"""Ledger: what was done to a study and what left it, append-only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from napari_wsimil.study.audit_entry import Act as Act
from napari_wsimil.study.audit_entry import Effect as Effect
from napari_wsimil.study.audit_entry import Entry as Entry
from napari_wsimil.study.audit_entry import append, drafted, entry_of, fault, is_intact, per_field
from napari_wsimil.study.orm import StoredEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.study.audit_entry import Entry
    from napari_wsimil.study.database import Database


def first_fault(rows: Sequence[StoredEntry]) -> str:
    """Return a sentence on the first of all rows that breaks the chain, empty if it holds."""
    told = [entry for entry in map(entry_of, filter(is_intact, rows)) if _declares(entry)]
    erased = {number for entry in told for number in entry.erased}
    rescues = {entry.number: entry for entry in told if entry.act is Act.RESCUED}
    gone = {number for entry in rescues.values() for number in entry.erased}
    previous, before = "", 0
    for place, row in enumerate(rows):
        lost = next((n for n in range(before + 1, row.number) if n not in gone), None)
        if lost is not None:
            return f"entry {lost} of the ledger is gone"
        is_cut = row.number > before + 1 and row.number not in rescues
        if wrong := fault(row, row.previous if is_cut else previous, erased):
            return f"entry {row.number} of the ledger {wrong}"
        if row.number in rescues and rescues[row.number].new != _pinned(rows[:place]):
            return f"entry {row.number} of the ledger took over other entries than stand before it"
        previous, before = row.hash, row.number
    return ""


def _pinned(rows: Iterable[StoredEntry]) -> str:
    """Return the SHA-256 in hex of the hashes of rows, as a rescue kept them."""
    return hashlib.sha256("\n".join(row.hash for row in rows).encode()).hexdigest()


def _declares(entry: Entry) -> bool:
    return bool(entry.erased) or entry.act is Act.RESCUED


class Ledger:
    """The ledger of an open study; `who` is written beside every entry."""

    def __init__(self, database: Database, who: str) -> None:
        self._database, self.who = database, who

    def note(
        self,
        act: Act,
        *,
        patient: str = "",
        changes: Mapping[str, tuple[str, str]] | None = None,
        why: str = "",
        model: str = "",
        features: str = "",
        record: str = "",
        effect: Effect | None = None,
        file: str = "",
        destination: str = "",
        identifying: bool | None = None,
    ) -> None:
        """Write one entry per changed field, of old and new text, or one if there is none.

        What they mean is said in `Entry`.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        entry = drafted(
            self.who,
            act,
            patient=patient,
            why=why,
            model=model,
            features=features,
            record=record,
            effect=effect,
            file=file,
            destination=destination,
            identifying=identifying,
        )
        with self._database.writing() as session:
            append(session, per_field(entry, changes or {}))

    def left(
        self, act: Act, file: Path | str, *, patient: str = "", identifying: bool, **said: Any
    ) -> None:
        """Note a file that leaves, with its SHA-256 and where it lies as its destination.

        Parameters
        ----------
        act
            EXPORTED or SHARED.
        file, patient, identifying
            What leaves, of whom, and whether it names patients.
        **said
            What else `note` takes, such as the `model` that made it.

        Raises
        ------
        StudyError
            If the study cannot be written.
        OSError
            If the file cannot be read.
        """
        file = Path(file)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        told = {"destination": str(file), "identifying": identifying, **said}
        self.note(act, patient=patient, file=digest, **told)

    def entries(self, patient: str | None = None, newest: int | None = None) -> tuple[Entry, ...]:
        """Return entries, oldest first, without those that were erased or are damaged.

        Parameters
        ----------
        patient
            Whose; of all and of the study itself if None.
        newest
            How many of the last ones; all if None.
        """
        with self._database.reading() as session:
            return read_entries(session, patient, newest)

    def check(self) -> str:
        """Return an empty text if the chain holds, else a sentence on the first broken entry."""
        with self._database.reading() as session:
            rows = session.scalars(select(StoredEntry).order_by(StoredEntry.number)).all()
            last = session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'ledger'"))
        found = first_fault(rows)
        end = rows[-1].number if rows else 0
        if not found and last is not None and last > end:
            found = f"entry {end + 1} of the ledger is gone: {last} were written"
        return found


def read_entries(
    session: Session, patient: str | None = None, newest: int | None = None
) -> tuple[Entry, ...]:
    """Return `Ledger.entries` within a transaction."""
    query = select(StoredEntry).where(func.json_valid(StoredEntry.content))
    if patient is not None:
        query = query.where(StoredEntry.patient == patient)
    rows = session.scalars(query.order_by(StoredEntry.number.desc()).limit(newest)).all()
    return tuple(entry_of(row) for row in reversed(rows))
