"""A damaged study is rescued: what could be read becomes a sound one, what is lost is told."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from studies import SCHEMA, beside, first_patient, record, small_study

from napari_wsimil.cli import main
from napari_wsimil.study import rescue
from napari_wsimil.study.importing import export_table
from napari_wsimil.study.ledger import Act
from napari_wsimil.study.manifest import Patient, SlideRow
from napari_wsimil.study.rescue import rescue_study
from napari_wsimil.study.study import StudyError, create_study, open_study

if TYPE_CHECKING:
    from napari_wsimil.study.rescue import Rescued

PAGE = 4096
COUNT = 600


def many(folder: Path) -> Path:
    """Make a study of many patients, some of them corrected later, and return its file."""
    with create_study(folder, SCHEMA, who="ada") as study:
        study.add([one(folder, n) for n in range(COUNT)], "many")
        for n in (0, 300, COUNT - 1):
            held = study.records.read(f"P{n}")
            study.records.correct(f"P{n}", {"fever": True}, "lab", version=held.version)
    return folder / "study.db"


def one(folder: Path, n: int) -> Patient:
    slide = SlideRow(f"S{n}", folder.parent / "scans" / f"{n}.svs")
    return Patient(f"P{n}", (slide,), "tumor" if n % 2 else "none", record=record(ldh=float(n)))


def pages_of(file: Path, table: str) -> list[int]:
    """Return the leaf pages of a table, in its order."""
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        try:
            return [page for (page,) in connection.execute(query, (table,))]
        except sqlite3.OperationalError:
            pytest.skip("this SQLite tells no pages")


def overwrite(file: Path, *pages: int) -> None:
    content = bytearray(file.read_bytes())
    for page in pages:
        content[(page - 1) * PAGE : page * PAGE] = b"junk" * (PAGE // 4)
    file.write_bytes(content)


def is_whole(rescued: Rescued) -> None:
    """Check that a rescued study is sound, and can be edited, exported and opened again."""
    with rescued.study as study:
        assert (study.read_only, study.is_damaged, study.ledger.check()) == ("", False, "")
        last = study.ledger.entries()[-1]
        assert last.act is Act.RESCUED
        assert all(said in last.why for said in rescued.lost)
        name = study.manifest().patients[-1].name
        held = study.records.read(name)
        study.records.correct(name, {"site": "left"}, "seen", version=held.version)
        study.records.undo(name)
        export_table(study, study.folder / "exports" / "all.csv")
        assert study.add([Patient("new", (), record=record(ldh=1.0))], "more").new == ("new",)
        assert study.ledger.check() == ""
    with closing(sqlite3.connect(study.folder / "study.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_of_a_truncated_study_what_is_left_becomes_a_sound_one(
    tmp_path: Path, share: float
) -> None:
    file = many(tmp_path / "old")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    before = file.read_bytes()
    rescued = rescue_study(tmp_path / "old", tmp_path / "new", who="eve")
    known = {p.name: p for p in rescued.study.manifest().patients}
    told = [p for p in known.values() if p.record != record()]
    assert known["P0"].slides[0].slide_path == tmp_path / "scans" / "0.svs"
    assert all(p.record["ldh"] == float(p.name[1:]) for p in told)
    assert any("of the ledger" in said for said in rescued.lost)
    assert rescued.study.ledger.entries()[-1].number == COUNT + 5  # no number is given twice
    is_whole(rescued)
    assert file.read_bytes() == before


def test_junk_in_several_pages_of_records_costs_these_records_alone(tmp_path: Path) -> None:
    file = many(tmp_path / "old")
    pages = pages_of(file, "records")
    overwrite(file, pages[1], pages[-2])
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    patients = rescued.study.manifest().patients
    lost = [p.name for p in patients if p.record == record()]
    assert [p.name for p in patients] == [f"P{n}" for n in range(COUNT)]
    assert 0 < len(lost) < COUNT / 2
    between = [int(name[1:]) for name in lost]
    assert len(between) < between[-1] - between[0] + 1  # what lies between the pages is there
    (said,) = rescued.lost
    assert said.startswith(f"{len(lost)} patients have lost all values of their record: {lost[0]}")
    is_whole(rescued)


def test_patients_whose_rows_are_junk_keep_name_record_and_slides(tmp_path: Path) -> None:
    file = many(tmp_path / "old")
    overwrite(file, pages_of(file, "patients")[1], pages_of(file, "slides")[2])
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    patients = {p.name: p for p in rescued.study.manifest().patients}
    assert list(patients) == [f"P{n}" for n in range(COUNT)]
    assert all(p.record["ldh"] == float(name[1:]) for name, p in patients.items())
    assert all(p.slides[0].slide == f"S{name[1:]}" for name, p in patients.items())
    nameless = [name for name, p in patients.items() if p.label is None]
    placeless = [p.slides[0].slide for p in patients.values() if p.slides[0].slide_path is None]
    assert nameless
    assert placeless
    assert rescued.lost[0].startswith(f"{len(nameless)} patients have lost label, split and")
    assert rescued.lost[1].startswith(f"{len(placeless)} slides have lost where they are: ")
    is_whole(rescued)


def test_patients_of_whom_nothing_is_left_are_named_by_the_ledger(tmp_path: Path) -> None:
    file = many(tmp_path / "old")
    index = pages_of(file, "sqlite_autoindex_patients_1")
    overwrite(file, pages_of(file, "patients")[1], *index)
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    known = {p.name for p in rescued.study.manifest().patients}
    gone = [f"P{n}" for n in range(COUNT) if f"P{n}" not in known]
    assert gone
    assert rescued.lost == (
        f"{len(gone)} patients are gone, of whom the ledger tells: {', '.join(gone[:10])} "
        f"and {len(gone) - 10} more",
        f"{len(gone)} rows of records: what they belong to is gone",
        f"{len(gone)} rows of slides: what they belong to is gone",
    )
    is_whole(rescued)


def test_a_ledger_with_a_hole_keeps_numbers_hashes_and_history(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = many(tmp_path / "old")
    with open_study(tmp_path / "old") as study:
        before = {entry.number: entry for entry in study.ledger.entries()}
    pages = pages_of(file, "ledger")
    overwrite(file, pages[2])
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    after = {entry.number: entry for entry in rescued.study.ledger.entries()}
    gone = sorted(set(before) - set(after))
    assert gone == list(range(gone[0], gone[-1] + 1))
    assert {n: e for n, e in after.items() if n in before} == {
        n: e for n, e in before.items() if n not in gone
    }
    assert rescued.lost == (f"entries {gone[0]} to {gone[-1]} of {len(before)} of the ledger",)
    number = len(before) + 1
    assert after[number].act is Act.RESCUED
    assert rescued.study.ledger.cuts() == (f"{gone[0]} to {gone[-1]} (entry {number} tells)")
    is_whole(rescued)
    assert main(["study", "show", str(tmp_path / "new")]) == 0
    told = f"holds, but for entries {gone[0]} to {gone[-1]} (entry {number} tells)"
    assert told in " ".join(capfd.readouterr().out.split())
    with open_study(tmp_path / "new") as study:
        study.records.undo("P599")  # what was corrected before the damage
        assert study.patient("P599").record == record(ldh=599.0)


def _changed(folder: Path, *statements: str) -> str:
    """Change a study's database as nothing of ours does, and return what its chain says."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        for statement in ("DROP TRIGGER ledger_stays", "DROP TRIGGER ledger_holds", *statements):
            connection.execute(statement)
        connection.commit()
    with open_study(folder) as study:
        return study.ledger.check()


