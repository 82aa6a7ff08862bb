"""Outcomes of slides: the rows of one slide state its outcome, or why it has none."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from table_plans import plan_for

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import NO_FIELDS
from napari_wsimil.cohort.endpoint import Endpoint
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.cohort.table_import.plan import summary_lines
from napari_wsimil.cohort.table_import.rows import FIRST_ROW, NO_COLUMNS
from napari_wsimil.gui.text import study_facts
from napari_wsimil.progress import finish
from napari_wsimil.study.create_study import DATABASE, Study, Unit, create_study, open_study
from napari_wsimil.study.import_table import write_plan
from napari_wsimil.training.dataset import open_cohort
from napari_wsimil.training.tasks import Task, check_task, lacking_outcome
from napari_wsimil.workflows.share import share

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER = "case_id,slide_id,PFS_STATUS,PFS_MONTHS"
#: Two statuses of s1, a negative time of s3, no status of s4, whose patient has an outcome.
ROWS = (
    "p,s1,1,5",
    "p,s1,0,5",
    "p,s2,0,6",
    "p,s3,1,-2",
    "p,s4,,",
    "p,,0,9",
    "q,s5,1,7",
)
ANSWERS = {"PFS_STATUS: event": "1", "conflicts": FIRST_ROW}
REASONS = {"statuses disagree": 1, "negative time": 1}


def _table(folder: Path, *rows: str) -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    return path


def _import(study: Study, path: Path, answers: Mapping[str, str]) -> Any:
    return finish(write_plan(study, plan_for(study, path, answers), "a table"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as made:
        _import(made, _table(tmp_path, *ROWS), ANSWERS)
    return tmp_path / "s"


def _outcomes(study: Path) -> dict[str, tuple[float | None, bool | None, str]]:
    cases = open_cohort(study).patients
    return {case.name: (case.time, case.event, case.no_outcome) for case in cases}


def _fact(study: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(study / DATABASE)) as connection:
        ((text,),) = connection.execute("SELECT value FROM facts WHERE name = 'outcome'")
    return dict(json.loads(text))


def test_rows_of_one_slide_state_its_outcome_or_why_it_has_none(study: Path) -> None:
    assert _outcomes(study) == {
        "s1": (None, None, "statuses disagree"),
        "s2": (6.0, False, ""),
        "s3": (None, None, "negative time"),
        "s4": (9.0, False, ""),
        "s5": (7.0, True, ""),
    }


def test_columns_that_are_left_out_as_fields_still_state_the_outcome(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        _import(study, _table(tmp_path, *ROWS), ANSWERS | {"conflicts": NO_COLUMNS})
    outcomes = _outcomes(tmp_path / "s")
    assert outcomes["s1"] == (None, None, "statuses disagree")
    assert outcomes["s2"] == (6.0, False, "")


def test_plan_and_import_and_study_count_slides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = _table(tmp_path, *ROWS), tmp_path / "s"
    with create_study(folder, NO_FIELDS, unit=Unit.SLIDE) as study:
        lines = tuple(summary_lines(plan_for(study, path, ANSWERS)))
    for line in (
        "3 slides with an outcome: 1 event, 2 censored",
        "2 slides without an outcome (statuses disagree: 1, negative time: 1)",
        "beside the slides, 1 patient with an outcome: 0 events, 1 censored",
        "without an outcome, statuses disagree (1): s1 (row 2)",
        "without an outcome, negative time (1): s3 (row 5)",
    ):
        assert line in lines
    answers = [word for key, answer in ANSWERS.items() for word in ("--answer", f"{key}={answer}")]
    arguments = ["study", "import", str(folder), "--table", str(path), "--keep-names", *answers]
    for words in (arguments, ["study", "show", str(folder)]):
        assert main([*words, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["outcomes_per"], facts["with_outcome"], facts["events"]) == ("slide", 3, 1)
        assert facts["without_outcome"] == REASONS
        assert facts["outcomes_of_patients"]["with_outcome"] == 1
    assert main(["study", "show", str(folder), "p", "--json"]) == 0
    slides = json.loads(capsys.readouterr().out)["slides"]
    assert slides["s3"]["no_outcome"] == "negative time"
    with open_study(folder) as study:
        assert "3 slides with an outcome: 1 event" in study_facts(study, study.manifest())


def test_patients_beside_slides_have_reasons_too(tmp_path: Path) -> None:
    path = _table(tmp_path, "p,s1,0,5", "p,,1,-3", "q,s2,,")
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        lines = tuple(summary_lines(plan_for(study, path, {"PFS_STATUS: event": "1"})))
        _import(study, path, {"PFS_STATUS: event": "1"})
    assert "without an outcome, negative time (1): patient p (row 3)" in lines
    assert _outcomes(tmp_path / "s")["s2"] == (None, None, "status not stated")


def test_a_slide_without_a_status_gets_the_outcome_of_its_patient_later(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        _import(
            study, _table(tmp_path, "p,s1,0,5", "q,s2,,", "r,s3,1,2"), {"PFS_STATUS: event": "1"}
        )
        study.add([Patient("q", (), time=8.0, event=True)], "q", endpoint=study.endpoint)
    assert _outcomes(tmp_path / "s")["s2"] == (8.0, True, "")


def test_training_counts_slides_that_are_left_out(study: Path) -> None:
    cohort = open_cohort(study)
    words = lacking_outcome(Task.COX, cohort)
    assert words == "2 of 5 slides are left out (statuses disagree: 1, negative time: 1)"
    check_task(Task.SURVIVAL, cohort, "months")
    with pytest.raises(ValueError, match="the times are PFS in months, not in 'days'"):
        check_task(Task.SURVIVAL, cohort, "days")


def test_a_reason_goes_when_the_slide_has_an_outcome_or_is_forgotten(
    study: Path, tmp_path: Path
) -> None:
    assert set(_fact(study)["without_of_slides"]) == {"s1", "s3", "s4"}
    with open_study(study) as opened:
        _import(opened, _table(tmp_path, "p,s1,1,5", "q,s6,0,8"), {"PFS_STATUS: event": "1"})
    assert _outcomes(study)["s1"] == (5.0, True, "")
    assert "s1" not in _fact(study)["without_of_slides"]
    with open_study(study) as opened:
        opened.forget("p", "asked for")
        assert opened.endpoint == Endpoint("PFS", "months")
    fact = {"kind": "PFS", "unit": "months", "origin": "", "without": {}, "without_of_slides": {}}
    assert _fact(study) == fact


def test_a_patient_and_a_slide_of_one_name_have_their_own_reasons(tmp_path: Path) -> None:
    path = _table(tmp_path, "a,a,1,-1", "a,,0,3", "b,b,0,4")
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        _import(study, path, {"PFS_STATUS: event": "1"})
        assert (study.patient("a").time, study.patient("a").no_outcome) == (3.0, "")
    assert _outcomes(tmp_path / "s")["a"] == (None, None, "negative time")


def test_a_shared_copy_has_the_reasons_of_slides_under_new_names(
    study: Path, tmp_path: Path
) -> None:
    with open_study(study) as opened:
        shared = finish(share(opened, tmp_path / "copy", tmp_path / "key.json"))
    key = json.loads((tmp_path / "key.json").read_text())["slides"]
    assert _outcomes(shared.folder) == {key[name]: one for name, one in _outcomes(study).items()}
    assert set(_fact(shared.folder)["without_of_slides"]) == {key[n] for n in ("s1", "s3", "s4")}


def test_times_of_slides_are_of_one_endpoint(study: Path) -> None:
    late = Patient("r", (SlideRow("s9", time=3.0, event=False),))
    with open_study(study) as opened:
        for other in (Endpoint("OS", "months"), Endpoint("PFS", "days"), None):
            with pytest.raises(RecordError, match="the study's times are PFS in months"):
                opened.add([late], "more", endpoint=other)
        assert opened.add([late], "more", endpoint=opened.endpoint).new == ("r",)


def test_the_same_times_under_another_endpoint_are_refused(tmp_path: Path) -> None:
    pair = [Patient("p", (), time=3.0, event=True), Patient("q", (), time=4.0, event=False)]
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        study.add(pair, "first", endpoint=Endpoint("OS", "days"))
        with pytest.raises(RecordError, match="are OS in days, those of the table PFS in days"):
            study.add(pair, "again", endpoint=Endpoint("PFS", "days"))
        assert len(study.add(pair, "again").same) == 2
        study.add(pair, "again", endpoint=Endpoint("OS", "days", "surgery"))
        assert study.endpoint == Endpoint("OS", "days", "surgery")
