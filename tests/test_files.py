"""Files are written completely, or not at all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from napari_wsimil.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_twice(path: Path) -> None:
    """Write something, then fail."""
    path.mkdir()
    (path / "a").touch()
    path.mkdir()


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(str(path)) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(FileExistsError), atomic_write(path) as part:
        write_twice(part)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_rest_of_a_killed_run_is_not_continued(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.h5") as part:
        name = part.name
        part.write_text("new")
    (tmp_path / name).write_text("rest of a killed run")
    with atomic_write(tmp_path / "a.h5") as part:
        assert part.name == name
        assert not part.exists()
        part.write_text("newer")
    assert not name.endswith(".h5")  # it is not taken for features


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.touch()
    path.chmod(0o640)
    with atomic_write(path) as part:
        part.write_text("new")
    assert mode_of(path) == 0o640


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.touch(0o644)
    with atomic_write(path, private=True) as part:
        assert mode_of(part) == 0o600
        part.write_text("secret")
    assert mode_of(path) == 0o600


def test_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "folder", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync") or fsync(number))
    monkeypatch.setattr(os, "replace", lambda *pair: calls.append("replace") or replace(*pair))
    with atomic_write(path) as part:
        (part / "inner").mkdir(parents=True)
        (part / "a").write_text("1")
        (part / "inner" / "b").write_text("2")
    assert calls == ["fsync", "fsync", "replace"]
    assert (path / "inner" / "b").read_text() == "2"


def test_an_unfinished_folder_is_removed(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "folder") as part:
        write_twice(part)
    assert list(tmp_path.iterdir()) == []


def test_the_ending_of_the_temporary_name_can_be_chosen(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "table.xlsx", ending=".part.xlsx") as part:
        assert part.suffix == ".xlsx"
        part.write_text("")
