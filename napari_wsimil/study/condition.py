"""Condition: whether the database of a study can be written, read, or partly read."""

from __future__ import annotations

import os
import sqlite3
from enum import Enum, auto
from typing import TYPE_CHECKING

from napari_wsimil.study.stored import APPLICATION, VERSION
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"SQLite format 3\0"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
_UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")


class StudyError(RecordError):
    """A study cannot be opened, read or written; the message says why and what to do."""


class Health(Enum):
    """What can be done with a database."""

    SOUND = auto()  # read and written
    READABLE = auto()  # read in place
    UNREACHABLE = auto()  # read, once it is copied: its journal needs a folder to write in
    DAMAGED = auto()  # read in part


def examine(path: Path, wait_s: float) -> tuple[Health, str]:
    """Return the health of a study's database, and in a sentence why it is not sound.

    Raises
    ------
    StudyError
        If there is none, it is none of ours, or it is locked so that it cannot even be read.
    """
    _refuse_other(path)
    try:
        return _probed(path, wait_s)
    except sqlite3.Error as error:
        code = error.sqlite_errorname
        if code.startswith(_DAMAGED):
            return Health.DAMAGED, f"{path} is damaged"
        if code.startswith(_UNWRITABLE):
            return Health.UNREACHABLE, f"{path} may not be written"
        raise StudyError(spoken(path, error)) from error


def spoken(path: Path, error: sqlite3.Error) -> str:
    """Return what an error of SQLite means for who uses the study."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{path}: another program is writing to the study: nothing was changed, try again"
    if code.startswith(_DAMAGED):
        return f"{path} is damaged: open the study again to see what can be saved"
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
            f"{path.parent} is no study: it has no {path.name}; `study create` makes one"
        ) from error
    if not head:
        raise StudyError(f"{path} is empty: nothing of it can be saved, take it from a backup")
    if head[:16] != _MAGIC:
        raise StudyError(f"{path} is no SQLite database, or its beginning is destroyed")
    if int.from_bytes(head[68:72], "big") != APPLICATION:
        raise StudyError(f"{path} is the database of another program")


def _probed(path: Path, wait_s: float) -> tuple[Health, str]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            return Health.DAMAGED, f"{path} is damaged"
        if version > VERSION:
            return Health.READABLE, (
                f"{path} was made by a newer version of this program (format {version}, "
                f"this one knows {VERSION}): it is opened read-only"
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
                f"{path} was locked by another program when it was opened (waited {wait_s:g} s): "
                "open it again to edit"
            )
        raise
    connection.execute("ROLLBACK")
    return Health.SOUND, ""
