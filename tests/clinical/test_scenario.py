"""Scenarios: named changes of a record, as files that people write and programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from records import WARD, make_cohort

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.scenario import Scenario, read_scenario, write_scenario

if TYPE_CHECKING:
    from pathlib import Path

RECORD = make_cohort()[5]


def written(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_scenario_comes_back_as_it_was_written(tmp_path: Path) -> None:
    scenario = Scenario("höher", "ward", {"ldh": "5.5e2", "smoker": "yes", "age": "missing"})
    write_scenario(scenario, tmp_path / "a.yaml")
    assert read_scenario(tmp_path / "a.yaml") == scenario


def test_what_people_write_is_read_as_the_field_reads_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "name: high\nschema: ward\nchanges: {ldh: 210, age: 51.5, smoker: yes, site: null, "
        "stage: II, note: unknown}\n",
    )
    found = read_scenario(path).apply(WARD, RECORD)
    assert found["ldh"] == 210
    assert found["age"] == 51.5
    assert found["smoker"] is True
    assert found["site"] is Absent.MISSING
    assert found["stage"] == "II"
    assert found["note"] is Absent.UNKNOWN
    assert found["leukocytes"] == RECORD["leukocytes"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a", "is not a scenario"),
        ("name: a\nschema: ward\nchanges: {ldh: 1}\nmore: 2", "is not a scenario"),
        ("name: a\nschema: 3\nchanges: {ldh: 1}", "must be texts"),
        ("name: a\nschema: ward\nchanges: {}", "such as ldh: 210"),
        ("name: a\nschema: ward\nchanges: {ldh: [1]}", "ldh: [1] is not a text, number"),
        ("name: [", "is not a YAML file"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecordError) as caught:
        read_scenario(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_another_schema_or_value_is_refused_naming_both() -> None:
    with pytest.raises(RecordError, match="schema 'other', these records to 'ward'"):
        Scenario("a", "other", {"ldh": "1"}).apply(WARD, RECORD)
    with pytest.raises(RecordError, match="scenario 'a'.*did you mean 'ldh'"):
        Scenario("a", "ward", {"ldhh": "1"}).apply(WARD, RECORD)
    with pytest.raises(RecordError, match="scenario 'a': field 'age': '130'"):
        Scenario("a", "ward", {"age": "130"}).apply(WARD, RECORD)
