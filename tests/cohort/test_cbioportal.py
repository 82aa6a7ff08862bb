"""Studies of cBioPortal as they are given out, packed: read in memory, hostile ones refused."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort import cbioportal
from napari_wsimil.cohort.table_formats import open_table

if TYPE_CHECKING:
    from pathlib import Path

PATIENTS = (
    "#Patient\tAge\n#Identifier\tIn years\n#STRING\tNUMBER\n#1\t1\n"
    "PATIENT_ID\tAGE\nP-1\t54\nP-2\t61\n"
)
SAMPLES = "#P\tS\n#P\tS\n#STRING\tSTRING\n#1\t1\nPATIENT_ID\tSAMPLE_ID\nP-1\tS-1\n"
STUDY = {
    "brca/meta_study.txt": "cancer_study_identifier: brca",
    "brca/data_clinical_sample.txt": SAMPLES,
    "brca/data_clinical_patient.txt": PATIENTS,
    "brca/data_mutations.txt": "x" * 5000,
    "__MACOSX/brca/._data_clinical_patient.txt": "\0",
}
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def packed(path: Path, files: dict[str, str] = STUDY, link: str = "") -> Path:
    """Write an archive of files, with a symbolic link of this name if there is one."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
            if link:
                member = zipfile.ZipInfo(link)
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(member, "/etc/passwd")
        return path
    kind = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
    with tarfile.open(path, kind[path.suffix]) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_patients_of_a_packed_study_are_read(tmp_path: Path, ending: str) -> None:
    path = packed(tmp_path / f"brca{ending}")
    table = open_table(path)
    assert table.columns == ("PATIENT_ID", "AGE")
    assert [tuple(row.cells.values()) for row in table.rows] == [("P-1", "54"), ("P-2", "61")]
    assert table.headings["AGE"].description == "In years"
    assert table.sheets == ("data_clinical_patient.txt", "data_clinical_sample.txt")
    assert table.notes[0] == ("the first of 2 tables in the archive, 'data_clinical_patient.txt'")
    other = open_table(path, "data_clinical_sample.txt")
    assert other.columns == ("PATIENT_ID", "SAMPLE_ID")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_tables_of_the_same_name_are_told_by_their_folders(tmp_path: Path) -> None:
    files = {f"{name}/data_clinical_patient.txt": PATIENTS for name in "ab"}
    table = open_table(packed(tmp_path / "two.zip", files))
    assert table.sheets == ("a/data_clinical_patient.txt", "b/data_clinical_patient.txt")


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    "name", ["../escape.txt", "brca/../../escape.txt", "/etc/cron.d/x", "..\\x.txt", "C:\\x.txt"]
)
def test_an_archive_with_a_member_that_climbs_out_is_refused(
    tmp_path: Path, ending: str, name: str
) -> None:
    path = packed(tmp_path / f"bad{ending}", STUDY | {name: "x"})
    with pytest.raises(RecordError, match=r"bad\.\S+ has a member .*, which climbs out"):
        open_table(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize("link", ["brca/data_clinical_patient.txt", "brca/other"])
def test_an_archive_with_a_link_is_refused(tmp_path: Path, ending: str, link: str) -> None:
    path = packed(tmp_path / f"bad{ending}", {"brca/data_clinical_sample.txt": SAMPLES}, link)
    with pytest.raises(RecordError, match="a link or device"):
        open_table(path)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    ("bound", "value"), [("LARGEST", 5000), ("LARGEST_TABLE", 40), ("MOST", 4)]
)
def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, bound: str, value: int
) -> None:
    path = packed(tmp_path / f"bomb{ending}")
    monkeypatch.setattr(cbioportal, bound, value)
    with pytest.raises(RecordError, match="unpacks to more than any study has"):
        open_table(path)


def test_a_bomb_is_refused_by_what_it_says_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar"
    header = tarfile.TarInfo("brca/data_clinical_patient.txt")
    header.size = 2**32
    path.write_bytes(header.tobuf() + bytes(1024))
    with pytest.raises(RecordError, match="unpacks to more"):
        open_table(path)
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, 2**31
    path.write_bytes(extended.tobuf() + bytes(1024))
    with pytest.raises(RecordError, match="a header of more than any name"):
        open_table(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cut", [0, 10, 0.5])
def test_what_is_no_archive_or_is_cut_is_refused_in_words(
    tmp_path: Path, ending: str, cut: float
) -> None:
    files = STUDY | {"brca/z.txt": "".join(map(str, range(9000)))}
    path = packed(tmp_path / f"brca{ending}", files)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content)) if cut < 1 else int(cut)])
    with pytest.raises(RecordError, match=rf"brca{ending} is no archive, or is damaged"):
        open_table(path)


def test_damage_within_a_table_is_refused_in_words(tmp_path: Path) -> None:
    path = packed(tmp_path / "brca.zip", {"data_clinical_patient.txt": PATIENTS})
    content = bytearray(path.read_bytes())
    start = 30 + len("data_clinical_patient.txt")
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(RecordError, match="is damaged"):
        open_table(path)


def test_an_encrypted_archive_says_to_unpack_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "brca.zip", {"data_clinical_patient.txt": PATIENTS})
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(header) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match="is encrypted: unpack it first"):
        open_table(path)


def test_an_archive_without_a_clinical_table_says_to_unpack_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "slides.zip", {"patients.csv": "patient_id\np1\n"})
    with pytest.raises(RecordError, match="no clinical table of cBioPortal .*: unpack it"):
        open_table(path)


def test_a_packed_study_is_imported_on_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, study = packed(tmp_path / "brca.tar.gz"), str(tmp_path / "s")
    assert main(["study", "create", study]) == 0
    assert main(["study", "import", study, "--table", str(path), "--keep-names"]) == 0
    assert main(["study", "show", study, "P-2"]) == 0
    assert "61" in capfd.readouterr().out
    wrong = ["study", "import", study, "--table", str(path), "--sheet", "x"]
    assert main(wrong) == 2
    assert "has no sheet 'x'; it has 'data_clinical_patient.txt'" in capfd.readouterr().err
