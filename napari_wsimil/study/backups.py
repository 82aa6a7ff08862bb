"""Rotating backups of a study's database, in its folder `backups/`.

SQLite's backup API makes one before the first write of a day (UTC) and before every import,
schema change, erasure and migration. This requires the write lock, so two programs never back
up or rotate at once. The last five backups are kept, and the newest of each of the last three
days that have one. A damaged copy never replaces a good one.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from napari_wsimil.study.health import DamagedStudyError, StudyError, is_sound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The folder of the backups within a study.
BACKUPS = "backups"

#: Number of newest backups kept, and of days whose newest backup is kept.
NEWEST, DAYS = 5, 3

#: Returns the present time with its time zone.
Clock: TypeAlias = Callable[[], datetime]

_TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z)-(.+)\.db")


class Reason(StrEnum):
    """Write that a backup precedes; ERASED follows one."""

    FIRST_WRITE = "first-write"
    IMPORT = "import"
    SCHEMA = "schema"
    MIGRATION = "migration"
    ERASE = "erase"
    ERASED = "erased"


@dataclass(frozen=True)
class Backup:
    """Backup file, its time in UTC and its reason."""

    path: Path
    when: datetime
    reason: Reason

    @property
    def label(self) -> str:
        """Time and reason, such as "2026-01-31 14:22:05 UTC (import)"."""
        return f"{self.when:%Y-%m-%d %H:%M:%S} UTC ({self.reason})"


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


def list_backups(folder: str | Path) -> tuple[Backup, ...]:
    """Return a study's backups, newest first, without other files."""
    files = sorted((Path(folder) / BACKUPS).glob("*.db"), reverse=True)
    return tuple(backup for file in files if (backup := _parse_name(file)) is not None)


class Backups:
    """Backups of a database; the methods need its write lock."""

    def __init__(self, database: Path | str, clock: Clock) -> None:
        database = Path(database)
        self._database, self._clock = database, clock
        self._folder = database.parent / BACKUPS
        self._day: date | None = None

    @contextmanager
    def before(self, reason: Reason | None = None) -> Iterator[None]:
        """Back up before a write, and rotate after it.

        Without a reason, only if today has no backup yet. A failed write leaves no backup and
        rotates none away.

        Raises
        ------
        StudyError
            If the backup cannot be written, or the database is damaged.
        """
        due = reason or (None if self._has_today() else Reason.FIRST_WRITE)
        path = self._make(due) if due else None
        is_written = False
        try:
            yield
            is_written = True
        finally:
            if path is not None:
                self._rotate(path, is_written)

    def renew(self) -> None:
        """Delete all backups and replaced databases; make one backup.

        Raises
        ------
        StudyError
            As `before`.
        """
        for file in self._folder.glob("*"):
            if file.is_file():
                file.unlink()
        self._make(Reason.ERASED)

    def _has_today(self) -> bool:
        today = self._clock().astimezone(UTC).date()
        if self._day != today and any(
            backup.when.date() == today for backup in list_backups(self._database.parent)
        ):
            self._day = today
        return self._day == today

    def _make(self, reason: Reason) -> Path:
        try:
            make_private_folder(self._folder, self._database)
            path = self._free_path(reason)
            _write(self._database, path)
        except OSError as error:
            raise StudyError(
                f"No backup of {self._database} could be written ({error.strerror}). "
                "Check free space and permissions."
            ) from error
        return path

    def _free_path(self, reason: Reason) -> Path:
        when = self._clock().astimezone(UTC)
        taken = {backup.when for backup in list_backups(self._database.parent)}
        while when in taken:
            when += timedelta(microseconds=1)
        return self._folder / f"{when.strftime(_TIME)}-{reason}.db"

    def _rotate(self, path: Path, is_written: bool) -> None:
        if not is_written:
            path.unlink(missing_ok=True)
            return
        backups = list_backups(self._database.parent)
        for backup in set(backups) - set(_kept(backups)):
            backup.path.unlink(missing_ok=True)


def make_private_folder(folder: Path | str, database: Path | str) -> None:
    """Make a folder readable only for those with write access."""
    folder = Path(folder)
    database = Path(database)
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        folder.chmod(0o770 if private_mode(database) & 0o060 else 0o700)


def private_mode(database: Path | str) -> int:
    """Return the file mode for owner and writing group."""
    database = Path(database)
    return 0o660 if database.exists() and database.stat().st_mode & 0o020 else 0o600


def _kept(backups: Sequence[Backup]) -> list[Backup]:
    """Return the backups to keep of some, newest first."""
    days: dict[date, Backup] = {}
    for backup in backups:
        days.setdefault(backup.when.date(), backup)
    return [*backups[:NEWEST], *list(days.values())[:DAYS]]


def _parse_name(file: Path) -> Backup | None:
    match = _NAME.fullmatch(file.name)
    if match is None or match[2] not in list(Reason):
        return None
    return Backup(file, datetime.strptime(match[1], _TIME).replace(tzinfo=UTC), Reason(match[2]))


def _write(database: Path, path: Path) -> None:
    """Copy a database to a new file, renamed once complete."""
    part = path.with_name(f".{path.name}.new")
    for partial in path.parent.glob(".*.new*"):  # left by a killed program
        partial.unlink()
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        part.chmod(private_mode(database))
        _copy(database, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _copy(database: Path, target: Path) -> None:
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master")  # read lock: `backup` waits forever
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        if not is_sound(copy):
            raise DamagedStudyError(database)
