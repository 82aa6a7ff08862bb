"""Clinical tables in packed cBioPortal studies.

Nothing is unpacked to the disk: every member is checked, only tables are read, into memory.
"""

from __future__ import annotations

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Self, TypeAlias

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Endings of archives.
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")

#: The most bytes of all members, of a table and of a header, and the most members.
LARGEST, LARGEST_TABLE, LARGEST_HEADER, MOST = 16 * 2**30, 128 * 2**20, 2**20, 100_000

_CLINICAL = re.compile(r"data(_bcr)?_clinical.*\.txt")

_SPECIAL = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)

#: Errors of reading a damaged archive.
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RecursionError),
)

#: A member's name, size in bytes, whether it is a file or a folder, and its content if wanted.
_Member: TypeAlias = tuple[str, int, bool, IO[bytes] | None]


def clinical_files(path: Path | str) -> dict[str, bytes]:
    """Return clinical tables in an archive by name, patients first.

    Raises
    ------
    RecordError
        If it is no archive, is damaged or encrypted, or has no such table; or has a member
        with a path outside the archive, a link, or more data than any study.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        tables = _read(path)
    except _DAMAGED as error:
        raise RecordError(f"{path.name} is no archive, or is damaged: {error}") from error
    if not tables:
        raise RecordError(
            f"{path.name} has no clinical table of cBioPortal (data_clinical_patient.txt): "
            "unpack it, and import the table in it"
        )
    names = sorted(tables, key=lambda name: ("patient" not in _last(name), name))
    short = len({_last(name) for name in names}) == len(names)
    return {_last(name) if short else name: tables[name] for name in names}


def _read(path: Path) -> dict[str, bytes]:
    members = _zipped if path.suffix.lower() == ".zip" else _tarred
    tables: dict[str, bytes] = {}
    count = total = 0
    for name, size, is_plain, content in members(path):
        count, total = count + 1, total + size
        _check(path, name, is_plain)
        if size < 0 or total > LARGEST or count > MOST or (content and size > LARGEST_TABLE):
            raise RecordError(f"{path.name} unpacks to more than any study has: it is not read")
        if content is not None:
            tables[name] = content.read()
    return tables


def _last(name: str) -> str:
    return PurePosixPath(name).name


def _wanted(name: str) -> bool:
    return _CLINICAL.fullmatch(_last(name)) is not None


def _check(path: Path, name: str, is_plain: bool) -> None:
    inside = PurePosixPath(name.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or re.match("[A-Za-z]:", name):
        raise RecordError(f"{path.name} has a member {name!r}, which climbs out: it is not read")
    if not is_plain:
        raise RecordError(f"{path.name} has a link or device, {name!r}: it is not read")


def _zipped(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            if not _wanted(member.filename):
                yield member.filename, member.file_size, is_plain, None
            elif member.flag_bits & 1:
                raise RecordError(f"{path.name} is encrypted: unpack it first")
            else:
                with archive.open(member) as content:
                    yield member.filename, member.file_size, is_plain, content


def _tarred(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, "r|*", tarinfo=_Header) as archive:
        for member in archive:
            is_plain = member.isreg() or member.isdir()
            wanted = member.isreg() and _wanted(member.name)
            content = archive.extractfile(member) if wanted else None
            yield member.name, member.size, is_plain, content


class _Header(tarfile.TarInfo):
    """Header of an archive member, limited in size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _SPECIAL and member.size > LARGEST_HEADER:
            raise RecordError("the archive has a header of more than any name is long")
        return member
