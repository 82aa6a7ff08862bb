"""Salvage: what can be read of a database that cannot be opened in place, copied to memory."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from napari_wsimil.study.condition import StudyError, spoken
from napari_wsimil.study.stored import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Table


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


def salvaged(path: Path, why: str) -> tuple[sqlite3.Connection, str]:
    """Return the rows of a damaged database that can be read, and a sentence on them.

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
    if not counts["facts"]:
        raise StudyError(f"{why}, and nothing of it can be saved: take it from a backup")
    saved = ", ".join(f"{counts[name]} {name}" for name in ("patients", "records", "slides"))
    return memory, (
        f"{why}: what could be read is shown ({saved}, {counts['ledger']} entries of the ledger), "
        "and nothing can be changed: take it from a backup"
    )


def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


def _saved(table: Table, damaged: sqlite3.Connection, memory: sqlite3.Connection) -> int:
    """Copy rows from both ends of a table, up to the pages that are gone."""
    columns = ", ".join(column.name for column in table.columns)
    places = ", ".join("?" for _ in table.columns)
    insert = f"INSERT OR IGNORE INTO {table.name} ({columns}) VALUES ({places})"
    for order in ("", "DESC"):
        for row in _readable(damaged, f"SELECT {columns} FROM {table.name} ORDER BY rowid {order}"):
            memory.execute(insert, row)
    (count,) = memory.execute(f"SELECT count(*) FROM {table.name}").fetchone()
    return int(count)


def _readable(connection: sqlite3.Connection, select: str) -> Iterator[tuple[object, ...]]:
    try:
        yield from connection.execute(select)
    except sqlite3.DatabaseError:  # the rows from here on are lost
        return
