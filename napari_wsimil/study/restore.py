"""Restoring a study's database from a backup."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.study.audit_entry import Act
from napari_wsimil.study.backups import (
    BACKUPS,
    list_backups,
    make_private_folder,
    private_mode,
    utc_now,
)
from napari_wsimil.study.connection import WAIT_S
from napari_wsimil.study.create_study import DATABASE, open_study
from napari_wsimil.study.health import (
    DamagedStudyError,
    StudyError,
    is_damage,
    is_sound,
    study_error,
)
from napari_wsimil.study.orm import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.study.backups import Backup, Clock

_ENDINGS = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Restored:
    """Restored backup, and copy of the replaced database, if any."""

    backup: Backup
    replaced: Path | None


def restore_study(
    folder: str | Path,
    name: str = "",
    *,
    who: str | None = None,
    wait_s: float = WAIT_S,
    clock: Clock = utc_now,
) -> Restored:
    """Replace a study's database by a backup.

    This appends an audit entry. The replaced database is first copied to `backups/`; changes
    since the backup are only in that copy.

    Parameters
    ----------
    folder
        Folder of the study.
    name
        File name of the backup. If empty, the newest; the study must then be damaged.
    who
        User name for the audit log; that of the operating system if None.
    wait_s
        Seconds to wait for other programs that use the study.
    clock
        Clock that dates the copy of the replaced database.

    Raises
    ------
    StudyError
        If the backup is missing or damaged, `name` is empty for an undamaged study, or another
        program uses the study. Nothing is changed then.
    OSError
        If the folder cannot be written.
    """
    path = Path(os.path.abspath(folder)) / DATABASE
    backup = _choose(path, name)
    if not name and not _is_damaged(path, wait_s):
        raise StudyError(f"{path} is not damaged. Name a backup to go back to it (`--from`).")
    _check_backup(backup.path)
    before = _state(path)
    replaced = _copy_aside(path, clock) if before else None
    try:
        _replace(path, backup.path, wait_s, before)
    except (StudyError, OSError):
        _remove(replaced)
        raise
    with open_study(path.parent, who=who, wait_s=wait_s, clock=clock) as study:
        study.ledger.note(Act.RESTORED, why=f"backup {backup.path.name}")
    return Restored(backup, replaced)


def _choose(path: Path, name: str) -> Backup:
    backups = list_backups(path.parent)
    if not backups:
        raise StudyError(
            f"{path.parent} has no backups. The documentation (Recover a damaged study) shows "
            "SQLite's `.recover`."
        )
    for backup in backups:
        if name in ("", backup.path.name):
            return backup
    raise StudyError(f"{path.parent / BACKUPS} has no backup {name}. List them with `--list`.")


def _is_damaged(path: Path, wait_s: float) -> bool:
    if not path.exists():
        return True
    try:
        with open_study(path.parent, wait_s=wait_s) as study:
            study.manifest()
            return study.is_damaged
    except DamagedStudyError:
        return True


def _check_backup(backup: Path) -> None:
    remedy = "Choose another with `--from`."
    try:
        with closing(sqlite3.connect(f"{backup.as_uri()}?mode=ro", uri=True)) as connection:
            sound = is_sound(connection)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StudyError(f"{backup} cannot be read ({error}). {remedy}") from error
    if not sound:
        raise StudyError(f"{backup} is damaged. {remedy}")
    if version > VERSION:
        raise StudyError(f"{backup} was made by a newer version of this program. {remedy}")


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and time of a file, None if missing."""
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None


def _copy_aside(path: Path, clock: Clock) -> Path:
    """Copy a database with journal to `backups/`; return the path."""
    make_private_folder(path.parent / BACKUPS, path)
    stamp = clock().astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    target = path.parent / BACKUPS / f"replaced-{stamp}.db"
    for ending in _ENDINGS:
        source, copy = (Path(f"{file}{ending}") for file in (path, target))
        if source.exists():
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            shutil.copyfile(source, copy)
            copy.chmod(private_mode(path))
    return target


def _remove(path: Path | None, endings: Sequence[str] = _ENDINGS) -> None:
    for ending in endings if path else ():
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _replace(path: Path, backup: Path, wait_s: float, before: tuple[int, int] | None) -> None:
    """Write a backup over a database in one transaction."""
    try:
        _write_over(path, backup, wait_s, before)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise study_error(path, error) from error
        path.write_bytes(b"")  # no program can use such a file
        _remove(path, _ENDINGS[1:])
        _write_over(path, backup, wait_s, None)


def _write_over(path: Path, backup: Path, wait_s: float, before: tuple[int, int] | None) -> None:
    def check(status: int, remaining: int, total: int) -> None:
        is_locked = remaining == total - 1  # from the first page on
        is_changed = is_locked and before is not None and _state(path) != before
        if is_changed or status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StudyError(
                f"{path}: another program is using the study. Close it there and try again; "
                "nothing was changed."
            )

    with (
        closing(sqlite3.connect(f"{backup.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(path, timeout=wait_s)) as target,
    ):
        source.backup(target, pages=1, progress=check)
