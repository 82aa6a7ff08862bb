"""Disks: which file system a folder is on, and the journal that is safe there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, TypeAlias

#: Where the system tells its file systems.
MOUNTS = Path("/proc/self/mounts")

#: File systems of disks in this machine; a write-ahead log needs memory shared by all its
#: readers, which those of other machines have not.
LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs"),
    *("tmpfs", "overlay", "ntfs", "ntfs3", "vfat", "exfat", "hfsplus", "apfs"),
}

Journal: TypeAlias = Literal["wal", "delete"]


def file_system(folder: Path) -> str:
    """Return the type of the file system a folder is on, such as "ext4"; "" if none is told."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # a system without this file
        return ""
    place = os.path.realpath(folder)
    found = ("", "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found[0]):
            found = point, kind
    return found[1]


def journal_on(kind: str) -> tuple[Journal, str]:
    """Return the journal for a type of file system, and the sentence that says why."""
    if kind in LOCAL:
        return "wal", f"write-ahead log: the study is on a disk of this machine ({kind})"
    where = f"a {kind} file system, which" if kind else "a file system that"
    return "delete", (
        f"rollback journal: the study is on {where} is not known to be a disk of this machine, "
        "and a write-ahead log is not safe between machines"
    )
