"""The verbs for tables on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_wsimil.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def study(tmp_path: Path) -> str:
    folder = str(tmp_path / "study")
    assert main(["study", "create", folder]) == 0
    return folder


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "t.csv"
    path.write_text("patient_id,OS_STATUS,OS_MONTHS,ldh\nA,1:DECEASED,3,NA\nB,0:LIVING,9,5\n")
    return str(path)


ANSWERS = ("--answer", "NA=unknown", "--answer", "OS_STATUS: event=1:DECEASED")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    study: str, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "import", study, "--table", table, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "2 open questions:" in shown
    assert "1:DECEASED: 1, 0:LIVING: 1" in shown
    assert main(["study", "show", study, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["patients"] == 0


def test_open_questions_are_refused_with_their_keys(
    study: str, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "import", study, "--table", table, "--keep-names"]) == 2
    assert "answer 'NA', 'OS_STATUS: event' with --answer" in capsys.readouterr().err


def test_an_import_gives_pseudonyms_and_keeps_the_key_outside(
    study: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.json"
    arguments = ["study", "import", study, "--table", table, "--key", str(key), *ANSWERS, "--json"]
    capsys.readouterr()
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 2
    assert json.loads(key.read_text())["patients"] == {"A": "P0001", "B": "P0002"}
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["same"] == 2


def test_an_export_comes_back(
    study: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "import", study, "--table", table, "--keep-names", *ANSWERS]) == 0
    out = str(tmp_path / "out.xlsx")
    assert main(["study", "export", study, out]) == 0
    capsys.readouterr()
    code = main(["study", "import", study, "--table", out, "--keep-names", "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert json.loads(shown.out)["same"] == 2


def test_the_state_of_an_event_that_an_export_writes_is_shown_and_can_be_changed(
    study: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "import", study, "--table", table, "--keep-names", *ANSWERS]) == 0
    out = str(tmp_path / "out.csv")
    assert main(["study", "export", study, out]) == 0
    capsys.readouterr()
    arguments = ["study", "import", study, "--table", out, "--keep-names", "--dry-run"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "OS_STATUS: event=1" in shown
    assert "2 patients with an outcome: 1 event, 1 censored" in shown
    assert main([*arguments, "--answer", "OS_STATUS: event=0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 1
