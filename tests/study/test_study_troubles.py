"""A study in trouble: killed, locked, read-only, newer, truncated; said in clear words."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from studies import SCHEMA, as_wal, beside, record, record_history, small_study

from napari_wsimil.cohort.manifest import Patient
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import StudyError, create_study, open_study
from napari_wsimil.study.orm import VERSION

KILLED = """
import os, signal, sys
from napari_wsimil.study import records
from napari_wsimil.study.create_study import open_study
study = open_study(sys.argv[1])
held = study.records.read("P2")
append, stage = records.append, sys.argv[2]
def dying(session, entries):
    if stage == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    written = append(session, entries)
    session.connection().exec_driver_sql("PRAGMA cache_spill = 1")
    os.kill(os.getpid(), signal.SIGKILL)
records.append = dying
study.records.correct("P2", {"ldh": 210.0, "fever": True}, "lab", version=held.version)
"""


@pytest.mark.parametrize("stage", ["before", "after"])
def test_an_edit_that_is_killed_leaves_nothing(tmp_path: Path, stage: str) -> None:
    small_study(tmp_path / "study").close()
    child = beside(KILLED, tmp_path / "study", stage)
    assert child.wait(60) == -signal.SIGKILL
    with open_study(tmp_path / "study") as study:
        assert study.read_only == ""
        assert study.patient("P2").record == record(ldh=180.0)
        assert len(record_history(study, "P2")) == 1
        assert study.ledger.check() == ""


ENDLESS = """
import sys
from napari_wsimil.study.create_study import open_study
study = open_study(sys.argv[1])
held = study.records.read("P2")
print("ready", flush=True)
for number in range(100000):
    changes = {"ldh": float(number % 9000), "fever": number % 2 == 0}
    held = study.records.correct("P2", changes, str(number), version=held.version)
    print(number, flush=True)
"""


def test_edits_killed_at_any_moment_are_there_wholly_or_not(tmp_path: Path) -> None:
    small_study(tmp_path / "study").close()
    for count in (2, 5, 9):
        child = beside(ENDLESS, tmp_path / "study")
        for _ in range(count):
            last = child.stdout.readline()
        child.kill()
        told = [last, *child.stdout.readlines()][-1].strip()
        child.wait(60)
        with open_study(tmp_path / "study") as study:
            values = study.patient("P2").record
            entries = record_history(study, "P2")
            assert study.ledger.check() == ""
        number = int(entries[-1].why)
        assert number >= int(told)  # what was acknowledged is there
        assert values == record(ldh=float(number % 9000), fever=number % 2 == 0)
        assert entries[-1].record == values.digest()


def test_a_locked_study_is_read_and_says_so(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_study(tmp_path, wait_s=0.05) as study:
        assert "locked by another program" in study.read_only
        assert len(study.manifest().patients) == 2
        with pytest.raises(StudyError, match="Nothing was changed: .* locked"):
            study.records.undo("P2")
    other.close()


def test_a_study_that_another_program_locks_later_changes_nothing(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    with open_study(tmp_path, wait_s=0.05) as study:
        other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StudyError, match="another program is writing .* try again"):
            study.add([Patient("P3", ())], "import")
        other.close()
        assert study.add([Patient("P3", ())], "import").new == ("P3",)


def test_a_study_of_a_newer_version_is_read(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    _execute(
        tmp_path,
        f"PRAGMA user_version = {VERSION + 1}",
        "ALTER TABLE patients ADD COLUMN hair TEXT",
    )
    with open_study(tmp_path) as study:
        told = f"newer version of this program (format {VERSION + 1}, this one reads {VERSION})"
        assert told in study.read_only
        assert len(study.manifest().patients) == 2
        with pytest.raises(StudyError, match="newer"):
            study.ledger.note(Act.EXPORTED)


def test_a_study_so_new_that_it_cannot_be_read_says_so(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    _execute(
        tmp_path,
        f"PRAGMA user_version = {VERSION + 1}",
        "ALTER TABLE patients RENAME COLUMN label TO l",
    )
    with open_study(tmp_path) as study, pytest.raises(StudyError, match=r"study\.db.*label"):
        study.manifest()


def test_a_study_whose_beginning_is_gone_says_so(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    file = tmp_path / "study.db"
    file.write_bytes(b"")
    with pytest.raises(StudyError, match="is empty.*study restore"):
        open_study(tmp_path)
    file.write_bytes(b"PK" + bytes(5000))
    with pytest.raises(StudyError, match="no SQLite database.*study restore"):
        open_study(tmp_path)
    file.unlink()
    with pytest.raises(StudyError, match="is no study"):
        open_study(tmp_path)
    sqlite3.connect(file).execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(StudyError, match="of another program"):
        open_study(tmp_path)


READ_ONLY = """
import os, sys
from napari_wsimil.study.create_study import StudyError, create_study, open_study
from studies import SCHEMA
with create_study(sys.argv[2], SCHEMA, who="x"):  # all modules are loaded from now on
    pass
os.setgid(65534); os.setuid(65534)
with open_study(sys.argv[1]) as study:
    print(study.read_only)
    print(len(study.manifest().patients), study.records.read("P2").record["ldh"])
    try:
        study.records.undo("P2")
    except StudyError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user to have no right to write")
@pytest.mark.parametrize("journal", ["closed", "killed", "open"])
def test_a_study_that_may_not_be_written_is_read(tmp_path: Path, journal: str) -> None:
    folder = Path("/tmp") / f"wsimil-{os.getpid()}-{journal}"
    try:
        small_study(folder).close()
        log = as_wal(folder)
        if journal == "closed":
            log.close()
        if journal == "killed":
            shutil.copytree(folder, folder / "copy")
            (folder / "copy" / "study.db-shm").unlink()
        where = folder / "copy" if journal == "killed" else folder
        child = beside(READ_ONLY, where, tmp_path)
        said, counts, refused = child.stdout.read().splitlines()
        log.close()
    finally:
        shutil.rmtree(folder)
    assert "may not be written" in said
    assert counts == "2 200.0"
    assert "Nothing was changed" in refused


def test_a_study_that_was_not_made_to_the_end_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_wsimil.study import create_study as study

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(study, "append", full)
    with pytest.raises(OSError, match="disk full"):
        create_study(tmp_path, SCHEMA)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []
    monkeypatch.undo()
    create_study(tmp_path, SCHEMA).close()


def _execute(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "study.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_opening_a_study_pays_for_no_torch(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    code = (
        "import sys; from napari_wsimil.study.create_study import open_study; "
        "open_study(sys.argv[1]).manifest(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
