"""Mending: rows that were saved of a damaged database, made to fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.study.entry import Act
from napari_wsimil.study.roots import OWN
from napari_wsimil.study.stored import Base

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ForeignKey, Table

#: Where the files of a root are looked for whose folder is lost.
NOWHERE = "/the folder of this root is lost"

_SHOWN = 10
_NO_OBJECT = "CASE WHEN json_valid({0}) THEN json_type({0}) END IS NOT 'object'"


def mended(memory: sqlite3.Connection, named: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Make saved rows fit together, and return what is lost, in sentences.

    Parameters
    ----------
    memory
        The rows; changed in place.
    named
        Patients and slides of whom only the name was saved.
    """
    patients, slides = named["patients"], named["slides"]
    found = [
        _told(patients, "patients have lost label, split and outcome"),
        _told(slides, "slides have lost where they are"),
        _told(
            slides if _is_of_slides(memory) else (),
            "slides have lost their own label, split and outcome",
        ),
        _untold(memory),
        _blank_records(memory),
        _unreadable_facts(memory),
        *_ownerless(memory),
        *_roots(memory),
        *_facts(memory),
    ]
    return tuple(filter(None, found))


def placing() -> list[Table]:
    """Return the tables that say where a file is, by a root and a path below it."""
    return [table for table in Base.metadata.sorted_tables if {"root", "path"} <= {*table.c.keys()}]


def _told(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"


def _is_of_slides(memory: sqlite3.Connection) -> bool:
    """Return whether slides have a label, split and outcome of their own."""
    return _names(memory, "SELECT value FROM facts WHERE name = 'unit'") == ["slide"]


def _names(memory: sqlite3.Connection, select: str, *given: str) -> list[str]:
    return [str(name) for (name,) in memory.execute(select, given)]


def _untold(memory: sqlite3.Connection) -> str:
    """Return which patients are gone of whom the ledger tells, if it says no tombstone."""
    select = (
        "SELECT DISTINCT patient FROM ledger WHERE patient != '' "
        "AND patient NOT IN (SELECT name FROM patients) "
        "AND patient NOT IN (SELECT patient FROM ledger WHERE instr(content, ?)) ORDER BY number"
    )
    tombstone = f'"act": "{Act.FORGOTTEN}"'
    names = _names(memory, select, tombstone)
    return _told(names, "patients are gone, of whom the ledger tells")


def _blank_records(memory: sqlite3.Connection) -> str:
    """Give patients whose record is gone or cannot be read an empty one."""
    memory.execute(f"DELETE FROM records WHERE {_NO_OBJECT.format('cells')}")
    lacking = "FROM patients WHERE id NOT IN (SELECT patient_id FROM records)"
    names = _names(memory, f"SELECT name {lacking} ORDER BY id")
    blank = f"SELECT id, 0, '{{}}' {lacking}"
    memory.execute(f"INSERT INTO records (patient_id, version, cells) {blank}")
    return _told(names, "patients have lost all values of their record")


def _unreadable_facts(memory: sqlite3.Connection) -> str:
    gone = memory.execute(f"DELETE FROM features WHERE {_NO_OBJECT.format('facts')}").rowcount
    return f"{gone} slides have lost the link to their features" if gone else ""


def _ownerless(memory: sqlite3.Connection) -> list[str]:
    """Take out rows that belong to rows that are gone, and return how many of which table."""
    found = []
    for table in Base.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            gone = memory.execute(f"DELETE FROM {table.name} WHERE {_orphaned(key)}").rowcount
            if gone:
                found.append(f"{gone} rows of {table.name}: what they belong to is gone")
    return found


def _orphaned(key: ForeignKey) -> str:
    own, other = key.parent.name, key.column
    return f"{own} IS NOT NULL AND {own} NOT IN (SELECT {other.name} FROM {other.table.name})"


def _roots(memory: sqlite3.Connection) -> list[str]:
    """Put in the roots that files are below and that are gone; their folders nobody knows."""
    placed = " UNION ".join(f"SELECT root FROM {table.name}" for table in placing())
    select = f"{placed} EXCEPT SELECT name FROM roots EXCEPT SELECT '{OWN}'"
    lost = [name for (name,) in memory.execute(select) if name is not None]
    memory.executemany("INSERT INTO roots VALUES (?, ?)", [(name, NOWHERE) for name in lost])
    return [
        f"the folder of root {name} is lost: say where it is with `study root`" for name in lost
    ]


def _facts(memory: sqlite3.Connection) -> list[str]:
    known = _names(memory, "SELECT name FROM facts")
    told = {
        "name": "the study's name: it is called as its folder",
        "unit": "what predictions are of: patients are taken for it",
        "identity": "the study's identity: name the key of its pseudonyms with --key",
    }
    return [f"lost is {said}" for fact, said in told.items() if fact not in known]
