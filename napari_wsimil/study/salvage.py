"""Salvage: what can be read of a database that cannot be opened in place, copied to memory."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from napari_wsimil.study.condition import StudyError, spoken
from napari_wsimil.study.mending import mended
from napari_wsimil.study.stored import Base

if TYPE_CHECKING:
    from sqlalchemy import Table

#: How many rows are asked for one by one where a table's pages are gone.
_ASKED = 20_000

#: The indexes that tell of a row, by the column they tell, of the tables of what has a name.
_NAMES = {
    "patients": {"name": "sqlite_autoindex_patients_1"},
    "slides": {"name": "sqlite_autoindex_slides_1", "patient_id": "ix_slides_patient_id"},
}


@dataclass(frozen=True)
class Salvage:
    """What could be read of a damaged database.

    Attributes
    ----------
    memory
        A database that fits together.
    why
        What is shown and why it cannot be changed, in a sentence.
    lost
        What is known to be lost, in sentences.
    """

    memory: sqlite3.Connection
    why: str
    lost: tuple[str, ...]


def copied(path: Path) -> sqlite3.Connection:
    """Return a copy in memory of a database whose folder cannot be written.

    Raises
    ------
    StudyError
        If it cannot be read.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for ending in ("", "-wal", "-journal"):
            part = path.with_name(path.name + ending)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + ending))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                memory = _memory()
                connection.backup(memory)
        except sqlite3.Error as error:
            raise StudyError(spoken(path, error)) from error
    return memory


def salvaged(path: Path, why: str) -> Salvage:
    """Return the rows of a damaged database that can be read, made to fit together.

    Of patients and slides whose rows are gone the name is taken from the index, where that
    is there.

    Raises
    ------
    StudyError
        If nothing can.
    """
    memory = _memory()
    counts: dict[str, int] = {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # SQLite then reads what is there
        for table in Base.metadata.sorted_tables:
            memory.execute(str(CreateTable(table).compile(dialect=sqlite.dialect())))
            counts[table.name] = _saved(table, connection, memory)
        _number_entries(connection, memory)
        named = {kind: _named(kind, connection, memory) for kind in _NAMES}
    if not counts["facts"]:
        raise StudyError(f"{why}, and nothing of it can be saved: take it from a backup")
    saved = ", ".join(f"{counts[name]} {name}" for name in ("patients", "records", "slides"))
    told = (
        f"{why}: what could be read is shown ({saved}, {counts['ledger']} entries of the ledger), "
        "and nothing can be changed: take it from a backup, or make a new study of what is "
        "shown (`study rescue`)"
    )
    return Salvage(memory, told, mended(memory, named))


def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


def _saved(table: Table, damaged: sqlite3.Connection, memory: sqlite3.Connection) -> int:
    """Copy the rows of a table that can be read, and return how many they are."""
    there = _columns(table, damaged)
    columns, places = ", ".join(there), ", ".join("?" for _ in there)
    insert = f"INSERT OR IGNORE INTO {table.name} ({columns}) VALUES ({places})"
    memory.executemany(insert, _readable(damaged, f"SELECT rowid, {columns} FROM {table.name}"))
    (count,) = memory.execute(f"SELECT count(*) FROM {table.name}").fetchone()
    return int(count)


def _columns(table: Table, damaged: sqlite3.Connection) -> list[str]:
    """Return the columns of a table that the study has: an older one lacks those added later."""
    names = [column.name for column in table.columns]
    with suppress(sqlite3.DatabaseError):
        there = {row[1] for row in damaged.execute(f"PRAGMA table_info({table.name})")}
        return [name for name in names if name in there] or names
    return names


def _readable(damaged: sqlite3.Connection, select: str) -> list[tuple[object, ...]]:
    """Return rows from both ends of a table, if it is there, and one by one those between."""
    rows: dict[int, tuple[object, ...]] = {}
    is_there = _read(damaged, f"{select} LIMIT 0", rows)
    if is_there and not _read(damaged, f"{select} ORDER BY rowid", rows):
        first = max(rows, default=0) + 1
        above: dict[int, tuple[object, ...]] = {}
        _read(damaged, f"{select} ORDER BY rowid DESC", above)
        last = min(*above, first + _ASKED) if above else first + _ASKED
        for number in range(first, last):
            _read(damaged, f"{select} WHERE rowid = ?", rows, number)
        rows |= above
    return [rows[number] for number in sorted(rows)]


def _read(
    damaged: sqlite3.Connection, select: str, rows: dict[int, tuple[object, ...]], *wanted: int
) -> bool:
    """Add rows by their numbers, up to the first that cannot be read; return if none was."""
    try:
        for number, *values in damaged.execute(select, wanted):
            rows[number] = tuple(values)
    except sqlite3.DatabaseError:
        return False
    return True


def _number_entries(damaged: sqlite3.Connection, memory: sqlite3.Connection) -> None:
    """Keep how many entries of the ledger were written, which tells what its end has lost."""
    with suppress(sqlite3.DatabaseError):
        select = "SELECT seq FROM sqlite_sequence WHERE name = 'ledger'"
        for (written,) in damaged.execute(select).fetchall():
            memory.execute("DELETE FROM sqlite_sequence WHERE name = 'ledger'")
            memory.execute("INSERT INTO sqlite_sequence VALUES ('ledger', ?)", (written,))


def _named(kind: str, damaged: sqlite3.Connection, memory: sqlite3.Connection) -> tuple[str, ...]:
    """Put in the rows of which an index still has the name, and return these names."""
    rows: dict[str, dict[int, tuple[object, ...]]] = {}
    for column, index in _NAMES[kind].items():
        select = f"SELECT id, {column} FROM {kind} INDEXED BY {index}"
        _read(damaged, select, rows.setdefault(column, {}))
    known = {number for (number,) in memory.execute(f"SELECT id FROM {kind}")}
    found = set.intersection(*(set(some) for some in rows.values())) - known
    insert = f"INSERT OR IGNORE INTO {kind} (id, {', '.join(rows)}) VALUES (?{', ?' * len(rows)})"
    for number in sorted(found):
        memory.execute(insert, (number, *(some[number][0] for some in rows.values())))
    return tuple(str(rows["name"][number][0]) for number in sorted(found))
