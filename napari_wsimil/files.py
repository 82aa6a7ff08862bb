"""Atomic writes of files and folders."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Mode of a file that only its owner may read.
_PRIVATE = 0o600


@contextmanager
def atomic_write(
    path: Path | str, *, private: bool = False, ending: str = ".part"
) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` on success.

    The temporary path is in the same folder and does not exist yet unless `private`. It may
    become a file or a folder. Its content is flushed to disk before the rename. After an
    error it is removed and `path` is unchanged.

    Parameters
    ----------
    path
        File or folder to write. A replaced file keeps its permissions.
    private
        Create a file that only its owner may read and write.
    ending
        End of the temporary name, for writers that choose a format by it. The default marks
        a file left by a killed process as unfinished.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full.

    Examples
    --------
    >>> with atomic_write("run.json") as part:
    ...     part.write_text("{}")
    """
    path = Path(path)
    part = path.with_name(f".{path.name}{ending}")
    _remove(part)
    try:
        if private:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
        yield part
        if path.is_file() and not private:
            shutil.copymode(path, part)
        _flush(part)
        os.replace(part, path)
    finally:
        _remove(part)


def _flush(path: Path) -> None:
    """Flush a file, or a folder's files, to disk."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as content:
                os.fsync(content.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
