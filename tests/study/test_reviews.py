"""Reviews: a person's verdict on an answer is kept, added to and never overwritten."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from studies import as_version_1, of_a_later_version, record_history, small_study

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import StudyError, open_study
from napari_wsimil.study.predictions import Answer, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps keys in a folder of the test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line; gives exit code, what JSON it printed, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed study of two patients, of the first of whom a model has said something."""
    with small_study(tmp_path / "study") as study:
        study.predictions.keep([_answer("P1")])
    return tmp_path / "study"


def _answer(patient: str, slide: str = "") -> Answer:
    return Answer(patient, slide, "ab12", "fe34", "cd56", {"normal": 0.25, "tumor": 0.75})


def test_a_review_is_added_with_its_entry_in_the_ledger(folder: Path) -> None:
    with open_study(folder, who="bea") as study:
        first = study.reviews.add(_answer("P1"), Verdict.DISAGREE, " an artifact ")
        second = study.reviews.add(_answer("P1", "a"), Verdict.UNSURE)
        assert study.reviews.read("P1") == (first, second)
        assert study.reviews.read("P2") == ()
        assert study.reviews.latest() == {"P1": second}
        assert (first.who, first.model, first.said) == ("bea", "ab12", "tumor 75.0%")
        assert (first.words, second.words) == ("disagree: an artifact", "unsure")
        entries = study.ledger.entries("P1", newest=2)
        assert study.ledger.check() == ""
    assert {entry.act for entry in entries} == {Act.REVIEWED}
    assert [entry.field for entry in entries] == ["review", "review of a"]
    told = entries[0].told()
    assert (told["who"], told["old"], told["new"]) == ("bea", "tumor 75.0%", "disagree")
    assert (told["why"], told["model"], told["features"]) == ("an artifact", "ab12", "fe34")
    assert told["record"] == "cd56"


def test_a_review_is_no_change_of_the_record(folder: Path) -> None:
    with open_study(folder) as study:
        before = study.records.read("P1")
        study.reviews.add(_answer("P1"), Verdict.AGREE)
        assert study.records.read("P1") == before
        assert len(record_history(study, "P1")) == 1


def test_nothing_overwrites_a_review_not_even_by_hand(folder: Path) -> None:
    with open_study(folder) as study:
        study.reviews.add(_answer("P1"), Verdict.AGREE)
    with (
        closing(sqlite3.connect(folder / "study.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match="reviews are only added to"),
    ):
        connection.execute("UPDATE reviews SET verdict = 'disagree'")


def test_a_review_without_its_patient_or_in_a_study_only_read_is_refused(folder: Path) -> None:
    with open_study(folder) as study:
        entries = study.ledger.entries()
        with pytest.raises(RecordError, match="no patient 'P9'"):
            study.reviews.add(_answer("P9"), Verdict.AGREE)
        assert study.ledger.entries() == entries
    of_a_later_version(folder)
    with open_study(folder) as study, pytest.raises(StudyError, match="newer"):
        study.reviews.add(_answer("P1"), Verdict.AGREE)


def test_forgetting_takes_reviews_and_their_words_with_it(folder: Path) -> None:
    with open_study(folder) as study:
        study.reviews.add(_answer("P1"), Verdict.DISAGREE, "SECRET words")
        study.reviews.add(_answer("P2"), Verdict.AGREE)
        study.forget("P1", "consent")
        assert [review.patient for review in study.reviews.read()] == ["P2"]
        assert study.ledger.check() == ""
    assert b"SECRET" not in b"".join(f.read_bytes() for f in folder.glob("study.db*"))


def test_a_study_of_version_1_takes_reviews_once_it_is_opened(folder: Path) -> None:
    as_version_1(folder)
    with open_study(folder) as study:
        assert study.reviews.latest() == {}
        study.reviews.add(_answer("P1"), Verdict.AGREE)
    test_nothing_overwrites_a_review_not_even_by_hand(folder)


def test_of_a_damaged_study_answers_and_reviews_are_kept_that_can_be_read(folder: Path) -> None:
    with open_study(folder) as study:
        study.reviews.add(_answer("P1"), Verdict.DISAGREE, "an artifact")
    file = folder / "study.db"
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'ledger'"
        (page,) = connection.execute(query).fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    file.write_bytes(content)
    with open_study(folder) as study:
        assert "damaged" in study.read_only
        assert study.predictions.latest()["P1"].words == "tumor 75.0%"
        assert study.reviews.latest()["P1"].words == "disagree: an artifact"


def test_the_last_answer_is_reviewed_on_the_command_line(command: Command, folder: Path) -> None:
    review = ("study", "review", folder, "P1", "--verdict")
    code, told, _ = command(*review, "disagree", "--why", "an artifact")
    assert code == 0
    assert command(*review, "agree")[0] == 0
    shown = command("study", "show", folder, "P1")[1]["reviews"]
    assert shown[0] == told
    assert (told["said"], told["why"], told["model"]) == ("tumor 75.0%", "an artifact", "ab12")
    assert [one["verdict"] for one in shown] == ["disagree", "agree"]
    assert command("study", "show", folder)[1]["reviews"] == 2
    entries = command("study", "ledger", folder, "P1", "--newest", 1)[1]["entries"]
    assert (entries[0]["act"], entries[0]["new"]) == ("reviewed", "agree")


@pytest.mark.parametrize(
    ("patient", "verdict", "said"),
    [
        ("P1", "maybe", "--verdict 'maybe' is none of agree, disagree, unsure"),
        ("P2", "agree", "no prediction for P2 yet"),
        ("P9", "agree", "has no patient 'P9'"),
    ],
)
def test_what_cannot_be_reviewed_is_said_in_a_line(
    command: Command, folder: Path, patient: str, verdict: str, said: str
) -> None:
    code, _, err = command("study", "review", folder, patient, "--verdict", verdict)
    assert code == 2
    assert said in err
    with open_study(folder) as study:
        assert study.reviews.read() == ()


def test_a_copy_to_share_has_no_reviews_and_says_so(command: Command, tmp_path: Path) -> None:
    with small_study(tmp_path / "study") as study:
        study.forget("P1", "its features are not there")
        study.reviews.add(_answer("P2"), Verdict.AGREE)
    removed = command("study", "share", tmp_path / "study", tmp_path / "copy")[1]["removed"]
    assert "1 reviews: what people hold of that" in removed
    with open_study(tmp_path / "copy") as copy:
        assert copy.reviews.read() == ()
