"""Outcomes from tables: which columns they are in, and which patients have none, and why."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import torch
from cohorts import make_bag
from table_plans import add_answers, plan_for, plan_import, replace_answers

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import NO_FIELDS, named_schema
from napari_wsimil.cohort.endpoint import Endpoint
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.cohort.table_import.plan import summary_lines
from napari_wsimil.cohort.table_import.questions import IN_NONE, OTHER_COLUMNS
from napari_wsimil.cohort.table_import.rows import FIRST_ROW, NO_COLUMNS
from napari_wsimil.features.store import save_bag
from napari_wsimil.study.create_study import DATABASE, StudyError, create_study, open_study
from napari_wsimil.study.import_table import write_plan
from napari_wsimil.training.tasks import Task, check_task, lacking_outcome
from napari_wsimil.workflows.share import share

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.table_import.plan import ImportPlan
    from napari_wsimil.study.add_patients import Added
    from napari_wsimil.study.create_study import Study

#: Forty patients: the first of every three died, after 100 days and more, the others did not.
DIED = [number % 3 == 0 for number in range(40)]
DAYS = [(100 if died else 300) + number for number, died in enumerate(DIED)]


def _table(folder: Path, header: str, rows: list[str]) -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def _cohort(folder: Path, header: str, row: Callable[[bool, int], str]) -> Path:
    pairs = enumerate(zip(DIED, DAYS, strict=True))
    return _table(folder, header, [f"TCGA-ZZ-{n:04d},{row(*pair)}" for n, pair in pairs])


def _plan(path: Path, answers: dict[str, str] | None = None, **known: ClinicalSchema) -> ImportPlan:
    return plan_import(open_table(path), answers, schema=known.get("schema"))


def _report(plan: ImportPlan) -> str:
    return "\n".join(summary_lines(plan))


def _import(study: Study, path: Path, answers: dict[str, str]) -> Added:
    work = write_plan(study, plan_for(study, path, answers), "a table")
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def _two(died: bool, days: int) -> str:
    """A status, the time to death, and the time to the last contact."""
    return f"Dead,{days}," if died else f"Alive,,{days}"


SPELLED = {
    "TCGA legacy": (
        "bcr_patient_barcode,vital_status,days_to_death,days_to_last_followup",
        _two,
        {"vital_status: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "TCGA Biotab": (
        "bcr_patient_barcode,vital_status,death_days_to,last_contact_days_to",
        _two,
        {"vital_status: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "last contact": (
        "patient_id,vital_status,days_to_death,days_to_last_contact",
        _two,
        {"vital_status: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "last known alive": (
        "patient_id,vital_status,days_to_death,days_to_last_known_alive",
        _two,
        {"vital_status: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "GDC 2024": (
        "cases.submitter_id,demographic.vital_status,demographic.days_to_death,"
        "diagnoses.days_to_last_follow_up",
        _two,
        {"demographic.vital_status: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "GDC 2024, follow-ups": (
        "cases.submitter_id,demographic.vital_status,demographic.days_to_death,"
        "follow_ups.days_to_follow_up",
        _two,
        {"demographic.vital_status: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "Firehose": (
        "patient.bcr_patient_barcode,patient.vital_status,patient.days_to_death,"
        "patient.days_to_last_followup",
        lambda died, days: _two(died, days).lower(),
        {"patient.vital_status: event": "dead"},
        Endpoint("OS", "days"),
    ),
    "Xena GDC": (
        "_PATIENT,vital_status.demographic,days_to_death.demographic,"
        "days_to_last_follow_up.diagnoses",
        _two,
        {"vital_status.demographic: event": "Dead"},
        Endpoint("OS", "days"),
    ),
    "Xena": (
        "_PATIENT,OS,OS.time",
        lambda died, days: f"{int(died)},{days}",
        {"OS: event": "1"},
        Endpoint("OS"),
    ),
    "Xena legacy": (
        "_PATIENT,_OS_IND,_OS",
        lambda died, days: f"{int(died)},{days}",
        {"_OS_IND: event": "1", "outcome: unit": "days"},
        Endpoint("OS", "days"),
    ),
    "TCGA-CDR": (
        "bcr_patient_barcode,PFI,PFI.time",
        lambda died, days: f"{int(died)},{days}",
        {"PFI: event": "1", "outcome: unit": "days"},
        Endpoint("PFI", "days"),
    ),
    "R, futime and fustat": (
        "patient_id,futime,fustat",
        lambda died, days: f"{days},{int(died)}",
        {"fustat: event": "1", "outcome: unit": "days", "outcome: name": "OS"},
        Endpoint("OS", "days"),
    ),
    "R, 1 and 2": (
        "patient_id,time,status",
        lambda died, days: f"{days},{int(died) + 1}",
        {"status: event": "2"},
        Endpoint(),
    ),
    "lifelines": (
        "patient_id,duration,event",
        lambda died, days: f"{days},{int(died)}",
        {"event: event": "1"},
        Endpoint(),
    ),
    "T and F": (
        "patient_id,time,event",
        lambda died, days: f"{days},{'T' if died else 'F'}",
        {"event: event": "T"},
        Endpoint(),
    ),
    "MCAT": (
        "case_id,survival_months,censorship",
        lambda died, days: f"{days},{int(not died)}",
        {"censorship: event": "0"},
        Endpoint("", "months"),
    ),
    "SurvPath": (
        "case_id,survival_months_dss,censorship_dss",
        lambda died, days: f"{days},{float(not died)}",
        {"censorship_dss: event": "0.0"},
        Endpoint("DSS", "months"),
    ),
    "months and event": (
        "case_id,survival_months,event",
        lambda died, days: f"{days},{int(died)}",
        {"event: event": "1"},
        Endpoint("", "months"),
    ),
    "cBioPortal": (
        "PATIENT_ID,OS_STATUS,OS_MONTHS",
        lambda died, days: f"{'1:DECEASED' if died else '0:LIVING'},{days}",
        {"OS_STATUS: event": "1:DECEASED"},
        Endpoint("OS", "months"),
    ),
}


@pytest.mark.parametrize("source", SPELLED)
def test_the_outcome_is_recognized_in_every_spelling_of_the_field(
    tmp_path: Path, source: str
) -> None:
    header, row, answers, endpoint = SPELLED[source]
    path = _cohort(tmp_path, header, row)
    (event,) = (key for key in answers if key.endswith(": event"))
    (question,) = _plan(path).open
    assert question.key == event
    assert sum(question.counts.values()) == 40
    plan = _plan(path, answers)
    assert plan.open == ()
    assert [(p.time, p.event) for p in plan.patients()] == list(zip(DAYS, DIED, strict=True))
    assert plan.outcome.endpoint == endpoint
    assert "40 patients with an outcome: 14 events, 26 censored" in _report(plan)
    assert all(field.outcome for field in plan.schema.fields)


def test_a_column_of_censoring_says_that_its_contrary_is_the_event(tmp_path: Path) -> None:
    header, row, *_ = SPELLED["MCAT"]
    (question,) = _plan(_cohort(tmp_path, header, row)).open
    assert "event = 1 - censorship" in question.text
    assert question.counts == {"0": 14, "1": 26}


@pytest.mark.parametrize(
    ("header", "censored", "event", "yes"),
    [
        ("censorship", "1", "0", "censored"),
        ("censored", "T", "F", "censored"),
        ("censoring", "censored", "uncensored", "censored"),
        ("disease_free_status", "yes", "no", "censored"),
        ("PFS_STATUS", "1", "2", "event"),
        ("PFS_STATUS", "0:CENSORED", "1:PROGRESSION", "event"),
    ],
)
def test_a_record_states_the_flag_of_its_column_though_that_is_the_contrary_of_the_event(
    tmp_path: Path, header: str, censored: str, event: str, yes: str
) -> None:
    path = _table(tmp_path, f"id,months,{header}", [f"a,5,{censored}", f"b,6,{event}"])
    answers = {"patient": "id", "outcome: time": "months", "outcome: event": header}
    plan = _plan(path, answers | {f"{header}: event": event})
    patients = add_answers(plan, {q.key: q.options[0] for q in plan.open}).patients()
    assert [p.event for p in patients] == [False, True]
    assert [p.record[header] for p in patients] == [yes == "censored", yes == "event"]
    again = _plan(path, plan.answers, schema=plan.schema).patients()
    assert [p.record[header] for p in again] == [yes == "censored", yes == "event"]


def test_of_the_columns_of_tcga_cdr_time_and_event_of_one_name_go_together(tmp_path: Path) -> None:
    header = "bcr_patient_barcode,vital_status,death_days_to,last_contact_days_to,OS,OS.time,DSS"
    path = _cohort(
        tmp_path,
        f"{header},DSS.time",
        lambda died, days: f"{_two(died, days)},{int(died)},{days},{int(died)},{days}",
    )
    events = {"vital_status: event": "Dead", "OS: event": "1", "DSS: event": "1"}
    (question,) = _plan(path, events).open
    assert question.options[:3] == (
        "death_days_to / last_contact_days_to + vital_status",
        "OS.time + OS",
        "DSS.time + DSS",
    )
    plan = _plan(path, {**events, "outcome": "DSS.time + DSS"})
    assert plan.outcome.endpoint.kind == "DSS"
    assert plan.outcome_counts.known == 40


CONTRADICTIONS = [
    "a,Dead,,204",
    "b,Alive,150,204",
    "c,Alive,,-10",
    "d,Dead,-5,",
    "e,Alive,,",
    "f,Alive,,0",
    "g,,,20",
    *(f"p{number},Alive,,500" for number in range(13)),
    "q,Dead,90,80",
]
REASONS = {
    "negative time": 2,
    "event without its time": 1,
    "censored, yet with a time of the event": 1,
    "no time at all": 1,
    "status not stated": 1,
}
HEADER = "patient_id,vital_status,days_to_death,days_to_last_follow_up"
DEAD = {"vital_status: event": "Dead"}


def _answered(answers: dict[str, str]) -> list[str]:
    return [word for pair in answers.items() for word in ("--answer", "=".join(pair))]


def test_contradictions_are_listed_before_import_and_are_no_outcome(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, path = str(tmp_path / "s"), str(_table(tmp_path, HEADER, CONTRADICTIONS))
    assert main(["study", "create", study]) == 0
    arguments = ["study", "import", study, "--table", path, "--keep-names", *_answered(DEAD)]
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "15 patients with an outcome: 1 event, 14 censored" in shown
    assert "1 of them have the time 0" in shown
    assert "without an outcome, event without its time (1): a (row 2)" in shown
    assert "without an outcome, censored, yet with a time of the event (1): b (row 3)" in shown
    assert "without an outcome, negative time (2): c (row 4), d (row 5)" in shown
    assert "without an outcome, no time at all (1): e (row 6)" in shown
    assert "without an outcome, status not stated (1): g (row 8)" in shown
    for words in (arguments, ["study", "show", study]):
        assert main([*words, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["with_outcome"], facts["events"], facts["time_zero"]) == (15, 1, 1)
        assert facts["without_outcome"] == REASONS
    assert facts["endpoint"] == {"kind": "OS", "unit": "days", "origin": "not stated"}
    with open_study(study) as opened:
        patients = {patient.name: patient for patient in opened.manifest().patients}
        words = lacking_outcome(Task.COX, opened.manifest())
    assert [(patients[n].time, patients[n].event) for n in "abcdeg"] == [(None, None)] * 6
    assert (patients["f"].time, patients["f"].event) == (0.0, False)
    assert (patients["q"].time, patients["q"].event) == (90.0, True)
    assert patients["b"].no_outcome == "censored, yet with a time of the event"
    assert words.startswith("6 of 21 patients are left out (negative time: 2")


def test_two_statuses_that_disagree_are_no_outcome(tmp_path: Path) -> None:
    rows = ["a,Dead,1,5", "b,Alive,1,6", "c,Alive,0,7"]
    path = _table(tmp_path, "patient_id,vital_status,OS,OS_MONTHS", rows)
    answers = {**DEAD, "OS: event": "1", "outcome": "OS_MONTHS + OS"}
    plan = _plan(path, answers)
    assert [p.time for p in plan.patients()] == [5.0, None, 7.0]
    assert "without an outcome, statuses disagree (1): b (row 3)" in _report(plan)


def test_a_time_to_death_contradicts_that_a_patient_is_alive(tmp_path: Path) -> None:
    rows = ["a,0,5,150", "b,1,6,", "c,0,7,"]
    path = _table(tmp_path, "patient_id,OS,OS_MONTHS,days_to_death", rows)
    plan = _plan(path, {"OS: event": "1"})
    assert [(p.time, p.no_outcome) for p in plan.patients()] == [
        (None, "censored, yet with a time of the event"),
        (6.0, ""),
        (7.0, ""),
    ]


@pytest.mark.parametrize("answer", [FIRST_ROW, NO_COLUMNS])
def test_rows_that_disagree_on_the_outcome_leave_one_patient_without_it(
    tmp_path: Path, answer: str
) -> None:
    rows = ["a,1:DECEASED,5", "a,0:LIVING,5", "b,0:LIVING,6", "c,0:LIVING,7", "c,0:LIVING,8"]
    path = _table(tmp_path, "patient_id,OS_STATUS,OS_MONTHS", rows)
    plan = _plan(path, {"OS_STATUS: event": "1:DECEASED", "conflicts": answer})
    assert [(p.time, p.no_outcome) for p in plan.patients()] == [
        (None, "statuses disagree"),
        (6.0, ""),
        (None, "times disagree"),
    ]


def test_the_last_of_several_contacts_counts(tmp_path: Path) -> None:
    header = f"{HEADER},days_to_last_known_alive"
    path = _table(tmp_path, header, ["a,Alive,,300,350", "b,Alive,,400,", "c,Dead,500,450,"])
    assert [p.time for p in _plan(path, DEAD).patients()] == [350.0, 400.0, 500.0]


def test_contacts_in_another_unit_are_converted(tmp_path: Path) -> None:
    header = "patient_id,vital_status,days_to_death,last_follow_up_months"
    path = _table(tmp_path, header, ["a,Alive,,12", "b,Dead,100,"])
    assert [p.time for p in _plan(path, DEAD).patients()] == [pytest.approx(365.25), 100.0]


def test_every_further_state_of_a_status_is_asked(tmp_path: Path) -> None:
    header = "PATIENT_ID,OS_MONTHS,VITAL_STATUS"
    rows = ["a,5,Living", "b,6,Died of Disease", "c,7,Died of Other Causes", "d,8,Lost", "e,9,Lost"]
    path = _table(tmp_path, header, rows)
    plan = _plan(path, {"VITAL_STATUS: event": "Died of Disease"})
    keys = ["VITAL_STATUS: Died of Other Causes", "VITAL_STATUS: Lost"]
    assert [question.key for question in plan.open] == keys
    assert plan.open[1].counts == {"Lost": 2}
    plan = add_answers(plan, dict(zip(keys, ("event", "unknown"), strict=True)))
    assert [(p.event, p.no_outcome) for p in plan.patients()] == [
        (False, ""),
        (True, ""),
        (True, ""),
        (None, "status not stated"),
        (None, "status not stated"),
    ]


def test_codes_of_a_status_beside_the_event_are_censored_unless_it_is_said(tmp_path: Path) -> None:
    path = _table(tmp_path, "patient_id,time,status", ["a,5,0", "b,6,1", "c,7,2"])
    plan = _plan(path, {"status: event": "2"})
    assert [p.event for p in plan.patients()] == [False, False, True]
    other = add_answers(plan, {"status: 1": "event"})
    assert [p.event for p in other.patients()] == [False, True, True]


def test_a_status_is_no_event_where_a_table_has_no_time(tmp_path: Path) -> None:
    plan = _plan(_table(tmp_path, "patient_id,status,ldh", ["a,1,5", "b,0,6"]))
    assert plan.open == ()


def test_spellings_of_a_status_that_differ_in_case_are_one(tmp_path: Path) -> None:
    rows = ["a,Dead,5,", "b,DEAD,6,", "c,Alive,,7", "d,alive,,8"]
    path = _table(tmp_path, HEADER, rows)
    (question,) = _plan(path).open
    assert question.counts == {"Dead": 2, "Alive": 2}
    assert [p.event for p in _plan(path, DEAD).patients()] == [True, True, False, False]


def test_a_cohort_in_which_nobody_died_has_outcomes(tmp_path: Path) -> None:
    path = _table(tmp_path, HEADER, ["a,Alive,,5", "b,Alive,,7"])
    (question,) = _plan(path).open
    assert question.options == ("Alive", IN_NONE, "no event")
    plan = _plan(path, {"vital_status: event": IN_NONE})
    assert [(p.time, p.event) for p in plan.patients()] == [(5.0, False), (7.0, False)]


def test_a_death_is_never_dated_by_the_last_contact_though_the_column_of_deaths_is_empty(
    tmp_path: Path,
) -> None:
    path = _table(tmp_path, HEADER, ["a,Alive,,5", "b,Dead,,7"])
    assert [p.no_outcome for p in _plan(path, DEAD).patients()] == ["", "event without its time"]


def test_columns_that_nothing_recognizes_can_be_named_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _cohort(tmp_path, "patient_id,fu,state", lambda died, days: f"{days},{1 + (not died)}")
    study = str(tmp_path / "s")
    assert main(["study", "create", study]) == 0
    arguments = ["study", "import", study, "--table", str(path), "--keep-names"]
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "answer 'outcome: time' and 'outcome: event'" in shown
    named = {"outcome: time": "fu", "outcome: event": "state"}
    assert main([*arguments, *_answered(named)]) == 2
    assert "(1: 14, 2: 26)" in capsys.readouterr().out
    answers = {
        **named,
        "state: event": "1",
        "outcome: unit": "days",
        "outcome: origin": "surgery",
        "outcome: name": "RFS",
    }
    assert main([*arguments, *_answered(answers)]) == 0
    capsys.readouterr()
    assert main(["study", "show", study, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["with_outcome"], facts["events"]) == (40, 14)
    assert facts["endpoint"] == {"kind": "RFS", "unit": "days", "origin": "surgery"}
    with open_study(study) as opened:
        patients = opened.manifest().patients
        assert [(p.time, p.event) for p in patients] == list(zip(DAYS, DIED, strict=True))
        assert all(field.outcome for field in opened.schema.fields)


def test_a_time_of_those_without_the_event_can_be_named_too(tmp_path: Path) -> None:
    path = _cohort(tmp_path, "patient_id,verstorben,bis_tod,bis_kontakt", _two)
    answers = {
        "outcome: time": "bis_tod",
        "outcome: event": "verstorben",
        "outcome: time if censored": "bis_kontakt",
        "verstorben: event": "Dead",
    }
    patients = _plan(path, answers).patients()
    assert [(p.time, p.event) for p in patients] == list(zip(DAYS, DIED, strict=True))


def test_times_can_be_counted_between_two_columns_of_dates(tmp_path: Path) -> None:
    rows = ["a,2010-01-01,2010-01-31,1", "b,2010-03-01,2011-03-01,0", "c,,2011-03-01,0"]
    path = _table(tmp_path, "patient_id,operated,last_seen,gone", rows)
    answers = {
        "outcome: time": "last_seen",
        "outcome: event": "gone",
        "outcome: origin": "operated",
        "gone: event": "1",
    }
    plan = _plan(path, answers)
    assert [(p.time, p.event) for p in plan.patients()] == [
        (30.0, True),
        (365.0, False),
        (None, None),
    ]
    assert plan.patients()[2].no_outcome == "origin of the time not stated"
    assert plan.outcome.endpoint == Endpoint("", "days", "operated")


def test_named_columns_are_chosen_step_by_step_as_the_window_does(tmp_path: Path) -> None:
    path = _cohort(tmp_path, "patient_id,fu,state", lambda died, days: f"{days},{int(died)}")
    plan = _plan(path)
    assert plan.open == ()
    plan = replace_answers(plan, {"outcome": OTHER_COLUMNS})
    assert [question.key for question in plan.open] == ["outcome: time", "outcome: event"]
    assert plan.open[1].options == ("state",)
    plan = replace_answers(plan, {**plan.answers, "outcome: time": "fu", "outcome: event": "state"})
    plan = replace_answers(plan, dict(plan.answers))
    (question,) = plan.open
    assert (question.key, question.options) == ("state: event", ("1", "0"))
    plan = replace_answers(plan, {**plan.answers, "state: event": "1"})
    assert plan.open == ()
    assert plan.outcome_counts.known == 40
    back = replace_answers(plan, {**plan.answers, "outcome": "none"})
    assert back.outcome is None
    assert "outcome: time" not in back.answers


def test_a_schema_that_has_the_status_as_a_category_loses_no_outcome(tmp_path: Path) -> None:
    header, row, answers, _ = SPELLED["last contact"]
    path = _cohort(tmp_path, header, row)
    plan = _plan(path, answers, schema=named_schema("tcga"))
    assert plan.outcome_counts.known == 40
    assert plan.columns[1].field.kind == "category"


def test_negative_times_that_a_schema_refuses_are_still_said(tmp_path: Path) -> None:
    path = _table(tmp_path, HEADER, CONTRADICTIONS)
    answers = {**DEAD, "days_to_death: others": "unknown"}
    plan = _plan(path, answers, schema=named_schema("tcga"))
    assert plan.outcome_counts.without == REASONS


def test_a_second_table_does_not_turn_censoring_round(tmp_path: Path) -> None:
    header = "case_id,survival_months,censorship"
    answers = {"censorship: event": "0"}
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        _import(study, _table(tmp_path, header, ["a,5,1", "b,6,0"]), answers)
        path = _table(tmp_path, header, ["c,7,1", "d,8,0"])
        assert [question.key for question in plan_for(study, path).open] == ["censorship: event"]
        _import(study, path, answers)
        assert [p.event for p in study.manifest().patients] == [False, True, False, True]


# endpoint of a study


def _study(folder: Path) -> Study:
    study = create_study(folder / "s", NO_FIELDS)
    path = _table(folder, "patient_id,PFS_STATUS,PFS_MONTHS", ["a,1,5", "b,0,6", "c,0,-1"])
    _import(study, path, {"PFS_STATUS: event": "1"})
    return study


def test_a_study_knows_its_endpoint_and_its_ledger_too(tmp_path: Path) -> None:
    with _study(tmp_path) as study:
        assert study.manifest().endpoint == Endpoint("PFS", "months")
        changes = [(e.field, e.old, e.new) for e in study.ledger.entries()]
        assert ("outcome", "", "PFS in months") in changes
        assert study.ledger.check() == ""


@pytest.mark.parametrize(
    ("header", "status"),
    [("patient_id,OS_STATUS,OS_MONTHS", "OS"), ("patient_id,PFS_STATUS,PFS_DAYS", "PFS")],
)
def test_times_of_another_endpoint_or_unit_are_refused(
    tmp_path: Path, header: str, status: str
) -> None:
    with _study(tmp_path) as study:
        entries = study.ledger.entries()
        path = _table(tmp_path, header, ["d,1,5", "e,0,6"])
        with pytest.raises(
            RecordError, match=r"the study's times are PFS in months, those of the table"
        ):
            _import(study, path, {f"{status}_STATUS: event": "1"})
        assert study.ledger.entries() == entries
        _import(study, path, {f"{status}_STATUS: event": "1", "outcome": "none"})
        assert [p.time for p in study.manifest().patients] == [5.0, 6.0, None, None, None]


def test_a_unit_that_only_part_of_a_study_states_is_not_the_studys(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        _import(
            study,
            _table(tmp_path, "patient_id,time,event", ["a,5,1", "b,6,0"]),
            {"event: event": "1"},
        )
        path = _table(tmp_path, "patient_id,OS_STATUS,OS_MONTHS", ["d,1,5", "e,0,6"])
        _import(study, path, {"OS_STATUS: event": "1"})
        assert study.manifest().endpoint == Endpoint()


def test_a_patient_who_is_completed_or_forgotten_has_no_reason_any_more(tmp_path: Path) -> None:
    header, answers = "patient_id,PFS_STATUS,PFS_MONTHS", {"PFS_STATUS: event": "1"}
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        _import(study, _table(tmp_path, header, ["a,1,5", "b,0,", "Gone,0,"]), answers)
        assert study.patient("b").no_outcome == "no time at all"
        assert study.patient("Gone").no_outcome == "no time at all"
        _import(study, _table(tmp_path, header, ["b,0,7", "d,1,8"]), answers)
        assert (study.patient("b").time, study.patient("b").no_outcome) == (7.0, "")
        study.forget("Gone", "asked for")
    with closing(sqlite3.connect(tmp_path / "s" / DATABASE)) as connection:
        ((fact,),) = connection.execute("SELECT value FROM facts WHERE name = 'outcome'")
    assert json.loads(fact)["without"] == {}


def test_a_copy_that_is_shared_has_the_endpoint_and_the_reasons(tmp_path: Path) -> None:
    with _study(tmp_path) as study:
        for _ in share(study, tmp_path / "copy", tmp_path / "key.json"):
            pass
    with open_study(tmp_path / "copy") as copy:
        manifest = copy.manifest()
        assert manifest.endpoint == Endpoint("PFS", "months")
        assert sorted(p.no_outcome for p in manifest.patients) == ["", "", "negative time"]


def test_a_copy_that_is_shared_has_no_header_of_a_table(tmp_path: Path) -> None:
    rows = ["a,2010-01-01,2010-01-31,1", "b,2010-03-01,2011-03-01,0"]
    path = _table(tmp_path, "patient_id,operated by Jones,last_seen,gone", rows)
    answers = {
        "outcome: time": "last_seen",
        "outcome: event": "gone",
        "outcome: origin": "operated by Jones",
        "gone: event": "1",
    }
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        _import(study, path, answers)
        assert study.manifest().endpoint == Endpoint("", "days", "operated by Jones")
        for _ in share(study, tmp_path / "copy", tmp_path / "key.json"):
            pass
    with open_study(tmp_path / "copy") as copy:
        assert copy.manifest().endpoint == Endpoint("", "days")


def test_a_study_made_before_opens_without_an_endpoint(tmp_path: Path) -> None:
    _study(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "s" / DATABASE)) as connection, connection:
        connection.execute("DELETE FROM facts WHERE name = 'outcome'")
    with open_study(tmp_path / "s") as study:
        manifest = study.manifest()
        assert manifest.endpoint == Endpoint()
        assert [(p.time, p.no_outcome) for p in manifest.patients] == [
            (5.0, ""),
            (6.0, ""),
            (None, ""),
        ]


@pytest.mark.parametrize("text", ["{", "[]", '{"without": 5}'])
def test_damaged_facts_on_the_outcome_are_named(tmp_path: Path, text: str) -> None:
    _study(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "s" / DATABASE)) as connection, connection:
        connection.execute("UPDATE facts SET value = ? WHERE name = 'outcome'", (text,))
    with (
        open_study(tmp_path / "s") as study,
        pytest.raises(StudyError, match="the stored endpoint of the study is damaged"),
    ):
        study.manifest()


def test_training_says_who_is_left_out_and_takes_the_studys_unit_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    header = "patient_id,slide_id,feature_path,split,OS_STATUS,OS_MONTHS"
    parts = ("train",) * 8 + ("validation",) * 2 + ("test",) * 2
    rows = []
    for number, part in enumerate(parts):
        save_bag(tmp_path / f"p{number}.h5", make_bag(number))
        time = {0: "-1", 1: ""}.get(number, str(number))
        rows.append(f"p{number},s{number},p{number}.h5,{part},{int(number % 2 == 0)},{time}")
    study, out = str(tmp_path / "s"), str(tmp_path / "m.safetensors")
    assert main(["study", "create", study]) == 0
    arguments = ["study", "import", study, "--table", str(_table(tmp_path, header, rows))]
    assert main([*arguments, "--keep-names", "--answer", "OS_STATUS: event=1"]) == 0
    capsys.readouterr()
    train = ["train", study, "-o", out, "--model", "abmil", "--task", "cox", "--epochs", "1"]
    assert main([*train, "--time-unit", "days"]) == 2
    assert "the times are OS in months, not in 'days'" in capsys.readouterr().err
    assert main([*train, "--time-unit", "months"]) == 0
    told = capsys.readouterr().err
    assert "2 of 12 patients are left out (negative time: 1, no time at all: 1)" in told


def test_info_on_a_manifest_counts_outcomes_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _table(tmp_path, "patient_id,slide_id,time,event", ["a,s1,5,1", "b,s2,0,0", "c,s3,,"])
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["with_outcome"], facts["events"], facts["time_zero"]) == (2, 1, 1)
    assert facts["without_outcome"] == {"no time and event": 1}


@pytest.mark.parametrize("row", ["a,s1,5,", "a,s1,,1", "a,s1,-5,1", "a,s1,5,2", "a,s1,5,T"])
def test_a_manifest_of_a_contradiction_is_refused_with_its_row(tmp_path: Path, row: str) -> None:
    path = _table(tmp_path, "patient_id,slide_id,time,event", [row])
    with pytest.raises(RecordError, match=r"row 2, column '(time|event)'"):
        read_manifest(path)


def test_a_study_is_not_trained_in_another_unit_than_its_own(tmp_path: Path) -> None:
    with _study(tmp_path) as study:
        manifest = study.manifest()
    check_task(Task.SURVIVAL, manifest, "months")
    with pytest.raises(ValueError, match="the times are PFS in months, not in 'days'"):
        check_task(Task.SURVIVAL, manifest, "days")
