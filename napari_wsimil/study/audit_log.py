"""Audit log of a study."""

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
    """Return a sentence on the first broken entry, else empty."""
    declarations = [entry for entry in map(entry_of, filter(is_intact, rows)) if _declares(entry)]
    erased = {number for entry in declarations for number in entry.erased}
    rescues = {entry.number: entry for entry in declarations if entry.act is Act.RESCUED}
    rescued = {number for entry in rescues.values() for number in entry.erased}
    previous, before = "", 0
    for place, row in enumerate(rows):
        missing = next((n for n in range(before + 1, row.number) if n not in rescued), None)
        if missing is not None:
            return f"entry {missing} of the audit log is missing"
        is_cut = row.number > before + 1 and row.number not in rescues
        if problem := fault(row, row.previous if is_cut else previous, erased):
            return f"entry {row.number} of the audit log {problem}"
        if row.number in rescues and rescues[row.number].new != _rescue_digest(rows[:place]):
            return f"entry {row.number} of the audit log does not match the entries before it"
        previous, before = row.hash, row.number
    return ""


def _rescue_digest(rows: Iterable[StoredEntry]) -> str:
    """Return the SHA-256 in hex that RESCUED entries store."""
    return hashlib.sha256("\n".join(row.hash for row in rows).encode()).hexdigest()


def _declares(entry: Entry) -> bool:
    return bool(entry.erased) or entry.act is Act.RESCUED


class Ledger:
    """Audit log of an open study: append-only entries.

    Every change of the study is one transaction that also appends its entries: corrections of
    records, what-if edits, imports, links, exports, shared copies, reviews, erasures. An entry
    has user, time, action, patient, field, old and new text, the reason, and the hashes of model,
    features and record.

    For example, correcting the LDH of P3 from 210 to 310 appends "corrected, P3, ldh, 210, 310,
    misread" with user and time. Undoing it appends a second entry and removes nothing.

    Entries are connected by hashes (see `audit_entry`), so `check` finds the first entry that
    was changed, removed or inserted later. The table is named `ledger` in the database. The given
    user name is written into every entry.
    """

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
        """Append an entry per changed field, or one without changes.

        Parameters are explained in `Entry`; `changes` has old and new text by field.

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
        self, act: Act, file: Path | str, *, patient: str = "", identifying: bool, **details: Any
    ) -> None:
        """Append an entry for a file that leaves the study.

        Parameters
        ----------
        act
            EXPORTED or SHARED.
        file
            The file; its SHA-256 and its path as destination are recorded.
        patient, identifying
            Patient of the file, and whether it names patients.
        **details
            Further parameters of `note`, such as the `model` that made the file.

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
        details = {"destination": str(file), "identifying": identifying, **details}
        self.note(act, patient=patient, file=digest, **details)

    def entries(self, patient: str | None = None, newest: int | None = None) -> tuple[Entry, ...]:
        """Return entries, oldest first, without erased and damaged ones.

        Parameters
        ----------
        patient
            Patient of the entries; if None, all patients and the study itself.
        newest
            Number of last entries to return; all if None.
        """
        with self._database.reading() as session:
            return read_entries(session, patient, newest)

    def check(self) -> str:
        """Return a sentence on the first broken entry, else empty."""
        with self._database.reading() as session:
            rows = session.scalars(select(StoredEntry).order_by(StoredEntry.number)).all()
            last = session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'ledger'"))
        problem = first_fault(rows)
        end = rows[-1].number if rows else 0
        if not problem and last is not None and last > end:
            problem = f"entry {end + 1} of the audit log is missing: {last} were written"
        return problem


def read_entries(
    session: Session, patient: str | None = None, newest: int | None = None
) -> tuple[Entry, ...]:
    """Return `Ledger.entries` within a transaction."""
    query = select(StoredEntry).where(func.json_valid(StoredEntry.content))
    if patient is not None:
        query = query.where(StoredEntry.patient == patient)
    rows = session.scalars(query.order_by(StoredEntry.number.desc()).limit(newest)).all()
    return tuple(entry_of(row) for row in reversed(rows))
