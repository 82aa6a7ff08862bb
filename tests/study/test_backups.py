"""Backups of a study: when they are made, which stay, and how one is restored."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cohorts import make_bag
from studies import SCHEMA, as_version_2, as_wal, beside, damage, record, small_study

from napari_wsimil.cli.main import main
from napari_wsimil.cohort.manifest import Patient
from napari_wsimil.features.store import save_bag
from napari_wsimil.progress import finish
from napari_wsimil.study import backups
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.backups import Reason, list_backups
from napari_wsimil.study.create_study import StudyError, create_study, open_study
from napari_wsimil.study.restore import restore_study
from napari_wsimil.workflows.share import share

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.study.create_study import Study

PAGE = 4096


class SetClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 31, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: int) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed study of two patients without backups."""
    small_study(tmp_path / "study").close()
    shutil.rmtree(tmp_path / "study" / "backups")
    return tmp_path / "study"


def reasons(folder: Path) -> list[str]:
    return [str(backup.reason) for backup in list_backups(folder)]


def correct(study: Study, ldh: float) -> None:
    version = study.records.read("P2").version
    study.records.correct("P2", {"ldh": ldh}, "lab", version=version)


def ldh_in(database: Path) -> str:
    """Return the record of P2 in a database, as stored."""
    select = "SELECT cells FROM records JOIN patients ON id = patient_id WHERE name = 'P2'"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (cells,) = connection.execute(select).fetchone()
    return str(cells)


