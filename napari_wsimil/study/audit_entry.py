"""Entry: one line of a study's ledger, and how lines are chained by their hashes.

The chain is made of digests: an entry's content is hashed with a salt of its own, and the
chain goes over these digests. So a content can be erased, with its salt, for good, and the
chain still holds. It shows that something was changed, taken out or put in between; against
one who can rewrite the whole file, keep the last hash elsewhere.
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


#: Actions of earlier versions on files that left; read, but never written.
RETIRED = ("downloaded", "submitted", "label shown")


class Act(StrEnum):
    """What was done."""

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
        """Return a retired action, so that studies with such entries stay readable."""
        if value not in RETIRED:
            return None
        act = str.__new__(cls, value)
        act._name_, act._value_ = str(value).upper(), str(value)
        return act


@dataclass(frozen=True)
class Effect:
    """What a change did to a model's answer and map.

    Attributes
    ----------
    probability
        Change by class.
    distance
        Jensen–Shannon distance between the shares of attention before and after, 0 to 1.
    overlap
        Share of the top 1 % of patches that stayed.
    """

    probability: Mapping[str, float]
    distance: float | None = None
    overlap: float | None = None


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes
    ----------
    number
        From 1.
    when, who
        UTC, and the name of the user of the operating system.
    act
        What was done; WHAT_IF changed nothing that is kept. REVIEWED has what the model said
        as `old`, and the verdict as `new`.
    patient, field, old, new
        Whose field, and its text before and after; empty where there is none.
    why
        As the person said.
    model, features, record
        SHA-256 in hex of the model in view, of its features and of the record after the act.
    effect
        What the change did to that model.
    file, destination, identifying
        Of what left the machine: SHA-256 of the file, where it went, and whether it names
        patients.
    step
        Number of the first of the entries that were written at once.
    erased
        Numbers of the entries whose content this one erased; RESCUED lists the lost ones, and
        `new` pins the others.
    previous, hash
        The link before, and this one.
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
        """Return what the entry says, as JSON can say it, without what it leaves empty."""
        said = asdict(self) | {
            "when": self.when.isoformat(timespec="seconds"),
            "act": str(self.act),
        }
        links = ("previous", "hash", "step")
        return {n: v for n, v in said.items() if n not in links and v not in ("", None, ())}


def append(session: Session, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Write entries at the end of the chain, as one step, and return them as they stand there.

    Number, step and hashes are given here; the session holds the write lock.
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


def drafted(who: str, act: Act, **said: Any) -> Entry:
    """Return an entry of now that has no place in the chain yet."""
    return Entry(0, datetime.now(UTC), who, act, **said)


def per_field(entry: Entry, changes: Mapping[str, tuple[str, str]]) -> Sequence[Entry]:
    """Return one entry per changed field, or the entry itself where none is."""
    return [replace(entry, field=f, old=old, new=new) for f, (old, new) in changes.items()] or [
        entry
    ]


def entry_of(row: StoredEntry) -> Entry:
    """Return the entry in a row whose content is there."""
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
    """Return what is wrong with a link after `previous`, empty if nothing.

    `erased` are the numbers of the entries whose content may be gone.
    """
    if row.previous != previous:
        return "does not follow the one before: entries were taken out or put in"
    if not is_linked(row):
        return "has another hash than it should"
    if row.content is None:
        return "" if row.number in erased else "was erased, and no entry says so"
    if not is_intact(row) or json.loads(row.content)["patient"] != row.patient:
        return "was changed after it was written"
    return ""


def is_intact(row: StoredEntry) -> bool:
    """Return whether a row's content is there, and as it was written."""
    return row.content is not None and _digested(row.content, row.salt or "") == row.digest


def is_linked(row: StoredEntry) -> bool:
    """Return whether a row's hash is that of its number, the hash before and its digest."""
    return row.hash == _linked(row.number, row.previous, row.digest)


def _row(entry: Entry, previous: str) -> StoredEntry:
    kept = {n: v for n, v in asdict(entry).items() if n not in ("number", "previous", "hash")}
    content = json.dumps(kept | {"when": entry.when.isoformat()}, sort_keys=True)
    salt = secrets.token_hex(16)
    digest = _digested(content, salt)
    return StoredEntry(
        number=entry.number,
        patient=entry.patient,
        content=content,
        salt=salt,
        digest=digest,
        previous=previous,
        hash=_linked(entry.number, previous, digest),
    )


def _digested(content: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}\0{content}".encode()).hexdigest()


def _linked(number: int, previous: str, digest: str) -> str:
    return hashlib.sha256(f"{number}\0{previous}\0{digest}".encode()).hexdigest()
