"""Database: the SQLite file of a study, its transactions, and its troubles in words.

Every change is one transaction that takes the write lock at its beginning, so that what it
read cannot change under it, and a process that dies in the middle leaves nothing of it.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn, CreateTable

from napari_wsimil.study.backups import Backups, Reason, utc_now
from napari_wsimil.study.health import Health, StudyError, examine, study_error
from napari_wsimil.study.orm import APPLICATION, VERSION, Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Column, Connection, Engine

    from napari_wsimil.study.backups import Clock

#: Seconds to wait for another program that writes.
WAIT_S = 5.0


class Database:
    """A study's database, open; see `open_database`.

    Attributes
    ----------
    path
        The file.
    read_only
        Why it cannot be written, in a sentence; empty if it can.
    health
        State of the file when it was opened.
    """

    def __init__(
        self, path: Path | str, engine: Engine, read_only: str, health: Health, backups: Backups
    ) -> None:
        self.path, self.read_only, self.health = Path(path), read_only, health
        self._reader = engine
        self._backups, self._has_rollback_journal = backups, False

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees the database as it is at its beginning.

        Raises
        ------
        StudyError
            If the database cannot be read; says why.
        """
        with (
            _in_words(self.path),
            Session(self._reader, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def writing(self, before: Reason | None = None) -> Iterator[Session]:
        """Give a session whose changes are kept together at the end, or, on an error, not at all.

        Parameters
        ----------
        before
            Reason for a backup; without one the first write of a day is backed up before.

        Raises
        ------
        StudyError
            If the database or its backup cannot be written; says why.
        """
        if self.read_only:
            raise StudyError(f"nothing was changed: {self.read_only}")
        with self._locked() as session, self._backups.before(before):
            yield session

    @contextmanager
    def erasing(self) -> Iterator[Session]:
        """Give a session as `writing` does, after a backup; nobody can read meanwhile.

        So no reader can stop the transaction after files outside of it were deleted.

        Raises
        ------
        StudyError
            As `writing`.
        """
        with self.writing(Reason.ERASE):
            pass
        with self._locked("EXCLUSIVE") as session:
            yield session

    def renew_backups(self) -> None:
        """Replace all backups by one new one, so that nothing erased is left in any.

        Raises
        ------
        StudyError
            If the database or its backup cannot be written; says why.
        """
        with self._locked():
            self._backups.renew()

    @contextmanager
    def _locked(self, lock: str = "IMMEDIATE") -> Iterator[Session]:
        """Give a session that has the write lock."""
        self._leave_wal()
        writer = self._reader.execution_options(lock=lock)
        with (
            _in_words(self.path),
            Session(writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection()
            yield session

    def _leave_wal(self) -> None:
        """Change a write-ahead log to a rollback journal, safe on network shares.

        While another program has the study open, its journal stays until a later write.
        """
        if self._has_rollback_journal:
            return
        self._reader.dispose()  # idle connections keep a write-ahead log open
        with (
            _in_words(self.path),
            closing(_connected(self.path, 0)) as connection,
            suppress(sqlite3.OperationalError),
        ):
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            self._has_rollback_journal = mode == "delete"

    def sweep(self) -> None:
        """Leave nothing of what was deleted in the file, its free pages and its journal.

        Raises
        ------
        StudyError
            If another program has the study open, so that its journal must stay for now.
        """
        with _in_words(self.path):
            connection = self._reader.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("VACUUM")
                (busy, *_) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        if busy:
            raise StudyError(
                f"{self.path}: another program has the study open, so that old pages stay in its "
                "journal: close it there and sweep again"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._reader.dispose()


def create_database(path: Path | str, fill: Callable[[Session], None]) -> None:
    """Make a database with what `fill` puts in; it takes its name when it is whole.

    Raises
    ------
    StudyError
        If there is one already.
    OSError
        If the folder cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise StudyError(f"{path.parent} is a study already: open it, or name another folder")
    unborn = path.with_name(f".{path.name}.new")
    unborn.unlink(missing_ok=True)
    unborn.touch()
    engine = _engine(lambda: _connected(unborn))
    try:
        with _in_words(unborn), Session(engine) as session, session.begin():
            Base.metadata.create_all(session.connection())
            session.connection().exec_driver_sql(f"PRAGMA application_id = {APPLICATION}")
            session.connection().exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            fill(session)
        engine.dispose()
        unborn.rename(path)
    finally:
        engine.dispose()
        unborn.unlink(missing_ok=True)


def open_database(path: Path | str, wait_s: float = WAIT_S, clock: Clock = utc_now) -> Database:
    """Return a study's database, read-only where it cannot be written; it then says why.

    A damaged one is read as far as SQLite can. One of an older version gets the tables and
    columns it lacks; where it cannot be written they are there without values.

    Parameters
    ----------
    path
        The file.
    wait_s
        Seconds to wait for other programs that write, here and in every transaction.
    clock
        Dates the backups.

    Raises
    ------
    StudyError
        If there is none, it is none of ours, or nothing of it can be read.
    """
    path = Path(path)
    health, why = examine(path, wait_s)
    backups = Backups(path, clock)
    if health is Health.UNREACHABLE:
        memory = _completed(_copied(path))
        return Database(path, _engine(lambda: memory, 1), why, health, backups)
    if health is Health.SOUND:
        why = _brought_up(path, wait_s, backups)
    if why:
        connect = lambda: _completed(_connected(path, wait_s, "ro"))  # noqa: E731
        return Database(path, _engine(connect), why, health, backups)
    return Database(path, _engine(lambda: _connected(path, wait_s)), why, health, backups)


def _copied(path: Path) -> sqlite3.Connection:
    """Return a copy in memory of a database whose journal needs a folder to write in.

    Raises
    ------
    StudyError
        If it cannot be read.
    """
    memory = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for ending in ("", "-wal", "-journal"):
            part = path.with_name(path.name + ending)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + ending))
        with _in_words(path), closing(sqlite3.connect(copy)) as connection:
            connection.backup(memory)
    return memory


def _brought_up(path: Path, wait_s: float, backups: Backups) -> str:
    """Give an older study the tables and columns it lacks; return why that failed, if it did."""
    with closing(_connected(path, wait_s)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= VERSION:
        return ""
    engine = _engine(lambda: _connected(path, wait_s))
    try:
        with (
            _in_words(path),
            engine.execution_options(lock="IMMEDIATE").begin() as transaction,
            backups.before(Reason.MIGRATION),
        ):
            Base.metadata.create_all(transaction)
            for table, columns in _lacking(transaction.exec_driver_sql).items():
                for column in columns:
                    text = CreateColumn(column).compile(dialect=sqlite.dialect())
                    transaction.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {text}")
            transaction.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
    except StudyError as error:
        return str(error)
    finally:
        engine.dispose()
    return ""


def _completed(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a connection with what its study lacks: tables without rows, columns of NULL."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for table in Base.metadata.sorted_tables:
        if table.name not in there:
            made = str(CreateTable(table).compile(dialect=sqlite.dialect()))
            connection.execute(made.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    # what a newer version has not any more is not there, and not unknown
    for name, columns in (_lacking(connection.execute) if version < VERSION else {}).items():
        nulls = ", ".join(f"NULL AS {column.name}" for column in columns)
        connection.execute(f"CREATE TEMP VIEW {name} AS SELECT *, {nulls} FROM main.{name}")
    return connection


def _lacking(execute: Callable[[str], Iterable[Any]]) -> dict[str, list[Column[Any]]]:
    """Return the columns that came later than a study, by table; others are those it has."""
    found: dict[str, list[Column[Any]]] = {}
    for table in Base.metadata.sorted_tables:
        there = {row[1] for row in execute(f"PRAGMA table_info({table.name})")}
        lacking = [column for column in table.columns if column.name not in there]
        if there and lacking and all(column.nullable for column in lacking):
            found[table.name] = lacking
    return found


def _connected(path: Path, wait_s: float = WAIT_S, mode: str = "rw") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=False,
    )
    for pragma in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _engine(connect: Callable[[], sqlite3.Connection], connections: int = 5) -> Engine:
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
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.Error):
            raise
        raise study_error(path, error.orig) from error
    except sqlite3.Error as error:
        raise study_error(path, error) from error