def test_a_rescued_ledger_shows_later_changes_on_both_sides_of_its_hole(tmp_path: Path) -> None:
    file = many(tmp_path / "old")
    overwrite(file, pages_of(file, "ledger")[2])
    with rescue_study(tmp_path / "old", tmp_path / "new").study as study:
        numbers = {entry.number for entry in study.ledger.entries()}
    edge = min(n for n in numbers if n + 1 not in numbers)
    content = (tmp_path / "new" / "study.db").read_bytes()

    def said(*statements: str) -> str:
        (tmp_path / "new" / "study.db").write_bytes(content)
        return _changed(tmp_path / "new", *statements)

    assert said() == ""
    assert "entry 2 of the ledger was changed" in said(
        "UPDATE ledger SET content = replace(content, 'many', 'few') WHERE number = 2"
    )
    assert "entry 1 of the ledger is gone" in said("DELETE FROM ledger WHERE number = 1")
    assert f"entry {edge} of the ledger is gone" in said(
        f"DELETE FROM ledger WHERE number = {edge}"
    )
    last = max(numbers)
    gone = f"entry {edge + 1} of the ledger is gone"
    assert gone in said(f"DELETE FROM ledger WHERE number = {last}")
    previous, salt, text = _row(tmp_path / "new", edge)
    digest = _sha256(salt, text.replace("many", "few"))
    new = f"content = replace(content, 'many', 'few'), digest = '{digest}'"
    chained = _sha256(str(edge), previous, digest)  # as one does who knows how
    wrong = f"entry {last} of the ledger took over other entries than stand before it"
    assert wrong in said(f"UPDATE ledger SET {new}, hash = '{chained}' WHERE number = {edge}")


