"""Records: typed values, three kinds of absence, tokens with training statistics."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from records import with_inputs

import napari_wsimil
from napari_wsimil.clinical.encoding import channels, encode, fit_statistics
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record, read_schema, write_schema
from napari_wsimil.cohort.table import read_table
from napari_wsimil.synthetic.clinical import BLOOD, INTERVIEW, VARIABLES

RESOURCES = Path(napari_wsimil.__file__).parent / "resources"


@pytest.fixture
def schema() -> ClinicalSchema:
    """Two groups of inputs, and one field that no model may see."""
    return ClinicalSchema(
        name="trial",
        fields=(
            Field(
                name="age",
                kind=Kind.NUMBER,
                group="interview",
                unit="years",
                hard=(0, 120),
                plausible=(18, 100),
                columns=("Age (years)",),
            ),
            Field(name="smoker", kind=Kind.BOOLEAN, group="interview"),
            Field(name="grade", kind=Kind.ORDINAL, group="tumor", values=("G1", "G2", "G3")),
            Field(name="site", kind=Kind.CATEGORY, group="tumor", values=("left", "right")),
            Field(name="metastases", kind=Kind.NUMBER, group="tumor"),
        ),
        inputs=("age", "smoker", "grade", "site"),
        absent={"'--": Absent.MISSING, "not reported": Absent.UNKNOWN},
    )


def test_a_row_of_text_becomes_typed_values(schema: ClinicalSchema) -> None:
    record = schema.parse({"age": "61.5", "smoker": "No", "grade": "g2", "site": "left"})
    assert record["age"] == 61.5
    assert record["smoker"] is False
    assert record["grade"] == "G2"
    assert record["site"] == "left"


def test_a_field_is_found_under_its_other_header(schema: ClinicalSchema) -> None:
    assert schema.parse({"Age (years)": "40"})["age"] == 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Absent.MISSING),
        ("  ", Absent.MISSING),
        ("Unknown", Absent.UNKNOWN),
        ("Not applicable", Absent.NOT_APPLICABLE),
        ("'--", Absent.MISSING),
        ("Not Reported", Absent.UNKNOWN),
    ],
)
def test_the_kinds_of_absence_stay_apart(
    schema: ClinicalSchema, text: str, expected: Absent
) -> None:
    record = schema.parse({"age": text, "site": text})
    assert record["age"] is expected
    assert record["site"] is expected


def test_a_field_without_a_column_is_missing(schema: ClinicalSchema) -> None:
    assert set(schema.parse({}).values.values()) == {Absent.MISSING}


def test_a_source_word_must_be_declared() -> None:
    plain = ClinicalSchema(name="x", fields=(Field(name="n", kind=Kind.NUMBER, group="g"),))
    with pytest.raises(RecordError, match="field 'n': \"'--\" is not"):
        plain.parse({"n": "'--"})


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("age", "old", "a finite number in years"),
        ("age", "nan", "a finite number"),
        ("age", "1e999", "a finite number"),
        ("age", "12,5", "a finite number"),
        ("age", "NA", "a finite number"),
        ("age", "121", "possible 0 to 120 years"),
        ("age", "-1", "possible 0 to 120 years"),
        ("smoker", "maybe", "yes or no"),
        ("grade", "G4", "one of G1, G2, G3"),
        ("site", "NA", "one of left, right"),
    ],
)
def test_a_wrong_value_is_refused_by_field_and_text(
    schema: ClinicalSchema, field: str, text: str, reason: str
) -> None:
    with pytest.raises(RecordError) as caught:
        schema.parse({field: text})
    assert f"{field!r}: {text!r}" in str(caught.value)
    assert reason in str(caught.value)


def test_records_survive_being_written_as_text(schema: ClinicalSchema) -> None:
    cells = {"age": "0.1", "smoker": "yes", "grade": "unknown", "site": "not applicable"}
    record = schema.parse(cells)
    assert schema.parse(schema.format(record)) == record


def test_an_odd_value_is_kept_and_remarked_upon(schema: ClinicalSchema) -> None:
    age = schema.by_name["age"]
    assert schema.parse({"age": "101"})["age"] == 101
    assert age.remark(101.0) == "101 is outside the plausible 18 to 100 years"
    assert age.remark(100.0) == age.remark(Absent.MISSING) == ""


def test_a_day_is_read_and_written_as_iso_and_is_no_number() -> None:
    born = Field(name="born", kind=Kind.DATE, group="who")
    assert born.parse("1960-02-29") == date(1960, 2, 29)
    assert born.format(date(1960, 2, 29)) == "1960-02-29"
    assert born.number(date(1960, 2, 29)) is None
    with pytest.raises(RecordError, match="'born': '29.2.1960' is not a day as YYYY-MM-DD"):
        born.parse("29.2.1960")


def test_what_gives_the_outcome_away_is_an_input_by_force_alone() -> None:
    count = Field(name="metastases", kind=Kind.NUMBER, group="tumor", outcome=True)
    plain = ClinicalSchema(name="x", fields=(count,))
    with pytest.raises(RecordError, match="'metastases' reveals the outcome"):
        with_inputs(plain, ("metastases",))
    assert with_inputs(plain, ("metastases",), forced=("metastases",)).leaks == ("metastases",)
    assert plain.leaks == ()


def test_a_record_that_breaks_a_rule_is_kept_and_told(schema: ClinicalSchema) -> None:
    ruled = schema.model_copy(update={"rules": ("metastases <= age", "age >= 18")})
    assert ruled.broken(ruled.parse({"age": "40", "metastases": "2"})) == ()
    assert ruled.broken(ruled.parse({"age": "17", "metastases": "18"})) == (
        "metastases 18 must be <= age 17",
        "age 17 must be >= 18",
    )
    assert ruled.broken(ruled.parse({"metastases": "2"})) == ()


def test_changes_are_texts_by_field_and_leave_the_rest(schema: ClinicalSchema) -> None:
    record = schema.parse({"age": "40", "site": "left"})
    edited = schema.apply(record, {"age": "missing", "grade": "G2"})
    assert edited["age"] is Absent.MISSING
    assert record.changes(edited) == {
        "age": (40.0, Absent.MISSING),
        "grade": (Absent.MISSING, "G2"),
    }
    assert edited["site"] == "left"
    with pytest.raises(RecordError, match="no field 'agee' in schema trial: did you mean 'age'"):
        schema.apply(record, {"agee": "3"})


def test_a_digest_is_of_values_and_tells_absences_apart(schema: ClinicalSchema) -> None:
    record = schema.parse({"age": "40"})
    same = Record(dict(reversed(record.values.items())))
    assert record.digest() == same.digest()
    cells = [{"age": "41"}, {"age": "unknown"}, {"age": "not applicable"}, {}]
    assert len({record.digest(), *(schema.parse(one).digest() for one in cells)}) == 5


def test_a_schema_survives_its_file(schema: ClinicalSchema, tmp_path: Path) -> None:
    write_schema(schema, tmp_path / "trial.yaml")
    assert read_schema(tmp_path / "trial.yaml") == schema


def test_statistics_are_plain_and_of_the_given_records_only(schema: ClinicalSchema) -> None:
    ages = ("40", "60", "unknown")
    records = [schema.parse({"age": age, "grade": "G3"}) for age in ages]
    statistics = fit_statistics(schema, records)
    assert json.loads(json.dumps(statistics)) == statistics
    assert statistics["age"] == {"mean": 50.0, "sd": 10.0}
    assert statistics["grade"] == {"mean": 2.0, "sd": 0.0}
    assert "metastases" not in statistics


def test_tokens_hold_standardized_values_and_say_what_is_absent(
    schema: ClinicalSchema,
) -> None:
    train = [schema.parse({"age": age, "grade": g}) for age, g in (("40", "G1"), ("60", "G3"))]
    statistics = fit_statistics(schema, train)
    record = schema.parse({"age": "70", "smoker": "unknown", "site": "right"})
    interview, tumor = encode(schema, record, statistics).values
    named = dict(zip(channels(schema)["interview"], interview, strict=True))
    assert named == {
        "age": 2.0,
        "age missing": 0,
        "age unknown": 0,
        "age not applicable": 0,
        "smoker": 0,
        "smoker missing": 0,
        "smoker unknown": 1,
        "smoker not applicable": 0,
    }
    named = dict(zip(channels(schema)["tumor"], tumor, strict=True))
    assert [named["site = left"], named["site = right"], named["site missing"]] == [0, 1, 0]
    assert [named["grade"], named["grade missing"]] == [0, 1]
    assert not any(name.startswith("metastases") for name in named)
    assert interview.dtype == np.float32


def test_an_ordinal_counts_by_rank(schema: ClinicalSchema) -> None:
    train = [schema.parse({"grade": grade}) for grade in ("G1", "G3")]
    statistics = fit_statistics(schema, train)
    tokens = [encode(schema, schema.parse({"grade": g}), statistics) for g in ("G1", "G2", "G3")]
    assert [token.values[1][0] for token in tokens] == [-1, 0, 1]


def test_a_group_is_absent_only_when_all_of_it_is_missing(schema: ClinicalSchema) -> None:
    statistics = fit_statistics(schema, [])
    cells = {"age": "", "smoker": "", "grade": "not applicable", "metastases": "3"}
    assert encode(schema, schema.parse(cells), statistics).present.tolist() == [False, True]
    assert encode(schema, schema.parse({"metastases": "3"}), statistics).present.tolist() == [
        False,
        False,
    ]


def test_a_field_without_spread_in_training_says_nothing(schema: ClinicalSchema) -> None:
    statistics = fit_statistics(schema, [schema.parse({"age": "50"})] * 3)
    token = encode(schema, schema.parse({"age": "90"}), statistics).values[0]
    assert token[0] == 0
    assert np.isfinite(token).all()


def test_statistics_of_another_schema_are_refused(schema: ClinicalSchema) -> None:
    with pytest.raises(ValueError, match="field 'age'"):
        encode(schema, schema.parse({}), {})


def test_only_named_fields_become_inputs(schema: ClinicalSchema) -> None:
    assert with_inputs(schema, ("site",)).groups == ("tumor",)
    with pytest.raises(RecordError, match="'weight' is not a field"):
        with_inputs(schema, ("weight",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: [", "not a YAML file"),
        ("- name", "it must have a name and fields"),
        ("name: x", "fields"),
        ("{name: x, fields: [], colour: 1}", "colour"),
        ("{name: x, fields: [{name: a, kind: text, group: g}]}", "fields.0.kind"),
        ("{name: x, fields: [{name: a, kind: category, group: g}]}", "'a' is a category"),
        (
            "{name: x, fields: [{name: a, kind: category, group: g, values: [Unknown]}]}",
            "'Unknown' is a word for absence",
        ),
        (
            "{name: x, fields: [{name: a, kind: category, group: g, values: [yes, no]}]}",
            "fields.0.values.0",
        ),
        (
            "{name: x, fields: [{name: a, kind: number, group: g, plausible: [3, 1]}]}",
            "is not a range",
        ),
        (
            "{name: x, fields: [{name: a, kind: number, group: g}, "
            "{name: a, kind: number, group: g}]}",
            "two fields have the name 'a'",
        ),
        (
            "{name: x, fields: [{name: a, kind: number, group: g}], rules: [a < b]}",
            "rule 'a < b': 'b' is neither a field",
        ),
        (
            "{name: x, fields: [{name: a, kind: number, group: g}], rules: [a is high]}",
            "rule 'a is high' is not FIELD",
        ),
        (
            "{name: x, fields: [{name: a, kind: boolean, group: g}], rules: [a < 2]}",
            "field 'a' is not a number",
        ),
        (
            "{name: x, fields: [{name: a, kind: date, group: g}], inputs: [a]}",
            "input 'a' is a date",
        ),
        (
            "{name: x, fields: [{name: a, kind: number, group: g, outcome: true}], inputs: [a]}",
            "input 'a' reveals the outcome",
        ),
    ],
)
def test_a_wrong_schema_file_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RecordError) as caught:
        read_schema(path)
    assert "wrong.yaml" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("path", sorted((RESOURCES / "schemas").glob("*.yaml")), ids=str)
def test_every_shipped_schema_is_valid(path: Path) -> None:
    assert read_schema(path).name == path.stem


def test_the_tcga_schema_reads_a_real_export(data: Path) -> None:
    schema = read_schema(RESOURCES / "schemas" / "tcga.yaml")
    table = read_table(data / "clinical" / "gdc_export_example.csv")
    records = [schema.parse(row.cells) for row in table.rows]
    assert records[0]["age_at_index"] == float(table.rows[0].cells["age_at_index"])
    stages = [record["ajcc_pathologic_stage"] for record in records]
    assert stages.count(Absent.MISSING) == 6
    assert [record["race"] for record in records].count(Absent.UNKNOWN) == 2


def test_the_study_does_not_load_torch() -> None:
    code = (
        "import sys, napari_wsimil.cohort.manifest, napari_wsimil.clinical.encoding, "
        "napari_wsimil.study.import_table; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_phantom_schema_reads_the_records_phantoms_have() -> None:
    variables = {variable.name: variable for variable in VARIABLES}
    schema = read_schema(RESOURCES / "schemas" / "phantom.yaml")
    assert schema.groups == (INTERVIEW, BLOOD)
    assert schema.inputs == tuple(variables)
    for field in schema.fields:
        variable = variables[field.name]
        assert field.group == variable.group
        if field.kind is Kind.NUMBER:
            assert field.unit == variable.unit
            assert field.plausible == (variable.low, variable.high)
            assert field.hard is not None
        else:
            assert variable.unit == "0/1"


def test_the_lymphoma_schema_has_the_variables_of_the_phantom_with_tighter_sense() -> None:
    schema = read_schema(RESOURCES / "schemas" / "lymphoma.yaml")
    assert [(f.name, f.group) for f in schema.fields] == [(v.name, v.group) for v in VARIABLES]
    assert schema.groups == (INTERVIEW, BLOOD)
    record = schema.apply(schema.parse({}), {"lymphocytes": "9", "leukocytes": "4"})
    assert schema.broken(record) == ("lymphocytes 9 must be <= leukocytes 4",)
    for field in schema.fields:
        if field.kind is Kind.NUMBER:
            assert field.hard is not None
            assert field.plausible is not None
            assert field.hard[0] <= field.plausible[0] < field.plausible[1] <= field.hard[1]
            low, high = field.normal or field.plausible
            assert field.hard[0] <= low <= high <= field.plausible[1]


def test_the_breast_schema_keeps_the_axilla_out_of_its_inputs() -> None:
    schema = read_schema(RESOURCES / "schemas" / "breast_biopsy.yaml")
    outcomes = {field.name for field in schema.fields if field.outcome}
    assert outcomes == {"surgical", "nodes_with_metastasis", "aln_status"}
    assert not outcomes & set(schema.inputs)
    cells = {"HER2 Expression": "2+", "ALN status": "N+(1-2)", "Tumour Size(cm)": "2.5"}
    record = schema.parse(cells)
    assert (record["her2_expression"], record["tumor_size"]) == ("2+", 2.5)
