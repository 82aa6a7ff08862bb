"""Health of a study's database: writable, readable or damaged."""

from __future__ import annotations

import os
import sqlite3
from enum import Enum, auto
from pathlib import Path

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.orm import APPLICATION, VERSION

_MAGIC = b"SQLite format 3\0"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
_UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")


class StudyError(RecordError):
    """A study cannot be opened, read or written."""


class DamagedStudyError(StudyError):
    """A study's database is damaged.

    Attributes
    ----------
    folder
        Folder of the study.
    """

    def __init__(self, path: Path | str, problem: str = "is damaged") -> None:
        path = Path(path)
        super().__init__(damage_message(path, problem))
        self.folder = path.parent


class Health(Enum):
    """Possible use of a database."""

    SOUND = auto()  # can be read and written
    READABLE = auto()  # can be read in place
    UNREACHABLE = auto()  # can be read as a copy: its journal needs a writable folder
    DAMAGED = auto()  # can be read as far as SQLite manages


def damage_message(path: Path | str, problem: str = "is damaged") -> str:
    """Return a sentence on a damaged database, with the remedy."""
    path = Path(path)
    return f"{path} {problem}. Restore a backup: `napari-wsimil study restore {path.parent}`."


def is_sound(connection: sqlite3.Connection) -> bool:
    """Return whether SQLite's quick check finds no fault."""
    (status,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return bool(status == "ok")


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an SQLite error means a damaged file."""
    return getattr(error, "sqlite_errorname", "").startswith(_DAMAGED)


def examine(path: Path | str, wait_s: float) -> tuple[Health, str]:
    """Return the health of a study's database, and its problem.

    The problem is a sentence, empty for a sound database.

    Raises
    ------
    StudyError
        If it is missing, belongs to another program, or is locked even for reading.
    """
    path = Path(path)
    _refuse_other(path)
    try:
        return _probe(path, wait_s)
    except sqlite3.Error as error:
        code = error.sqlite_errorname
        if is_damage(error):
            return Health.DAMAGED, damage_message(path)
        if code.startswith(_UNWRITABLE):
            return Health.UNREACHABLE, f"{path} may not be written"
        raise study_error(path, error) from error


def study_error(path: Path | str, error: sqlite3.Error) -> StudyError:
    """Return the user's error for an SQLite error."""
    path = Path(path)
    return DamagedStudyError(path) if is_damage(error) else StudyError(_message(path, error))


def _message(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return (
            f"{path}: another program is writing to the study, or reading it. Nothing was changed; "
            "try again."
        )
    if code.startswith(_UNWRITABLE):
        return f"{path} may not be written: nothing was changed"
    if code.startswith("SQLITE_FULL"):
        return f"{path}: the disk is full: nothing was changed"
    return f"{path}: {error}"


def _refuse_other(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StudyError(
            f"{path.parent} is no study: it has no {path.name}. Create one with `study create`."
        ) from error
    if not head:
        raise DamagedStudyError(path, "is empty")
    if head[:16] != _MAGIC:
        raise DamagedStudyError(path, "is no SQLite database, or its first bytes are damaged")
    if int.from_bytes(head[68:72], "big") != APPLICATION:
        raise StudyError(f"{path} is the database of another program")


def _probe(path: Path, wait_s: float) -> tuple[Health, str]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not is_sound(connection):
            return Health.DAMAGED, damage_message(path)
        if version > VERSION:
            return Health.READABLE, (
                f"{path} was made by a newer version of this program (format {version}, "
                f"this one reads {VERSION}), so it is opened read-only"
            )
        return _writable(path, connection, wait_s)
    finally:
        connection.close()


def _writable(path: Path, connection: sqlite3.Connection, wait_s: float) -> tuple[Health, str]:
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return Health.READABLE, f"{path} may not be written"
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith("SQLITE_BUSY"):
            return Health.READABLE, (
                f"{path} was locked by another program when it was opened (waited {wait_s:g} s). "
                "Open it again to edit"
            )
        raise
    connection.execute("ROLLBACK")
    return Health.SOUND, ""