def _row(folder: Path, number: int) -> tuple[str, str, str]:
    select = "SELECT previous, salt, content FROM ledger WHERE number = ?"
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        previous, salt, content = connection.execute(select, (number,)).fetchone()
        return previous, salt, content


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def test_entries_whose_tombstone_is_lost_are_told(tmp_path: Path) -> None:
    small_study(tmp_path / "old").close()
    with open_study(tmp_path / "old") as study:
        study.forget("P1", "consent withdrawn")
    with closing(sqlite3.connect(tmp_path / "old" / "study.db")) as connection:
        connection.execute("DROP TRIGGER ledger_stays")
        connection.execute("DELETE FROM ledger WHERE content LIKE '%forgotten%'")
        connection.commit()
    damage_roots(tmp_path / "old")
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    assert "entries 4 of 4 of the ledger" in rescued.lost
    assert "who was forgotten, of entries 2 of the ledger" in rescued.lost
    is_whole(rescued)


def damage_roots(folder: Path) -> None:
    file = folder / "study.db"
    overwrite(file, *pages_of(file, "roots"))


def test_files_of_a_lost_root_are_found_again_by_naming_it(tmp_path: Path) -> None:
    small_study(tmp_path / "old").close()
    damage_roots(tmp_path / "old")
    with open_study(tmp_path / "old") as damaged:
        assert len(damaged.manifest().patients) == 2
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    assert any("root slides is lost" in said for said in rescued.lost)
    with rescued.study as study:
        study.set_root("slides", tmp_path / "slides", "known")
        assert study.patient("P1").slides[0].slide_path == tmp_path / "slides" / "a.svs"


def test_a_rescued_study_finds_the_files_that_stay_in_the_damaged_one(tmp_path: Path) -> None:
    small_study(tmp_path / "old").close()
    (tmp_path / "old" / "features" / "a.h5").write_bytes(b"features")
    with open_study(tmp_path / "old") as study:
        identity = study.identity
    file = tmp_path / "old" / "study.db"
    overwrite(file, pages_of(file, "sqlite_autoindex_slides_1")[0])
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    assert rescued.left == tmp_path / "old"
    assert rescued.study.patient("P1") == first_patient(tmp_path / "old")
    assert rescued.study.identity == identity  # by which the key of pseudonyms is found
    assert rescued.study.roots["damaged-study"] == tmp_path / "old"
    assert rescued.lost == ()
    is_whole(rescued)


