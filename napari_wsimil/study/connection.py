"""Connections to a study's SQLite database."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateTable

from napari_wsimil.study.health import study_error
from napari_wsimil.study.orm import VERSION, Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Column, Connection, Engine


#: Seconds to wait for another program that writes.
WAIT_S = 5.0


def add_missing_columns(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return the connection with empty missing tables and NULL columns."""
    existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for table in Base.metadata.sorted_tables:
        if table.name not in existing:
            statement = str(CreateTable(table).compile(dialect=sqlite.dialect()))
            connection.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    # columns that a newer version removed are absent, not unknown
    missing = _missing_columns(connection.execute) if version < VERSION else {}
    for name, columns in missing.items():
        nulls = ", ".join(f"NULL AS {column.name}" for column in columns)
        connection.execute(f"CREATE TEMP VIEW {name} AS SELECT *, {nulls} FROM main.{name}")
    return connection


def _missing_columns(execute: Callable[[str], Iterable[Any]]) -> dict[str, list[Column[Any]]]:
    """Return the columns newer than a study, by table."""
    columns: dict[str, list[Column[Any]]] = {}
    for table in Base.metadata.sorted_tables:
        existing = {row[1] for row in execute(f"PRAGMA table_info({table.name})")}
        missing = [column for column in table.columns if column.name not in existing]
        if existing and missing and all(column.nullable for column in missing):
            columns[table.name] = missing
    return columns


def connect(path: Path | str, wait_s: float = WAIT_S, mode: str = "rw") -> sqlite3.Connection:
    """Connect to a database file, in SQLite's `mode`."""
    connection = sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=False,
    )
    for pragma in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def make_engine(connect: Callable[[], sqlite3.Connection], connections: int = 5) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=-1 if connections > 1 else 0,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    lock = connection.get_execution_options().get("lock", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {lock}")


@contextmanager
def study_errors(path: Path | str) -> Iterator[None]:
    """Raise errors of SQLite as StudyError."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.Error):
            raise
        raise study_error(Path(path), error.orig) from error
    except sqlite3.Error as error:
        raise study_error(Path(path), error) from error
