"""The table of a cohort without Qt: columns, order, search, what is odd; and rows of a schema."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record
from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
from napari_wsimil.gui.docks.study.cohort_view import CohortView, Said
from napari_wsimil.gui.docks.study.schema_dialog import TITLES, new_row, rows_of, schema_of
from napari_wsimil.study.predictions import Answer, Review, Verdict

SCHEMA = ClinicalSchema(
    name="s",
    fields=(
        Field(name="ldh", kind=Kind.NUMBER, group="blood", unit="U/L", plausible=(100, 1000)),
        Field(name="low", kind=Kind.NUMBER, group="blood"),
        Field(name="stage", kind=Kind.ORDINAL, group="g", values=("I", "II", "X")),
        Field(name="died", kind=Kind.BOOLEAN, group="g", outcome=True),
    ),
    rules=("low <= ldh",),
    inputs=("ldh", "stage"),
)


def _patient(name: str, ldh: object, stage: object = "I", low: object = 0.0, **own) -> Patient:
    values = {"ldh": ldh, "low": low, "stage": stage, "died": Absent.MISSING}
    return Patient(name, own.pop("slides", ()), record=Record(values), **own)


@pytest.fixture
def view() -> CohortView:
    patients = (
        _patient("p1", 90.0, "X", time=10.0, event=True),
        _patient("p2", Absent.UNKNOWN, "II", label="a"),
        _patient("p3", 900.0, Absent.MISSING, slides=(SlideRow("s1"), SlideRow("s2"))),
        _patient("p4", 200.0, "I", 300.0),
    )
    return CohortView(Manifest(Path("x"), patients, SCHEMA), SCHEMA, Said({}, {}))


def _names(view: CohortView) -> list[str]:
    return [view.patient(row).name for row in range(len(view.rows))]


def test_first_are_the_columns_that_say_something_and_the_inputs(view: CohortView) -> None:
    assert view.columns == ("slides", "label", "time", "event", "ldh", "stage")
    assert view.title(view.columns.index("ldh")) == "ldh [U/L]"
    view.show_columns(("died", "label"))
    assert view.columns == ("label", "died")


@pytest.mark.parametrize(
    ("column", "falling", "names"),
    [
        ("ldh", False, ["p1", "p4", "p3", "p2"]),
        ("ldh", True, ["p3", "p4", "p1", "p2"]),
        ("stage", False, ["p4", "p2", "p1", "p3"]),
        ("time", False, ["p1", "p2", "p3", "p4"]),
    ],
)
def test_numbers_and_ranks_sort_as_such_and_absent_comes_last(
    view: CohortView, column: str, falling: bool, names: list[str]
) -> None:
    view.sort(view.columns.index(column), falling=falling)
    assert _names(view) == names


def test_every_word_must_be_found_in_the_shown_columns(view: CohortView) -> None:
    view.search("P unknown II")
    assert _names(view) == ["p2"]
    view.search("missing")
    assert _names(view) == ["p3"]
    view.show_columns(("ldh",))
    assert _names(view) == []
    view.search("")
    assert len(_names(view)) == 4


def test_kinds_of_absence_and_what_is_odd_are_told(view: CohortView) -> None:
    ldh, stage = view.columns.index("ldh"), view.columns.index("stage")
    assert (view.cell(1, ldh).text, view.cell(1, ldh).absent) == ("unknown", True)
    assert (view.cell(2, stage).text, view.cell(2, stage).why) == ("", "missing")
    assert view.cell(0, ldh).why == "90 is outside the plausible 100 to 1000 U/L"
    assert view.cell(3, ldh).why == "low 300 must be <= ldh 200"
    assert view.cell(2, ldh).why == ""


def test_a_new_record_shows_in_the_row_that_stays(view: CohortView) -> None:
    view.sort(view.columns.index("ldh"))
    assert view.replace(_patient("p4", 5000.0)) == 1
    assert view.cell(1, view.columns.index("ldh")).text == "5000"
    view.search("5000")
    assert _names(view) == ["p4"]


def test_two_thousand_patients_of_four_hundred_fields_stay_usable() -> None:
    fields = tuple(Field(name=f"f{i}", kind=Kind.NUMBER, group="g") for i in range(400))
    schema = ClinicalSchema(name="wide", fields=fields)
    values = [
        {f.name: float((i * 7919) % 2000 + k) for k, f in enumerate(fields)} for i in range(2000)
    ]
    patients = tuple(Patient(f"p{i}", (), record=Record(v)) for i, v in enumerate(values))
    view = CohortView(Manifest(Path("x"), patients, schema), schema, Said({}, {}))
    began = time.perf_counter()
    view.sort(3)
    view.search("19")
    view.show_columns(tuple(f"f{i}" for i in range(40)))
    assert time.perf_counter() - began < 3  # 0.2 s on a quiet machine
    assert 0 < len(view.rows) < 2000


# the schema as rows


def test_rows_of_a_schema_state_the_same_schema() -> None:
    assert schema_of(rows_of(SCHEMA), SCHEMA.rules, SCHEMA) == SCHEMA


def test_an_edited_row_changes_its_field_and_keeps_its_headers() -> None:
    before = SCHEMA.model_copy(
        update={"fields": (SCHEMA.fields[0].model_copy(update={"columns": ("LDH",)}),)}
    )
    rows = rows_of(before)
    for title, text in {"unit": "ukat/L", "possible": "0 to 5e2", "input": "no"}.items():
        rows[0][TITLES.index(title)] = text
    schema = schema_of([*rows, new_row("crp")], (), before)
    assert (schema.fields[0].unit, schema.fields[0].hard) == ("ukat/L", (0, 500))
    assert schema.fields[0].columns == ("LDH",)
    assert schema.fields[1].name == "crp"
    assert schema.inputs == ()


@pytest.mark.parametrize(
    ("title", "text", "reason"),
    [
        ("possible", "0-5", "field 'ldh': possible '0-5' is not LOW to HIGH"),
        ("plausible", "9 to 1", "'ldh'.* is not a range"),
        ("values", "a | b", "takes no list of values"),
        ("kind", "category", "needs a list of values"),
        ("field", " ", "a field has no name"),
        ("field", "low", "two fields have the name 'low'"),
    ],
)
def test_a_row_that_states_no_field_is_refused(title: str, text: str, reason: str) -> None:
    rows = rows_of(SCHEMA)
    rows[0][TITLES.index(title)] = text
    with pytest.raises(RecordError, match=reason):
        schema_of(rows, (), SCHEMA)


def test_what_follows_the_outcome_is_an_input_by_force_alone() -> None:
    rows, place = rows_of(SCHEMA), TITLES.index("input")
    rows[3][place] = "yes"
    with pytest.raises(RecordError, match="reveals the outcome"):
        schema_of(rows, (), SCHEMA)
    rows[3][place] = "forced"
    assert schema_of(rows, (), SCHEMA).leaks == ("died",)


def _said(patient: str, tumor: float, record: str = "", risk: float | None = None) -> Answer:
    return Answer(patient, "", "m", "f", record, {"normal": 1 - tumor, "tumor": tumor}, risk)


def test_the_last_answers_are_a_column_sorted_by_class_and_how_sure() -> None:
    patients = tuple(_patient(f"p{n}", 200.0) for n in range(1, 6))
    said = [_said("p1", 0.95), _said("p2", 0.3), _said("p4", 0.6), _said("p5", 0.05)]
    answers = {one.patient: one for one in said}
    view = CohortView(Manifest(Path("x"), patients, SCHEMA), SCHEMA, Said(answers, {}))
    column = view.columns.index("last answer")
    view.sort(column)
    assert _names(view) == ["p2", "p5", "p4", "p1", "p3"]
    texts = [view.cell(row, column).text for row in range(5)]
    assert texts == ["normal 70.0%", "normal 95.0%", "tumor 60.0%", "tumor 95.0%", ""]
    view.sort(column, falling=True)
    assert _names(view) == ["p1", "p4", "p5", "p2", "p3"]
    view.search("tumor")
    assert _names(view) == ["p1", "p4"]


def test_risks_are_sorted_as_numbers() -> None:
    patients = tuple(_patient(f"p{n}", 200.0) for n in range(1, 4))
    answers = {f"p{n}": _said(f"p{n}", 0.5, risk=risk) for n, risk in ((1, 10.0), (2, -2), (3, 9))}
    view = CohortView(Manifest(Path("x"), patients, SCHEMA), SCHEMA, Said(answers, {}))
    view.sort(view.columns.index("last answer"))
    assert _names(view) == ["p2", "p3", "p1"]


def test_without_an_answer_there_is_no_such_column_and_the_first_brings_it(
    view: CohortView,
) -> None:
    assert "last answer" not in view.columns
    assert view.take(_said("p3", 0.9)) == 2
    assert view.columns.index("last answer") == view.columns.index("label") + 1
    view.show_columns(("ldh",))
    view.take(_said("p1", 0.9))  # who has hidden the column does not get it again
    assert view.columns == ("ldh",)


def test_an_answer_of_a_record_that_was_corrected_since_is_marked(view: CohortView) -> None:
    own = view.patient(0).record.digest()
    for record, why in ((own, ""), ("another", "the record was corrected since"), ("", "")):
        view.take(_said("p1", 0.9, record))
        assert view.cell(0, view.columns.index("last answer")).why == why


def test_reviews_are_a_column_and_one_of_an_earlier_answer_is_marked(view: CohortView) -> None:
    view.take(_said("p1", 0.9))
    verdicts = {"p1": Verdict.UNSURE, "p2": Verdict.AGREE, "p4": Verdict.DISAGREE}
    for name, verdict in verdicts.items():
        said = Review(name, "", "m", "tumor 90.0%", verdict, "", datetime.now(UTC), "bea")
        view.take(said)
    column = view.columns.index("last review")
    assert view.columns[column - 1] == "last answer"
    view.sort(column)
    assert _names(view) == ["p2", "p4", "p1", "p3"]
    assert view.cell(2, column).text == "unsure"
    assert view.cell(2, column).why == ""
    view.take(_said("p1", 0.8))
    assert view.cell(2, column).why == "it is of an earlier answer, tumor 90.0%"
    assert view.cell(0, column).why == ""  # of p2 no answer is left
