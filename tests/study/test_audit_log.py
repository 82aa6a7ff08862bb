"""The ledger: only added to, chained, and telling when it was tampered with."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from studies import small_study

from napari_wsimil.study.audit_entry import append, drafted
from napari_wsimil.study.audit_log import Act, Effect
from napari_wsimil.study.create_study import open_study
from napari_wsimil.study.database import open_database
from napari_wsimil.study.orm import StoredEntry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed study whose ledger has six entries."""
    with small_study(tmp_path) as study:
        effect = Effect({"tumor": 0.25}, distance=0.5, overlap=0.75)
        changes = {"ldh": ("180", "210"), "fever": ("", "yes")}
        study.ledger.note(Act.WHAT_IF, patient="P2", changes=changes, model="m", effect=effect)
        study.ledger.note(Act.EXPORTED, file="f" * 64, destination="map.png", identifying=False)
    return tmp_path


def tamper(folder: Path, *statements: str) -> str:
    """Return what the ledger says of itself after its triggers were taken out and it changed."""
    connection = sqlite3.connect(folder / "study.db")
    for statement in ("DROP TRIGGER ledger_stays", "DROP TRIGGER ledger_holds", *statements):
        connection.execute(statement)
    connection.commit()
    connection.close()
    with open_study(folder) as study:
        return study.ledger.check()


def test_entries_say_who_when_what_and_why(folder: Path) -> None:
    with open_study(folder) as study:
        first, *_, fever, exported = study.ledger.entries()
        assert [entry.number for entry in study.ledger.entries()] == [1, 2, 3, 4, 5, 6]
        assert study.ledger.entries(newest=2) == (fever, exported)
        assert study.ledger.entries("P2", newest=1) == (fever,)
    assert (first.act, first.why, first.who) == (Act.SCHEMA, "study created", "ada")
    assert (fever.act, fever.field, fever.old, fever.new) == (Act.WHAT_IF, "fever", "", "yes")
    assert fever.effect == Effect({"tumor": 0.25}, 0.5, 0.75)
    assert (fever.step, fever.model) == (4, "m")
    assert (exported.destination, exported.identifying) == ("map.png", False)
    assert abs((datetime.now(UTC) - exported.when).total_seconds()) < 60


def test_a_chain_holds_and_is_what_it_is_said_to_be(folder: Path) -> None:
    with open_study(folder) as study:
        assert study.ledger.check() == ""
    connection = sqlite3.connect(folder / "study.db")
    previous = ""
    for number, content, salt, digest, before, link in connection.execute(
        "SELECT number, content, salt, digest, previous, hash FROM ledger ORDER BY number"
    ):
        assert digest == hashlib.sha256(f"{salt}\0{content}".encode()).hexdigest()
        assert before == previous
        previous = hashlib.sha256(f"{number}\0{before}\0{digest}".encode()).hexdigest()
        assert link == previous
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger WHERE number = 6",
        "UPDATE ledger SET content = '{}' WHERE number = 3",
        "UPDATE ledger SET content = NULL, salt = NULL WHERE number = 3",
        "UPDATE ledger SET content = NULL, salt = NULL, patient = '', hash = 'x' WHERE number = 3",
    ],
)
def test_the_database_refuses_to_change_it(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "study.db")
    with pytest.raises(sqlite3.IntegrityError, match="only added to"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE ledger SET content = replace(content, '210', '211') WHERE number = 4",
            "entry 4 of the audit log was changed",
        ),
        (
            "UPDATE ledger SET patient = 'P1' WHERE number = 4",
            "entry 4 of the audit log was changed",
        ),
        (
            "UPDATE ledger SET content = '{' WHERE number = 4",
            "entry 4 of the audit log was changed",
        ),
        ("DELETE FROM ledger WHERE number = 3", "entry 3 of the audit log is missing"),
        (
            "DELETE FROM ledger WHERE number = 6",
            "entry 6 of the audit log is missing: 6 were written",
        ),
        (
            "UPDATE ledger SET content = NULL, salt = NULL, patient = '' WHERE number = 2",
            "entry 2 of the audit log was erased without an entry that records it",
        ),
        ("UPDATE ledger SET hash = 'x' WHERE number = 5", "entry 5 .* does not match its hash"),
        ("UPDATE ledger SET previous = '' WHERE number = 5", "entry 5 .* does not follow"),
    ],
)
def test_a_broken_chain_names_the_first_broken_entry(
    folder: Path, statement: str, said: str
) -> None:
    import re

    assert re.search(said, tamper(folder, statement))


def test_an_entry_put_in_between_is_noticed(folder: Path) -> None:
    shift = "UPDATE ledger SET number = -number WHERE number >= 4"
    back = "UPDATE ledger SET number = 1 - number WHERE number < 0"
    copy = (
        "INSERT INTO ledger SELECT 4, patient, content, salt, digest, previous, hash "
        "FROM ledger WHERE number = 3"
    )
    assert "entry 4" in tamper(folder, shift, back, copy)


def test_a_rescue_of_an_earlier_version_declares_lost_entries(folder: Path) -> None:
    gap = "DELETE FROM ledger WHERE number IN (3, 4)"
    assert "entry 3 of the audit log is missing" in tamper(folder, gap)
    database = open_database(folder / "study.db")
    with database.writing() as session:
        hashes = session.scalars(select(StoredEntry.hash).order_by(StoredEntry.number))
        pin = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
        append(session, [drafted("ada", Act.RESCUED, new=pin, erased=(3, 4))])
    database.close()
    with open_study(folder) as study:
        assert study.ledger.check() == ""
    connection = sqlite3.connect(folder / "study.db")
    connection.execute("DELETE FROM ledger WHERE number = 5")
    connection.commit()
    connection.close()
    with open_study(folder) as study:
        assert study.ledger.check() == "entry 5 of the audit log is missing"


def test_a_damaged_entry_does_not_hide_the_others(folder: Path) -> None:
    tamper(folder, "UPDATE ledger SET content = '{' WHERE number = 4")
    with open_study(folder) as study:
        assert [entry.number for entry in study.ledger.entries()] == [1, 2, 3, 5, 6]


@pytest.mark.parametrize("action", ["downloaded", "submitted", "label shown"])
def test_retired_actions_of_older_studies_are_read(tmp_path: Path, action: str) -> None:
    with small_study(tmp_path) as study:
        study.ledger.note(Act(action), patient="P1", destination="far away", identifying=True)
    with open_study(tmp_path) as study:
        entry = study.ledger.entries()[-1]
        assert study.ledger.check() == ""
        assert (entry.act.value, entry.told()["act"]) == (action, action)
        assert study.forget("P1", why="asked to").departed == ("far away",)


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="'renamed' is not a valid Act"):
        Act("renamed")
    assert "downloaded" not in list(Act)