def test_the_first_write_of_a_day_is_preceded_by_a_backup(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        study.manifest()
        assert reasons(folder) == []
        correct(study, 201.0)
        clock.move(hours=2)
        correct(study, 202.0)
        assert reasons(folder) == ["first-write"]
        clock.move(days=1)
        correct(study, 203.0)
    with open_study(folder, clock=clock) as study:
        correct(study, 204.0)
    newest, oldest = list_backups(folder)
    assert (newest.when, oldest.when) == (clock.now, clock.now - timedelta(days=1, hours=2))
    assert '"202"' in ldh_in(newest.path)
    assert '"180"' in ldh_in(oldest.path)


def test_imports_and_schema_changes_are_preceded_by_a_backup(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        study.add([Patient("P3", ())], "table")
        study.link([], "features")
        study.set_schema(SCHEMA.model_copy(update={"name": "second"}), "renamed")
        correct(study, 201.0)  # today has backups already
    assert reasons(folder) == ["schema", "import", "import"]
    first = list_backups(folder)[-1].path
    with closing(sqlite3.connect(first)) as connection:
        assert connection.execute("SELECT count(*) FROM patients").fetchone() == (2,)


def test_a_migration_is_preceded_by_a_backup(folder: Path, clock: SetClock) -> None:
    as_version_2(folder)
    open_study(folder, clock=clock).close()
    (backup,) = list_backups(folder)
    assert backup.reason is Reason.MIGRATION
    with closing(sqlite3.connect(backup.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_the_newest_five_and_the_newest_of_three_days_stay(folder: Path, clock: SetClock) -> None:
    for day in range(4):
        for _ in range(6 if day == 3 else 2):
            with open_study(folder, clock=clock) as study:
                study.link([], "features")
            clock.move(minutes=1)
        clock.move(days=1)
    days = [backup.when.day for backup in list_backups(folder)]
    assert days == [3, 3, 3, 3, 3, 2, 1]  # of January 31 none is left
    assert [backup.when.minute % 2 for backup in list_backups(folder)[5:]] == [1, 1]


def test_a_write_that_fails_leaves_no_backup(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        with pytest.raises(ValueError, match="no root"):
            study.set_root("nowhere", folder, "moved")
        assert reasons(folder) == []
        correct(study, 201.0)
    assert reasons(folder) == ["first-write"]


def test_nothing_is_written_without_a_backup(
    folder: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups, "_copy", full)
    with open_study(folder, clock=clock) as study:
        with pytest.raises(StudyError, match=r"No backup of .*study\.db .*No space left"):
            correct(study, 201.0)
        assert study.patient("P2").record == record(ldh=180.0)
    assert list((folder / "backups").iterdir()) == []


def test_a_study_damaged_while_open_is_not_backed_up(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        damage(folder, "runs")
        with pytest.raises(StudyError, match="is damaged. Restore a backup"):
            correct(study, 201.0)
    assert list((folder / "backups").iterdir()) == []


def test_what_a_killed_program_left_half_written_is_removed(folder: Path, clock: SetClock) -> None:
    (folder / "backups").mkdir()
    left = folder / "backups" / ".2030-01-30T09-30-00.000000Z-import.db.new"
    left.touch()
    with open_study(folder, clock=clock) as study:
        correct(study, 201.0)
    assert [path.name for path in (folder / "backups").iterdir()] == [
        "2030-01-31T09-30-00.000000Z-first-write.db"
    ]


@pytest.mark.parametrize(("database", "backup"), [(0o644, (0o700, 0o600)), (0o664, (0o770, 0o660))])
def test_only_writers_of_the_study_read_its_backups(
    folder: Path, clock: SetClock, database: int, backup: tuple[int, int]
) -> None:
    (folder / "study.db").chmod(database)
    with open_study(folder, clock=clock) as study:
        correct(study, 201.0)
    paths = (folder / "backups", list_backups(folder)[0].path)
    assert tuple(stat.S_IMODE(path.stat().st_mode) for path in paths) == backup


def test_erasing_leaves_one_backup_without_the_patient(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        correct(study, 4321.5)
        study.link([], "features")
    damage(folder, "runs")
    restore_study(folder, clock=clock)  # the replaced database has the patient, too
    with open_study(folder, clock=clock) as study:
        correct(study, 4321.5)
        study.forget("P2", "consent withdrawn")
        (backup,) = (folder / "backups").iterdir()
        assert reasons(folder) == ["erased"]
        assert b"4321.5" not in backup.read_bytes()
        assert b"4321.5" not in (folder / "study.db").read_bytes()
        restore_study(folder, backup.name, clock=clock)
        assert [patient.name for patient in study.manifest().patients] == ["P1"]


def test_erasing_again_erases_the_backups_again(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        study.link([], "features")
        old = list_backups(folder)[0].path
        content = old.read_bytes()
        study.forget("P2", "consent withdrawn")
        old.write_bytes(content)  # as if the program had been killed before
        study.forget("P2", "consent withdrawn")
    assert reasons(folder) == ["erased"]


def test_a_shared_copy_has_no_backups(folder: Path, tmp_path: Path) -> None:
    save_bag(folder / "features" / "a.h5", make_bag(1))
    with open_study(folder) as study:
        finish(share(study, tmp_path / "shared"))
    assert reasons(folder)
    assert (tmp_path / "shared" / "study.db").exists()
    assert not (tmp_path / "shared" / "backups").exists()


def test_a_write_ahead_log_becomes_a_rollback_journal_at_the_first_write(
    folder: Path, clock: SetClock
) -> None:
    log = as_wal(folder)
    with open_study(folder, clock=clock) as study:
        assert study.patient("P2").record == record(ldh=200.0)
        correct(study, 201.0)  # the other program has it open still
        assert (folder / "study.db-wal").exists()
        log.close()
        correct(study, 202.0)
        assert not (folder / "study.db-wal").exists()
        assert study.patient("P2").record == record(ldh=202.0)
    assert (folder / "study.db").read_bytes()[18:20] == b"\1\1"
    assert [path.suffix for path in (folder / "backups").iterdir()] == [".db"]
    assert '"200"' in ldh_in(list_backups(folder)[0].path)


def test_a_damaged_study_is_read_as_far_as_possible(folder: Path) -> None:
    damage(folder, "runs")
    with open_study(folder) as study:
        remedy = f"Restore a backup: `napari-wsimil study restore {folder}`."
        assert study.read_only == f"{folder}/study.db is damaged. {remedy}"
        assert study.is_damaged
        assert study.patient("P2").record == record(ldh=180.0)
        with pytest.raises(StudyError, match="Nothing was changed.*is damaged"):
            correct(study, 201.0)
    damage(folder, "records")
    with open_study(folder) as study, pytest.raises(StudyError, match="is damaged. Restore"):
        study.manifest()


def _junk(database: Path) -> None:
    database.write_bytes(b"junk" * PAGE)


def _halved(database: Path) -> None:
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])


def _emptied(database: Path) -> None:
    database.write_bytes(b"")


def _lost(database: Path) -> None:
    database.unlink()


def _schemaless(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("UPDATE facts SET value = 'name: [' WHERE name = 'schema'")


@pytest.mark.parametrize("harm", [_junk, _halved, _emptied, _lost, _schemaless])
def test_a_damaged_study_is_restored(folder: Path, clock: SetClock, harm: object) -> None:
    with open_study(folder, clock=clock) as study:
        correct(study, 201.0)
        clock.move(hours=1)
        study.link([], "features")
    (folder / "study.db").chmod(0o660)
    harm(folder / "study.db")
    damaged = (folder / "study.db").read_bytes() if (folder / "study.db").exists() else None
    with pytest.raises(StudyError):
        open_study(folder)
    clock.move(hours=1)
    restored = restore_study(folder, who="eve", clock=clock)
    with open_study(folder) as study:
        assert (study.read_only, study.ledger.check()) == ("", "")
        assert study.patient("P2").record == record(ldh=201.0)
        last = study.ledger.entries()[-1]
    assert (last.act, last.who) == (Act.RESTORED, "eve")
    assert last.why == "backup 2030-01-31T10-30-00.000000Z-import.db"
    if damaged is None:
        assert restored.replaced is None
    else:
        assert restored.replaced == folder / "backups/replaced-2030-01-31T11-30-00.000000Z.db"
        assert restored.replaced.read_bytes() == damaged
        assert stat.S_IMODE((folder / "study.db").stat().st_mode) == 0o660
    assert restored.replaced not in [backup.path for backup in list_backups(folder)]


def test_a_large_study_is_restored(tmp_path: Path, clock: SetClock) -> None:
    many = [Patient(f"P{n}", (), record=record(ldh=float(n))) for n in range(5000)]
    with create_study(tmp_path, SCHEMA) as study:
        study.add(many, "many")
    with open_study(tmp_path, clock=clock) as study:
        study.link([], "features")
    assert (tmp_path / "study.db").stat().st_size > 2**21  # more than SQLite's cache
    damage(tmp_path, "runs")
    restore_study(tmp_path, clock=clock)
    with open_study(tmp_path) as study:
        assert study.read_only == ""
        assert len(study.manifest().patients) == 5000


def test_a_sound_study_goes_back_to_a_backup_that_is_named(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        study.link([], "features")
        correct(study, 201.0)
        (backup,) = list_backups(folder)
        with pytest.raises(StudyError, match=r"is not damaged. Name a backup .*--from"):
            restore_study(folder)
        with pytest.raises(StudyError, match=r"has no backup x\.db"):
            restore_study(folder, "x.db")
        restored = restore_study(folder, backup.path.name)
        assert study.patient("P2").record == record(ldh=180.0)  # open meanwhile
    assert '"201"' in ldh_in(restored.replaced)


def test_a_bad_backup_is_refused(folder: Path, clock: SetClock) -> None:
    with open_study(folder, clock=clock) as study:
        study.link([], "features")
    (backup,) = list_backups(folder)
    damage(folder, "runs")
    before = (folder / "study.db").read_bytes()
    sound = backup.path.read_bytes()
    backup.path.write_bytes(before)
    with pytest.raises(StudyError, match="import.db is damaged. Choose another"):
        restore_study(folder)
    backup.path.write_bytes(b"junk" * PAGE)
    with pytest.raises(StudyError, match="import.db cannot be read"):
        restore_study(folder)
    backup.path.write_bytes(sound)
    with closing(sqlite3.connect(backup.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StudyError, match="newer version"):
        restore_study(folder)
    assert (folder / "study.db").read_bytes() == before


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_nothing_is_restored_while_another_program_writes(
    folder: Path, clock: SetClock, lock: str
) -> None:
    with open_study(folder, clock=clock) as study:
        study.link([], "features")
    (backup,) = list_backups(folder)
    damage(folder, "runs")
    before = (folder / "study.db").read_bytes()
    child = beside(WRITER, folder / "study.db", lock)
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(StudyError, match="another program is using the study"):
        restore_study(folder, backup.path.name, wait_s=0.05)
    child.communicate("\n", 60)
    assert (folder / "study.db").read_bytes() == before
    assert [path.name for path in (folder / "backups").iterdir()] == [backup.path.name]
    restore_study(folder, wait_s=0.05)


TWO = """
import sys
from datetime import UTC, datetime
from napari_wsimil.study.create_study import open_study
with open_study(sys.argv[1], clock=lambda: datetime(2030, 1, 31, tzinfo=UTC)) as study:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(20):
        study.ledger.note("exported", why=str(number))
"""


def test_two_programs_make_one_backup_of_a_day(folder: Path) -> None:
    children = [beside(TWO, folder) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.wait(120) for child in children] == [0, 0]
    assert reasons(folder) == ["first-write"]
    with open_study(folder) as study:
        assert study.ledger.check() == ""


def test_the_command_line_lists_and_restores(
    folder: Path, clock: SetClock, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "restore", str(folder)]) == 2
    assert "has no backups" in " ".join(capfd.readouterr().err.split())
    with open_study(folder, clock=clock) as study:
        study.link([], "features")
        correct(study, 201.0)
    (backup,) = list_backups(folder)
    assert main(["study", "restore", str(folder), "--list"]) == 0
    out = capfd.readouterr().out
    assert backup.path.name in out
    assert "2030-01-31 09:30:00 UTC" in out
    assert main(["study", "restore", str(folder), "--from", backup.path.name]) == 0
    assert "replaced" in capfd.readouterr().out
    with open_study(folder) as study:
        assert study.patient("P2").record == record(ldh=180.0)


def test_the_old_verb_names_the_new_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "rescue", str(folder), str(folder.parent / "new")]) == 2
    assert "napari-wsimil study restore" in " ".join(capfd.readouterr().err.split())
    assert main(["study", "--help"]) == 0
    assert "rescue" not in capfd.readouterr().out
