"""SQLite database of a study: transactions and error messages.

Every change is one transaction that takes the write lock at its beginning. Values that it read
therefore cannot change before it writes, and a process that dies midway changes nothing.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateColumn

from napari_wsimil.study.backups import Backups, Reason, utc_now
from napari_wsimil.study.connection import (
    WAIT_S,
    _missing_columns,
    add_missing_columns,
    connect,
    make_engine,
    study_errors,
)
from napari_wsimil.study.health import Health, StudyError, examine
from napari_wsimil.study.orm import APPLICATION, VERSION, Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from napari_wsimil.study.backups import Clock


class Database:
    """Open database of a study; see `open_database`.

    Attributes
    ----------
    path
        Path of the file.
    read_only
        Sentence on the reason why it cannot be written; empty if it can.
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
        """Yield a session on a consistent snapshot of the database.

        Raises
        ------
        StudyError
            If the database cannot be read; the message has the reason.
        """
        with (
            study_errors(self.path),
            Session(self._reader, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def writing(self, before: Reason | None = None) -> Iterator[Session]:
        """Yield a session; commit its changes or roll them back.

        Parameters
        ----------
        before
            Reason for a backup before the write; if None, only the first write of a day is
            preceded by one.

        Raises
        ------
        StudyError
            If the database or its backup cannot be written; the message has the reason.
        """
        if self.read_only:
            raise StudyError(f"Nothing was changed: {self.read_only}")
        with self._locked() as session, self._backups.before(before):
            yield session

    @contextmanager
    def erasing(self) -> Iterator[Session]:
        """Yield a session as `writing`, exclusive, after a backup.

        Other programs cannot read meanwhile, so no reader can stop the transaction after files
        were deleted.

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
        """Replace all backups by a new one, without erased values.

        Raises
        ------
        StudyError
            If the database or its backup cannot be written; the message has the reason.
        """
        with self._locked():
            self._backups.renew()

    @contextmanager
    def _locked(self, lock: str = "IMMEDIATE") -> Iterator[Session]:
        """Yield a session with the write lock."""
        self._leave_wal()
        writer = self._reader.execution_options(lock=lock)
        with (
            study_errors(self.path),
            Session(writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection()
            yield session

    def _leave_wal(self) -> None:
        """Replace a write-ahead log by a rollback journal.

        A rollback journal is safe on network shares. While another program has the study open,
        the log remains until a later write.
        """
        if self._has_rollback_journal:
            return
        self._reader.dispose()  # idle connections keep a write-ahead log open
        with (
            study_errors(self.path),
            closing(connect(self.path, 0)) as connection,
            suppress(sqlite3.OperationalError),
        ):
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            self._has_rollback_journal = mode == "delete"

    def sweep(self) -> None:
        """Remove deleted content from file, free pages and journal.

        Raises
        ------
        StudyError
            If another program has the study open, so that the journal cannot be emptied.
        """
        with study_errors(self.path):
            connection = self._reader.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("VACUUM")
                (busy, *_) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        if busy:
            raise StudyError(
                f"{self.path}: another program has the study open, so its journal still has old "
                "pages. Close it there and erase again."
            )

    def close(self) -> None:
        """Close the file."""
        self._reader.dispose()


def create_database(path: Path | str, fill: Callable[[Session], None]) -> None:
    """Create a database and fill it; rename it once complete.

    Parameters
    ----------
    path
        Path of the new file.
    fill
        Adds the first rows to a session.

    Raises
    ------
    StudyError
        If the file exists.
    OSError
        If the folder cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise StudyError(f"{path.parent} is a study already. Open it, or choose another folder.")
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    part.touch()
    engine = make_engine(lambda: connect(part))
    try:
        with study_errors(part), Session(engine) as session, session.begin():
            Base.metadata.create_all(session.connection())
            session.connection().exec_driver_sql(f"PRAGMA application_id = {APPLICATION}")
            session.connection().exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            fill(session)
        engine.dispose()
        part.rename(path)
    finally:
        engine.dispose()
        part.unlink(missing_ok=True)


def open_database(path: Path | str, wait_s: float = WAIT_S, clock: Clock = utc_now) -> Database:
    """Open a study's database, read-only where it cannot be written.

    `Database.read_only` has the reason. A damaged database is read as far as SQLite can. An
    older one gets its missing tables and columns; where it cannot be written, they exist
    without values.

    Parameters
    ----------
    path
        Path of the file.
    wait_s
        Seconds to wait for other programs that write, here and in every transaction.
    clock
        Dates the backups.

    Raises
    ------
    StudyError
        If it is missing, belongs to another program, or cannot be read at all.
    """
    path = Path(path)
    health, read_only = examine(path, wait_s)
    backups = Backups(path, clock)
    if health is Health.UNREACHABLE:
        memory = add_missing_columns(_copied(path))
        return Database(path, make_engine(lambda: memory, 1), read_only, health, backups)
    if health is Health.SOUND:
        read_only = _migrate(path, wait_s, backups)
    if read_only:
        engine = make_engine(lambda: add_missing_columns(connect(path, wait_s, "ro")))
        return Database(path, engine, read_only, health, backups)
    return Database(path, make_engine(lambda: connect(path, wait_s)), read_only, health, backups)


def _copied(path: Path) -> sqlite3.Connection:
    """Return a copy in memory of a database.

    Its journal would need a writable folder.

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
        with study_errors(path), closing(sqlite3.connect(copy)) as connection:
            connection.backup(memory)
    return memory


def _migrate(path: Path, wait_s: float, backups: Backups) -> str:
    """Add missing tables and columns; return the error or ""."""
    with closing(connect(path, wait_s)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= VERSION:
        return ""
    engine = make_engine(lambda: connect(path, wait_s))
    try:
        with (
            study_errors(path),
            engine.execution_options(lock="IMMEDIATE").begin() as transaction,
            backups.before(Reason.MIGRATION),
        ):
            Base.metadata.create_all(transaction)
            for table, columns in _missing_columns(transaction.exec_driver_sql).items():
                for column in columns:
                    text = CreateColumn(column).compile(dialect=sqlite.dialect())
                    transaction.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {text}")
            transaction.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
    except StudyError as error:
        return str(error)
    finally:
        engine.dispose()
    return ""
