"""The plan of an import: what each column becomes, what must be asked, whose the slides are."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import pytest
from records import with_inputs
from table_plans import add_answers, plan_import, replace_answers

import napari_wsimil
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, read_schema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.cohort.table_import.cell_parsing import stage_of
from napari_wsimil.cohort.table_import.plan import summary_lines
from napari_wsimil.cohort.table_import.questions import NO_EVENT, OTHER_COLUMNS
from napari_wsimil.cohort.table_import.rows import FIRST_ROW, NO_COLUMNS, NO_PATIENTS
from napari_wsimil.cohort.table_import.stages import apply_answers, infer

SCHEMAS = Path(napari_wsimil.__file__).parent / "resources" / "schemas"


def _plan(folder: Path, header: str, *rows: str, **answers: str):
    path = folder / "t.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return plan_import(open_table(path), answers)


def _column(folder: Path, header: str, cells: list[str], answers: dict[str, str] | None = None):
    """Return the plan of a table with one column beside the patients, and that column."""
    path = folder / "t.tsv"
    rows = [f"p{i}\t{cell}" for i, cell in enumerate(cells)]
    path.write_text("\n".join((f"patient_id\t{header}", *rows)) + "\n", encoding="utf-8")
    plan = plan_import(open_table(path), answers)
    return plan, plan.columns[1]


def _values(plan, name: str) -> list[object]:
    return [patient.record[name] for patient in plan.patients()]


# what a column becomes


def test_words_for_absence_are_counted_and_stay_three_things(tmp_path: Path) -> None:
    cells = ["5", "[Not Available]", "'--", "not reported", "[Not Applicable]", "", "7"]
    plan, column = _column(tmp_path, "ldh", cells)
    assert column.absences == {
        "[Not Available]": 1,
        "'--": 1,
        "not reported": 1,
        "[Not Applicable]": 1,
        "": 1,
    }
    assert _values(plan, "ldh") == [
        5.0,
        Absent.MISSING,
        Absent.MISSING,
        Absent.UNKNOWN,
        Absent.NOT_APPLICABLE,
        Absent.MISSING,
        7.0,
    ]


def test_na_is_asked_about_once_for_the_whole_table_with_its_count(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,ldh,crp", "p1,5,NA", "p2,N/A,7", "p3,6,8")
    (question,) = plan.open
    assert question.key == "NA"
    assert question.counts == {"NA": 1, "N/A": 1}
    with pytest.raises(RecordError, match="answer 'NA' first"):
        plan.patients()
    answered = add_answers(plan, {"NA": "not applicable"})
    assert _values(answered, "ldh") == [5.0, Absent.NOT_APPLICABLE, 6.0]


def test_decimal_commas_are_numbers_and_said(tmp_path: Path) -> None:
    plan, column = _column(tmp_path, "beta2 [mg/L]", ["2,5", "1.234,5", "3"])
    assert column.field.unit == "mg/L"
    assert column.remarks == ("2 numbers have commas",)
    assert _values(plan, "beta2 [mg/L]") == [2.5, 1234.5, 3.0]


def test_a_comma_that_may_part_thousands_is_asked_about(tmp_path: Path) -> None:
    plan, _ = _column(tmp_path, "platelets", ["1,234", "2,500"])
    assert [question.key for question in plan.open] == ["platelets: commas"]
    assert _values(add_answers(plan, {"platelets: commas": "decimal"}), "platelets") == [1.234, 2.5]
    assert _values(add_answers(plan, {"platelets: commas": "thousands"}), "platelets") == [
        1234,
        2500,
    ]


def test_a_point_that_may_part_thousands_is_asked_about(tmp_path: Path) -> None:
    plan, _ = _column(tmp_path, "ldh", ["210", "333", "1.240"])
    assert [question.key for question in plan.open] == ["ldh: points"]
    assert _values(add_answers(plan, {"ldh: points": "thousands"}), "ldh") == [210, 333, 1240]
    assert _values(add_answers(plan, {"ldh: points": "decimal"}), "ldh") == [210, 333, 1.24]
    for cells in (["210", "0.123"], ["1.234", "2.345"], ["210", "1.24"]):
        assert _column(tmp_path, "ldh", cells)[0].open == ()


def test_scores_with_a_plus_are_an_order(tmp_path: Path) -> None:
    _, column = _column(tmp_path, "her2 score", ["0", "1+", "2+", "0", "3+"] * 3)
    assert column.field.values == ("0", "1+", "2+", "3+")


def test_shortened_categories_of_a_schema_are_understood_and_said(tmp_path: Path) -> None:
    values = ("Negative", "Positive", "Post", "Posterior")
    field = Field(name="er", kind=Kind.CATEGORY, group="g", values=values)
    path = tmp_path / "t.csv"
    path.write_text("patient_id,er\np1,neg\np2,posi\np3,pos\n")
    plan = plan_import(open_table(path), schema=ClinicalSchema(name="s", fields=(field,)))
    assert "neg means Negative, posi means Positive" in plan.columns[1].remarks
    assert plan.open[0].counts == {"pos": 1}


def test_months_can_be_made_of_days(tmp_path: Path) -> None:
    plan, column = _column(tmp_path, "days_to_biopsy", ["365.25", "30.4375"])
    assert column.field.unit == "days"
    assert plan.open == ()
    months = add_answers(plan, {"days_to_biopsy: unit": "months"})
    assert _values(months, "days_to_biopsy") == pytest.approx([12.0, 1.0])
    assert months.columns[1].field.unit == "months"
    assert "converted from days to months" in months.columns[1].remarks[-1]


def test_ages_among_brackets_are_numbers_and_pure_brackets_an_order(tmp_path: Path) -> None:
    plan, column = _column(tmp_path, "age", ["61", "72", "50-59", ">89"])
    assert (column.field.kind, column.field.unit) == (Kind.NUMBER, "years")
    assert _values(plan, "age") == [61.0, 72.0, 54.5, 89.0]
    plan, column = _column(tmp_path, "age", ["60-69", ">89", "50-59", "<50"] * 2)
    assert column.field.kind is Kind.ORDINAL
    assert column.field.values == ("<50", "50-59", "60-69", ">89")
    numbers = add_answers(plan, {"age: brackets": "numbers"})
    assert _values(numbers, "age")[:4] == [64.5, 89.0, 54.5, 50.0]


def test_ages_too_high_for_years_are_days(tmp_path: Path) -> None:
    _, column = _column(tmp_path, "age_at_diagnosis", ["24725", "27024", "25132"])
    assert column.field.unit == "days"
    assert column.field.hard is not None
    assert column.field.hard[1] > 40000


def test_stages_in_any_spelling_are_on_one_scale(tmp_path: Path) -> None:
    cells = ["Stage IIA", "II", "2", "iii", "stage ib", "IV", "Stage X"]
    plan, column = _column(tmp_path, "tumor_stage", cells)
    assert column.field.kind is Kind.ORDINAL
    assert column.field.values == (
        "Stage I",
        "Stage IB",
        "Stage II",
        "Stage IIA",
        "Stage III",
        "Stage IV",
    )
    assert _values(plan, "tumor_stage") == [
        "Stage IIA",
        "Stage II",
        "Stage II",
        "Stage III",
        "Stage IB",
        "Stage IV",
        Absent.UNKNOWN,
    ]


def test_t_and_n_have_scales_of_their_own(tmp_path: Path) -> None:
    _, column = _column(tmp_path, "pT", ["T1c", "pT2", "Tis", "T4b", "TX", "T1mi"])
    assert column.field.values == ("Tis", "T1", "T1mi", "T1c", "T2", "T3", "T4", "T4b")
    _, column = _column(tmp_path, "n", ["N0", "N0 (i-)", "N0 (i+)", "N1mi", "N1a"])
    assert column.field.values == ("N0", "N0 (i-)", "N0 (i+)", "N1", "N1mi", "N1a", "N2", "N3")


def test_a_bare_two_is_a_stage_only_where_the_column_says_so(tmp_path: Path) -> None:
    assert stage_of("2") is None
    assert stage_of("2", named=True) == stage_of("II")
    _, column = _column(tmp_path, "parity", ["1", "2", "3"])
    assert column.field.kind is Kind.NUMBER


def test_days_of_unclear_order_are_asked_about(tmp_path: Path) -> None:
    plan, _ = _column(tmp_path, "visit", ["5/6/11", "1/2/12"])
    assert [question.key for question in plan.open] == ["visit: order"]
    assert _values(add_answers(plan, {"visit: order": "day first"}), "visit")[0] == date(2011, 6, 5)
    plan, column = _column(tmp_path, "visit", ["5/27/11", "1/2/12"])
    assert _values(plan, "visit") == [date(2011, 5, 27), date(2012, 1, 2)]
    assert "month first" in column.remarks[0]


def test_a_number_among_words_is_asked_about_and_never_lost(tmp_path: Path) -> None:
    cells = [str(n) for n in range(20)] + ["ca. 80"]
    plan, _ = _column(tmp_path, "weight", cells)
    (question,) = plan.open
    assert (question.key, question.counts) == ("weight: others", {"ca. 80": 1})
    assert _values(add_answers(plan, {"weight: others": "missing"}), "weight")[-1] is Absent.MISSING


def test_codes_beside_words_are_categories(tmp_path: Path) -> None:
    _, column = _column(tmp_path, "her2", ["0", "1", "Equivocal", "0", "1", "0"])
    assert column.field.kind is Kind.CATEGORY
    assert column.field.values == ("0", "1", "Equivocal")


def test_a_formula_is_text(tmp_path: Path) -> None:
    _, column = _column(tmp_path, "note", ["=1+1", "=1+1", "a", "a"])
    assert column.field.values == ("=1+1", "a")


def test_identifiers_and_constants_become_no_field_unless_wanted(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,site,uuid", *(f"p{i},Breast,{i}f{i}e" for i in range(40)))
    assert [column.field for column in plan.columns] == [None, None, None]
    assert plan.columns[1].why == "the same in every row: 'Breast'"
    assert "different words" in plan.columns[2].why
    wanted = add_answers(plan, {"site: use": "field"})
    assert wanted.columns[1].field.values == ("Breast",)


# outcome


def test_the_polarity_of_an_event_is_never_assumed(tmp_path: Path) -> None:
    rows = ("p1,1:DECEASED,12", "p2,0:LIVING,30", "p3,0:LIVING,8.5")
    plan = _plan(tmp_path, "patient_id,OS_STATUS,OS_MONTHS", *rows)
    (question,) = plan.open
    assert question.key == "OS_STATUS: event"
    assert question.counts == {"1:DECEASED": 1, "0:LIVING": 2}
    died = add_answers(plan, {"OS_STATUS: event": "1:DECEASED"}).patients()
    assert [(p.time, p.event) for p in died] == [(12.0, True), (30.0, False), (8.5, False)]
    other = add_answers(plan, {"OS_STATUS: event": "0:LIVING"}).patients()
    assert [p.event for p in other] == [False, True, True]
    none = add_answers(plan, {"OS_STATUS: event": NO_EVENT})
    assert [(p.time, p.event) for p in none.patients()] == [(None, None)] * 3
    assert none.columns[1].field.kind is Kind.CATEGORY


def test_censored_one_is_asked_about_like_every_other(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,censored,time", "p1,1,3", "p2,0,4", "p3,0,5")
    assert [question.key for question in plan.open] == ["censored: event"]


def test_which_of_two_outcomes_is_the_studys_is_asked(tmp_path: Path) -> None:
    header = "patient_id,OS_STATUS,OS_MONTHS,DFS_STATUS,DFS_MONTHS"
    rows = ("p1,1:DECEASED,12,0:DiseaseFree,12", "p2,0:LIVING,30,1:Recurred,9")
    plan = _plan(tmp_path, header, *rows)
    plan = add_answers(plan, {"OS_STATUS: event": "1:DECEASED", "DFS_STATUS: event": "1:Recurred"})
    (question,) = plan.open
    assert question.options == (
        "OS_MONTHS + OS_STATUS",
        "DFS_MONTHS + DFS_STATUS",
        "none",
        OTHER_COLUMNS,
    )
    patients = add_answers(plan, {"outcome": "DFS_MONTHS + DFS_STATUS"}).patients()
    assert [(p.time, p.event) for p in patients] == [(12.0, False), (9.0, True)]


def test_the_gdc_has_one_time_of_the_dead_and_one_of_the_living(tmp_path: Path) -> None:
    header = "case_submitter_id,vital_status,days_to_last_follow_up,days_to_death"
    plan = _plan(tmp_path, header, "p1,Dead,'--,164", "p2,Alive,486,'--", "p3,Dead,5,99")
    patients = add_answers(plan, {"vital_status: event": "Dead"}).patients()
    assert [(p.time, p.event) for p in patients] == [(164, True), (486, False), (99, True)]


def test_what_follows_the_outcome_is_marked_and_is_no_input(tmp_path: Path) -> None:
    plan = _plan(
        tmp_path,
        "patient_id,days_to_death,ldh,response",
        "p1,5,1,partial",
        "p2,6,2,none seen",
        "p3,7,3,partial",
        "p4,7,3,none seen",
    )
    marked = {field.name for field in plan.schema.fields if field.outcome}
    assert marked == {"days_to_death", "response"}
    assert plan.schema.inputs == ()
    with pytest.raises(RecordError, match="reveals the outcome"):
        with_inputs(plan.schema, ("response",))


def test_a_field_that_goes_with_the_class_is_marked(tmp_path: Path) -> None:
    rows = [f"p{i},{'a' if i % 2 else 'b'},{'x' if i % 2 else 'y'},{i % 3}k" for i in range(20)]
    plan = _plan(tmp_path, "patient_id,label,her2,arm", *rows)
    fields = {field.name: field for field in plan.schema.fields}
    assert fields["her2"].outcome
    assert not fields["arm"].outcome
    assert {patient.label for patient in plan.patients()} == {"a", "b"}


# patients and slides


def test_identical_rows_collapse_and_conflicts_are_listed(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,ldh,sex", "p1,5,f", "p1,5,f", "p2,7,m", "p2,8,m", "p2,,m")
    assert plan.merged.identical == 1
    (conflict,) = plan.merged.conflicts
    assert (conflict.patient, conflict.column, conflict.stated) == ("p2", "ldh", ("7", "8"))
    assert [question.key for question in plan.open] == ["conflicts"]
    first = add_answers(plan, {"conflicts": FIRST_ROW})
    assert _values(first, "ldh") == [5.0, 7.0]
    assert [p.name for p in add_answers(plan, {"conflicts": NO_PATIENTS}).patients()] == ["p1"]
    assert [f.name for f in add_answers(plan, {"conflicts": NO_COLUMNS}).schema.fields] == ["sex"]


def test_rows_that_mean_the_same_do_not_disagree(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,stage,ldh", "p1,Stage II,'--", "p1,ii,2.5", "p2,I,3")
    assert plan.merged.conflicts == ()
    assert _values(plan, "ldh") == [2.5, 3.0]


def test_slides_are_linked_by_barcode_and_the_rest_is_listed(tmp_path: Path) -> None:
    names = ("TCGA-A1-A0SK-01Z-00-DX1", "TCGA-A1-A0SK-01Z-00-DX2", "P12-a", "stray")
    cases = [
        Patient(f"C{i}", (SlideRow(name, Path(f"/slides/{name}.svs")),))
        for i, name in enumerate(names)
    ]
    path = tmp_path / "t.csv"
    path.write_text("patient_id,age\ntcga-a1-a0sk,5\nP1,6\nP12,7\n")
    plan = plan_import(open_table(path), cases=cases)
    patients = {patient.name: patient for patient in plan.patients()}
    assert [slide.slide for slide in patients["tcga-a1-a0sk"].slides] == list(names[:2])
    assert [slide.slide for slide in patients["C2"].slides] == ["P12-a"]
    assert plan.matches.scattered == {"tcga-a1-a0sk": ("C0", "C1")}
    assert plan.matches.without == ("P1",)
    assert plan.matches.of_nobody == ("stray",)


def test_names_that_differ_in_case_alone_keep_their_own_slides(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient_id,age\np1,5\nP1,6\nq2,7\n")
    names = ("p1-a", "P1-b", "Q2-c")
    cases = [Patient(f"C{i}", (SlideRow(name),)) for i, name in enumerate(names)]
    plan = plan_import(open_table(path), cases=cases)
    slides = {name: [s.slide for s in some] for name, some in plan.matches.slides.items()}
    assert slides == {"p1": ["p1-a"], "P1": ["P1-b"], "q2": ["Q2-c"]}


def test_a_patient_is_called_as_the_case_whose_file_is_theirs(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient_id,age\nTCGA-A1-A0SK,5\nP0003,6\nX,7\n")
    cases = [
        Patient("P0001", (SlideRow("P0001-1", Path("/s/TCGA-A1-A0SK-01Z.3F.svs")),)),
        Patient("P0002", (SlideRow("P0002-1", Path("/s/other.svs")),)),
        Patient("P0003", (SlideRow("P0003-1", Path("/s/more.svs")),)),
    ]
    plan = plan_import(open_table(path), cases=cases)
    assert [patient.name for patient in plan.patients()] == ["P0001", "P0003", "X"]
    assert [s.slide for p in plan.patients() for s in p.slides] == ["P0001-1", "P0003-1"]
    assert plan.matches.of_nobody == ("P0002-1",)
    assert plan.matches.cases == {"TCGA-A1-A0SK": "P0001"}


def test_a_slide_of_the_table_gets_the_file_that_begins_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient_id,slide_id\np1,S1.svs\np1,S2\np2,S3\n")
    case = Patient("p1", (SlideRow("S1.0F3A", Path("/x/S1.0F3A.svs")),))
    plan = plan_import(open_table(path), cases=[case])
    first, second = (patient.slides for patient in plan.patients())
    assert {slide.slide for slide in first} == {"S1.0F3A", "S2"}
    assert next(s for s in first if s.slide != "S2").slide_path == Path("/x/S1.0F3A.svs")
    assert [slide.slide for slide in second] == ["S3"]


def test_a_slide_two_patients_claim_is_nobodys(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,slide_id,age", "p1,S1,5", "p2,S1,6")
    assert plan.matches.contested == ("S1",)
    assert [patient.slides for patient in plan.patients()] == [(), ()]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\\b", "..", "a/b"])
def test_a_path_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match="row 2, column 'patient_id'.*is no valid name"):
        _plan(tmp_path, "patient_id,age", f"{name},5")


def test_rows_of_nobody_and_names_alike_are_said(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,age", "p1,5", "P1,6", ",7")
    assert len(plan.patients()) == 2
    assert plan.notes == (
        "1 rows without a patient are skipped: 4",
        "'p1' and 'P1' are read as different patients",
    )


def test_a_table_without_patients_asks_for_them(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "person,ldh", "a,5", "b,6")
    assert [question.key for question in plan.open] == ["patient"]
    assert len(add_answers(plan, {"patient": "person"}).patients()) == 2


# schema and answers


def test_columns_of_a_schema_are_read_as_it_says_and_the_rest_is_drafted(tmp_path: Path) -> None:
    schema = ClinicalSchema(
        name="s",
        fields=(
            Field(name="follow_up", kind=Kind.NUMBER, group="g", unit="months", columns=("DAYS",)),
            Field(name="age", kind=Kind.NUMBER, group="g", hard=(0, 120)),
            Field(name="stage", kind=Kind.ORDINAL, group="g", values=("I", "II", "III")),
            Field(name="never", kind=Kind.BOOLEAN, group="g"),
        ),
        inputs=("age",),
    )
    path = tmp_path / "t.csv"
    path.write_text("patient_id,days,Age,stage,crp\np1,365.25,54,Stage II,3\np2,,540,i,4\n")
    plan = plan_import(open_table(path), schema=schema)
    assert [field.name for field in plan.schema.fields] == [
        "follow_up",
        "age",
        "stage",
        "never",
        "crp",
    ]
    assert plan.schema.inputs == ("age",)
    assert plan.open[0].counts == {"540": 1}
    first, second = add_answers(plan, {"Age: others": "unknown"}).patients()
    assert first.record.values == {
        "follow_up": pytest.approx(12.0),
        "age": 54.0,
        "stage": "II",
        "never": Absent.MISSING,
        "crp": 3.0,
    }
    assert second.record["age"] is Absent.UNKNOWN
    assert second.record["stage"] == "I"


def test_an_answer_must_be_an_option_of_what_was_asked(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,ldh", "p1,NA", "p2,6")
    with pytest.raises(RecordError, match="'perhaps' is no possible answer. Choose one of missing"):
        add_answers(plan, {"NA": "perhaps"})
    with pytest.raises(RecordError, match="'ldh: event' is no question of this table"):
        add_answers(plan, {"ldh: event": "1"})


def test_an_answer_on_na_is_refused_in_a_table_without_na(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="'NA' is no question of this table"):
        _plan(tmp_path, "patient_id,ldh", "p1,5", "p2,6", NA="missing")
    with pytest.raises(RecordError, match="'NA' is no question of this table"):
        _plan(tmp_path, "patient_id,ldh", "p1,5", "p2,6", NA="perhaps")


def test_inferring_and_applying_answers_change_nothing_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient_id,ldh\np1,NA\np2,6\n", encoding="utf-8")
    inferred = infer(open_table(path))
    before = (inferred.columns, inferred.questions)
    missing = apply_answers(inferred, {"NA": "missing"})
    unknown = apply_answers(inferred, {"NA": "unknown"})
    assert (inferred.columns, inferred.questions) == before
    assert _values(missing, "ldh") == [Absent.MISSING, 6.0]
    assert _values(unknown, "ldh") == [Absent.UNKNOWN, 6.0]
    assert [question.key for question in inferred.questions if not question.default] == ["NA"]


def test_four_hundred_columns_stay_usable(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    kinds = ("{i}.{c}", "w{k}", "T{k}", "NA", "{i},5")
    with path.open("w") as file:
        file.write("patient_id," + ",".join(f"c{c}" for c in range(400)) + "\n")
        for i in range(1000):
            cells = (f'"{kinds[c % 5].format(i=i, c=c, k=(i + c) % 4)}"' for c in range(400))
            file.write(f"p{i}," + ",".join(cells) + "\n")
    began = time.perf_counter()
    plan = plan_import(open_table(path))
    took = time.perf_counter() - began
    assert len(plan.fields) == 320
    assert took < 10  # 1 s on a quiet machine


def test_the_report_names_what_is_open_and_what_was_understood(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "patient_id,OS_STATUS,ldh", "p1,0:LIVING,'--", "p2,1:DECEASED,5")
    lines = "\n".join(summary_lines(plan))
    assert "2 patients" in lines
    assert '"\'--" is read as missing (1 rows)' in lines
    assert "OS_STATUS: event" in lines
    assert "(0:LIVING: 1, 1:DECEASED: 1)" in lines


# tables people have


@pytest.mark.parametrize(
    ("name", "patients", "answers", "events"),
    [
        (
            "final_clean_merged_dataset",
            141,
            {
                "overall survival status: event": "1:DECEASED",
                "disease free status: event": "1:Recurred/Progressed",
                "conflicts": NO_COLUMNS,
                "outcome": "overall survival (months) + overall survival status",
            },
            18,
        ),
        (
            "clam_dataset",
            198,
            {
                "overall survival status: event": "1:DECEASED",
                "disease free status: event": "1:Recurred/Progressed",
                "outcome": "overall survival (months) + overall survival status",
            },
            36,
        ),
        (
            "gdc_export_example",
            14,
            {"vital_status: event": "Dead", "conflicts": NO_COLUMNS},
            6,
        ),
    ],
)
def test_real_tables_are_imported(
    data: Path, name: str, patients: int, answers: dict[str, str], events: int
) -> None:
    plan = plan_import(open_table(data / "clinical" / f"{name}.csv"), answers)
    found = plan.patients()
    assert len(found) == patients
    assert sum(bool(patient.event) for patient in found) == events
    assert all(p.time is not None for p in found if p.event)
    for patient in found:
        text = plan.schema.format(patient.record)
        assert plan.schema.parse(text).digest() == patient.record.digest()
    assert plan.schema.inferred
    assert plan.schema.inputs == ()


def test_each_case_of_the_gdc_twice_becomes_one(data: Path) -> None:
    plan = plan_import(open_table(data / "clinical" / "gdc_export_example.csv"))
    assert {conflict.column for conflict in plan.merged.conflicts} == {
        "treatment_or_therapy",
        "treatment_type",
    }
    answers = {"treatment_or_therapy: use": "nothing", "treatment_type: use": "nothing"}
    plan = add_answers(plan, answers)
    assert plan.merged.conflicts == ()
    assert plan.merged.identical == 14


def test_barcodes_link_the_slides_of_tcga(data: Path) -> None:
    plan = plan_import(open_table(data / "clinical" / "final_clean_merged_dataset.csv"))
    assert len(plan.matches.slides) == 141
    answer = {"slide": "none"}
    names = [row.cells["slide_id"] for row in plan.table.rows[:20]]
    cases = [Patient(n, (SlideRow(n),)) for n in dict.fromkeys(names)]
    linked = plan_import(plan.table, answer, cases=cases)
    assert len(linked.matches.slides) == len({name[:12] for name in names})
    assert linked.matches.of_nobody == ()


@pytest.mark.parametrize(
    "name", ["final_clean_merged_dataset", "clam_dataset", "gdc_export_example"]
)
def test_the_schema_of_tcga_knows_the_columns_of_real_tables(data: Path, name: str) -> None:
    schema = read_schema(SCHEMAS / "tcga.yaml")
    plan = plan_import(open_table(data / "clinical" / f"{name}.csv"), schema=schema)
    found = {column.field.name for column in plan.fields}
    assert {"age_at_index", "gender", "race", "ajcc_pathologic_stage"} <= found
    assert not [question.key for question in plan.open if question.key.endswith("others")]


def test_answers_that_do_not_fit_any_more_are_dropped_when_revised(tmp_path: Path) -> None:
    rows = ("p1,1:DECEASED,12", "p2,0:LIVING,30")
    plan = _plan(tmp_path, "patient_id,OS_STATUS,OS_MONTHS", *rows)
    answers = {"OS_STATUS: event": "1:DECEASED", "outcome": "OS_MONTHS + OS_STATUS"}
    assert replace_answers(plan, answers).answers == answers
    revised = replace_answers(plan, {**answers, "OS_STATUS: event": NO_EVENT, "never": "asked"})
    assert revised.answers == {"OS_STATUS: event": NO_EVENT}
    assert revised.open == ()