def test_only_what_is_damaged_is_rescued(tmp_path: Path) -> None:
    small_study(tmp_path / "old").close()
    with pytest.raises(StudyError, match="is not damaged"):
        rescue_study(tmp_path / "old", tmp_path / "new")
    file = tmp_path / "old" / "study.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StudyError, match="newer version"):
        rescue_study(tmp_path / "old", tmp_path / "new")
    damage_roots(tmp_path / "old")
    with pytest.raises(StudyError, match="newer version"):
        rescue_study(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over_or_into_the_damaged_study(tmp_path: Path) -> None:
    small_study(tmp_path / "old").close()
    damage_roots(tmp_path / "old")
    small_study(tmp_path / "other").close()
    with pytest.raises(StudyError, match="is a study already"):
        rescue_study(tmp_path / "old", tmp_path / "other")
    with pytest.raises(StudyError, match="name a folder outside"):
        rescue_study(tmp_path / "old", tmp_path / "old" / "in")


def test_a_study_whose_schema_is_lost_says_so(tmp_path: Path) -> None:
    file = many(tmp_path / "old")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM facts WHERE name = 'schema'")
        connection.commit()
    overwrite(file, pages_of(file, "records")[1])
    with pytest.raises(StudyError, match="its schema is lost: take it from a backup"):
        rescue_study(tmp_path / "old", tmp_path / "new")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO facts VALUES ('schema', 'name: [')")
        connection.commit()
    with pytest.raises(StudyError, match="its schema is damaged: take it from a backup"):
        rescue_study(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_patient_who_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    small_study(tmp_path / "old").close()
    with closing(sqlite3.connect(tmp_path / "old" / "study.db")) as connection:
        connection.execute("UPDATE slides SET root = 'study', path = '../x' WHERE name = 'b'")
        connection.execute("UPDATE records SET cells = 'junk' WHERE patient_id = 1")
        connection.commit()
    damage_roots(tmp_path / "old")
    rescued = rescue_study(tmp_path / "old", tmp_path / "new")
    (left,) = rescued.study.manifest().patients
    assert (left.name, left.label, left.record) == ("P1", "tumor", record())
    assert any(said.startswith("patient P2, who cannot be read") for said in rescued.lost)
    is_whole(rescued)


def test_a_rescue_that_fails_leaves_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    small_study(tmp_path / "old").close()
    damage_roots(tmp_path / "old")
    monkeypatch.setattr(rescue, "append", full)
    with pytest.raises(OSError, match="disk full"):
        rescue_study(tmp_path / "old", tmp_path / "new")
    assert [path for path in (tmp_path / "new").iterdir() if path.is_file()] == []


def test_the_command_line_rescues(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small_study(tmp_path / "old").close()
    damage_roots(tmp_path / "old")
    assert main(["study", "show", str(tmp_path / "old")]) == 0
    assert "study rescue" in capfd.readouterr().err
    assert main(["study", "rescue", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    assert "root slides is lost" in capfd.readouterr().out
    assert main(["study", "rescue", str(tmp_path / "new"), str(tmp_path / "b")]) == 2


UNREACHABLE = """
import os, sys
from studies import SCHEMA
from napari_wsimil.study.rescue import rescue_study
from napari_wsimil.study.study import create_study, open_study
with create_study(sys.argv[3], SCHEMA):  # all modules are loaded from now on
    pass
os.setgid(65534); os.setuid(65534)
rescued = rescue_study(sys.argv[1], sys.argv[2])
with rescued.study as study:
    known = study.records.read("P2")
    print(known.record["ldh"], len(study.manifest().patients), study.ledger.check() or "holds")
    print(rescued.lost, study.read_only or "may be written")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user to have no right to write")
def test_a_study_that_cannot_be_reached_is_copied_with_what_its_journal_has(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"wsimil-rescue-{os.getpid()}"
    try:
        with small_study(folder / "open") as study:
            held = study.records.read("P2")
            study.records.correct("P2", {"ldh": 200.0}, "lab", version=held.version)
            shutil.copytree(folder / "open", folder / "old")  # as it lies there after a kill
            (folder / "old" / "study.db-shm").unlink()
        (folder / "new").mkdir(mode=0o777)
        (folder / "new").chmod(0o777)
        child = beside(UNREACHABLE, folder / "old", folder / "new", tmp_path / "x")
        said = child.stdout.read().splitlines()
    finally:
        shutil.rmtree(folder)
    assert said == ["200.0 2 holds", "() may be written"]
