"""Entries of the audit log, and their hash chain.

The content of each entry is hashed with its own random salt. The chain hashes the number, the
previous hash and this digest, not the content itself: content and salt can therefore be erased
for good, and the chain still verifies.

The chain reveals entries that were changed, removed or inserted. It cannot reveal that the
whole file was rewritten; to detect this, store the last hash somewhere else.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from napari_wsimil.study.orm import StoredEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session


#: Actions of earlier versions for files that left the study; read, never written.
RETIRED = ("downloaded", "submitted", "label shown")


class Act(StrEnum):
    """Action that an entry records."""

    CORRECTED = "corrected"
    WHAT_IF = "what-if"
    UNDONE = "undone"
    REDONE = "redone"
    IMPORTED = "imported"
    LINKED = "linked"
    SCHEMA = "schema"
    EXPORTED = "exported"
    SHARED = "shared"
    REVIEWED = "reviewed"
    FORGOTTEN = "forgotten"
    RESCUED = "rescued"  # by an earlier version; read only
    RESTORED = "restored"

    @classmethod
    def _missing_(cls, value: object) -> Act | None:
        """Return a retired action, so that older studies stay readable."""
        if value not in RETIRED:
            return None
        act = str.__new__(cls, value)
        act._name_, act._value_ = str(value).upper(), str(value)
        return act


@dataclass(frozen=True)
class Effect:
    """Change of a model's prediction and map after an edit.

    Attributes
    ----------
    probability
        Change of probability by class.
    distance
        Jensen–Shannon distance between the attention shares before and after, 0 to 1.
    overlap
        Share of the top 1 % of patches that are top patches before and after.
    """

    probability: Mapping[str, float]
    distance: float | None = None
    overlap: float | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of the audit log.

    Attributes
    ----------
    number
        Number of the entry, from 1.
    when, who
        Time in UTC, and the user name in the operating system.
    act
        Recorded action. WHAT_IF changed no stored value; REVIEWED has the prediction in words
        as `old` and the verdict as `new`.
    patient, field, old, new
        Patient and field, and the field's text before and after; empty without one.
    why
        Reason, in the person's words.
    model, features, record
        SHA-256 in hex of the displayed model, its features and the record after the action.
    effect
        Change of that model's prediction and map.
    file, destination, identifying
        For a file that left the study: its SHA-256, its destination, and whether it names
        patients.
    step
        Number of the first entry that was written in the same transaction.
    erased
        Numbers of the entries with content erased by this one. RESCUED lists lost entries
        instead, and its `new` is a hash over all others.
    previous, hash
        Hash of the previous entry and of this one, in hex.
    """

    number: int
    when: datetime
    who: str
    act: Act
    patient: str = ""
    field: str = ""
    old: str = ""
    new: str = ""
    why: str = ""
    model: str = ""
    features: str = ""
    record: str = ""
    effect: Effect | None = None
    file: str = ""
    destination: str = ""
    identifying: bool | None = None
    step: int = 0
    erased: tuple[int, ...] = ()
    previous: str = ""
    hash: str = ""

    def told(self) -> dict[str, Any]:
        """Return the entry for JSON, without empty values and links."""
        content = asdict(self) | {
            "when": self.when.isoformat(timespec="seconds"),
            "act": str(self.act),
        }
        links = ("previous", "hash", "step")
        return {n: v for n, v in content.items() if n not in links and v not in ("", None, ())}


def append(session: Session, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Append entries to the chain in one step; return them.

    Number, step and hashes are assigned here. The session must have the write lock.
    """
    last = session.scalar(select(StoredEntry).order_by(StoredEntry.number.desc()).limit(1))
    number, previous = (last.number, last.hash) if last else (0, "")
    first = number + 1
    written = []
    for entry in entries:
        number += 1
        row = _row(replace(entry, number=number, step=first), previous)
        session.add(row)
        written.append(entry_of(row))
        previous = row.hash
    session.flush()
    return tuple(written)


def drafted(who: str, act: Act, **content: Any) -> Entry:
    """Return an entry of the present time, outside the chain."""
    return Entry(0, datetime.now(UTC), who, act, **content)


def per_field(entry: Entry, changes: Mapping[str, tuple[str, str]]) -> Sequence[Entry]:
    """Return an entry per changed field, else the entry itself."""
    return [replace(entry, field=f, old=old, new=new) for f, (old, new) in changes.items()] or [
        entry
    ]


def entry_of(row: StoredEntry) -> Entry:
    """Return the entry in a row with content."""
    content = json.loads(row.content or "{}")
    if content["effect"] is not None:
        content["effect"] = Effect(**content["effect"])
    return Entry(
        **content
        | {
            "number": row.number,
            "when": datetime.fromisoformat(content["when"]),
            "act": Act(content["act"]),
            "erased": tuple(content["erased"]),
            "previous": row.previous,
            "hash": row.hash,
        }
    )


def fault(row: StoredEntry, previous: str, erased: set[int]) -> str:
    """Return the fault of an entry, else empty.

    The fault is the end of a sentence that begins with the entry.

    Parameters
    ----------
    row
        The entry to check.
    previous
        Hash of the entry before it.
    erased
        Numbers of the entries that may have no content.
    """
    if row.previous != previous:
        return "does not follow the one before: entries were removed or inserted"
    if not is_linked(row):
        return "does not match its hash"
    if row.content is None:
        return "" if row.number in erased else "was erased without an entry that records it"
    if not is_intact(row) or json.loads(row.content)["patient"] != row.patient:
        return "was changed after it was written"
    return ""


def is_intact(row: StoredEntry) -> bool:
    """Return whether a row has content that matches its digest."""
    return row.content is not None and _digest(row.content, row.salt or "") == row.digest


def is_linked(row: StoredEntry) -> bool:
    """Return whether a row's hash matches its other columns."""
    return row.hash == _chain_hash(row.number, row.previous, row.digest)


def _row(entry: Entry, previous: str) -> StoredEntry:
    chain = ("number", "previous", "hash")
    values = {n: v for n, v in asdict(entry).items() if n not in chain}
    content = json.dumps(values | {"when": entry.when.isoformat()}, sort_keys=True)
    salt = secrets.token_hex(16)
    digest = _digest(content, salt)
    return StoredEntry(
        number=entry.number,
        patient=entry.patient,
        content=content,
        salt=salt,
        digest=digest,
        previous=previous,
        hash=_chain_hash(entry.number, previous, digest),
    )


def _digest(content: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}\0{content}".encode()).hexdigest()


def _chain_hash(number: int, previous: str, digest: str) -> str:
    return hashlib.sha256(f"{number}\0{previous}\0{digest}".encode()).hexdigest()
