"""Outcomes: a study of PFS leaves as PFS, with the times that it has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas
import pytest
from table_plans import plan_for, plan_import

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import NO_FIELDS, ClinicalSchema, Record
from napari_wsimil.cohort.endpoint import Endpoint, kind_of
from napari_wsimil.cohort.manifest import Patient
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.gui.docks.study.cohort_view import CohortView, Said
from napari_wsimil.gui.text import study_facts
from napari_wsimil.progress import finish
from napari_wsimil.study.create_study import create_study, open_study
from napari_wsimil.study.import_table import export_table, write_plan
from napari_wsimil.training.config import checked_run
from napari_wsimil.training.dataset import cohort_of
from napari_wsimil.training.splits import split_of
from napari_wsimil.workflows.share import share

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.study.create_study import Study

#: Times that six digits cannot hold.
TIMES = (0.1 + 0.2, 1234567.875, 5.0)
EVENTS = (True, False, True)


def _table(folder: Path, time: str = "PFS_MONTHS", event: str = "PFS_STATUS") -> Path:
    path = folder / "t.csv"
    rows = [f"p{i},{t!r},{int(e)}" for i, (t, e) in enumerate(zip(TIMES, EVENTS, strict=True))]
    path.write_text("\n".join((f"patient_id,{time},{event}", *rows)))
    return path


def _filled(folder: Path, time: str = "PFS_MONTHS", event: str = "PFS_STATUS") -> Study:
    study = create_study(folder / "s", NO_FIELDS)
    plan = plan_for(study, _table(folder, time, event), {f"{event}: event": "1"})
    list(write_plan(study, plan, "test"))
    return study


def _stored(study: Study) -> list[tuple[float | None, bool | None]]:
    return [(one.time, one.event) for one in study.manifest().patients]


def _read(path: Path) -> pandas.DataFrame:
    if path.suffix == ".xlsx":
        return pandas.read_excel(path)
    if path.suffix == ".parquet":
        return pandas.read_parquet(path)
    return pandas.read_csv(path, sep="," if path.suffix == ".csv" else "\t", comment="#")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.xlsx", "t.parquet", "portal.txt"])
def test_pfs_leaves_as_pfs_with_its_exact_times(tmp_path: Path, name: str) -> None:
    with _filled(tmp_path) as study:
        assert study.endpoint == Endpoint("PFS", "months")
        (tmp_path / "out").mkdir()
        path = tmp_path / "out" / name
        assert export_table(study, path, cbioportal=name == "portal.txt") == ()
        stored = _stored(study)
    assert "OS" not in {word for line in path.read_bytes().split() for word in line.split(b"_")}
    table = _read(path)
    assert {c for c in table if "PFS" in c or c in ("time", "event")} == {
        "PFS_MONTHS",
        "PFS_STATUS",
    }
    assert list(table.PFS_MONTHS) == list(TIMES)
    events = [str(cell)[0] == "1" for cell in table.PFS_STATUS]
    assert events == list(EVENTS)
    happened = "1:PROGRESSION" if name == "portal.txt" else "1"
    plan = plan_import(open_table(path), {"PFS_STATUS: event": happened})
    assert plan.outcome is not None
    assert plan.outcome.endpoint == Endpoint("PFS", "months")
    assert [(one.time, one.event) for one in plan.patients()] == stored


@pytest.mark.parametrize("name", ["t.csv", "portal.txt"])
def test_an_outcome_of_unknown_kind_is_not_called_survival(tmp_path: Path, name: str) -> None:
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        study.add([Patient("p", (), time=7.5, event=True)], "test")
        path = tmp_path / name
        (note,) = export_table(study, path, time_unit="months", cbioportal=name == "portal.txt")
        time = "OUTCOME_MONTHS" if name == "portal.txt" else "time"
        assert f"they are called {time}" in note
        assert list(_read(path)[time]) == [7.5]
        assert b"urvival" not in path.read_bytes()
        assert b"DECEASED" not in path.read_bytes()
        path = tmp_path / "dfs.txt"
        export_table(study, path, time_unit="months", cbioportal=True, outcome="DFS")
        assert list(_read(path).DFS_STATUS) == ["1:Recurred/Progressed"]


def test_the_command_line_says_that_the_kind_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        study.add([Patient("p", (), time=7.5, event=True)], "test")
    out = str(tmp_path / "t.csv")
    assert main(["study", "export", str(tmp_path / "s"), out]) == 0
    assert "does not state which outcome" in capsys.readouterr().err
    given = ["--outcome", "PFS", "--time-unit", "months"]
    assert main(["study", "export", str(tmp_path / "s"), out, *given]) == 0
    assert "warning" not in capsys.readouterr().err
    assert "PFS_MONTHS,PFS_STATUS" in (tmp_path / "t.csv").read_text()


def test_days_leave_as_months_for_cbioportal_and_as_days_elsewhere(tmp_path: Path) -> None:
    with _filled(tmp_path, "days_to_recurrence", "recurrence") as study:
        assert study.endpoint == Endpoint("RECURRENCE", "days")
        export_table(study, tmp_path / "t.csv")
        export_table(study, tmp_path / "p.txt", cbioportal=True)
        with pytest.raises(RecordError, match="RECURRENCE in days"):
            export_table(study, tmp_path / "p.txt", cbioportal=True, time_unit="months")
    assert list(_read(tmp_path / "t.csv").RECURRENCE_DAYS) == list(TIMES)
    months = [time * 12 / 365.25 for time in TIMES]
    assert list(_read(tmp_path / "p.txt").RECURRENCE_MONTHS) == pytest.approx(months, rel=1e-15)


def test_a_field_that_differs_from_the_outcome_keeps_a_column(tmp_path: Path) -> None:
    with _filled(tmp_path) as study:
        before = study.records.read("p0")
        study.records.correct("p0", {"PFS_MONTHS": 9.0}, "typo", version=before.version)
        export_table(study, tmp_path / "t.csv")
        stored = _stored(study)
    table = _read(tmp_path / "t.csv")
    assert table["PFS_MONTHS"][0] == stored[0][0] == TIMES[0]
    assert table["PFS_MONTHS (clinical)"][0] == 9.0


def test_times_of_another_outcome_or_unit_are_refused(tmp_path: Path) -> None:
    late = Patient("late", (), time=3.0, event=False)
    with _filled(tmp_path) as study:
        for other in (Endpoint("OS", "months"), Endpoint("PFS", "days"), None):
            with pytest.raises(RecordError, match="the study's times are PFS in months"):
                study.add([late], "more", endpoint=other)
        assert len(study.manifest().patients) == len(TIMES)
        study.add([late], "more", endpoint=study.endpoint)
        study.add([replace(late, name="other", time=None, event=None)], "no times")
        assert len(study.manifest().patients) == len(TIMES) + 2


def test_a_study_of_unknown_kind_learns_it_from_a_table_of_all_its_times(tmp_path: Path) -> None:
    old = [Patient("p", (), time=3.0, event=True), Patient("q", (), time=4.0, event=False)]
    pfs = Endpoint("PFS", "months")
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        study.add(old, "before")
        study.add([*old[:1], Patient("r", (), time=5.0, event=True)], "some", endpoint=pfs)
        assert study.endpoint == Endpoint()
        more = [*old, Patient("r", (), time=5.0, event=True)]
        study.add(more, "all", endpoint=pfs)
        assert study.endpoint == pfs
        entry = study.ledger.entries(newest=1)[0]
        assert (entry.field, entry.new) == ("outcome", "PFS in months")
    with open_study(tmp_path / "s") as study:
        assert study.endpoint == pfs


def test_an_exported_outcome_is_trained_on_and_its_unit_checked(tmp_path: Path) -> None:
    rows = [f"p{i},s{i},{i + 0.25},{i % 2}" for i in range(30)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(("patient_id,slide_id,PFS_MONTHS,PFS_STATUS", *rows)))
    assert read_manifest(path).patients[3].time == 3.25
    values = {"cohort": path, "out": tmp_path / "m.safetensors", "threads": 1, "task": "survival"}
    run = checked_run(values | {"time_unit": "months"})
    assert len(split_of(run, cohort_of(run)).test) == 6
    run = checked_run(values | {"time_unit": "days"})
    with pytest.raises(ValueError, match="PFS in months, not in 'days'"):
        split_of(run, cohort_of(run))


def test_the_window_and_a_shared_copy_name_the_outcome(tmp_path: Path) -> None:
    with _filled(tmp_path) as study:
        manifest = study.manifest()
        assert "outcome: PFS in months" in study_facts(study, manifest)
        view = CohortView(manifest, study.schema, Said({}, {}))
        view.show_columns(("time", "event"))
        assert [view.title(0), view.title(1)] == ["time (PFS) [months]", "event (PFS)"]
        assert view.cell(1, 0).text == "1234567.875"
        shared = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    with open_study(shared.folder) as copy:
        assert copy.endpoint == Endpoint("PFS", "months")


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("OS.time", "OS"),
        ("vital_status", "OS"),
        ("Disease Free (Months)", "DFS"),
        ("PFI", "PFI"),
        ("time", ""),
        ("OUTCOME_MONTHS", ""),
    ],
)
def test_headers_name_an_outcome_or_none(header: str, kind: str) -> None:
    assert kind_of(header) == kind


def test_a_clinical_field_of_two_outcomes_is_no_outcome_of_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    head = "patient_id,slide_id,PFS_MONTHS,PFS_STATUS,OS_MONTHS,OS_STATUS"
    path.write_text(f"{head}\np,s,1,1,2,0\n")
    schema = ClinicalSchema(
        name="s", fields=(Field(name="OS_MONTHS", kind=Kind.NUMBER, group="g"),)
    )
    manifest = read_manifest(path, schema)
    assert manifest.patients[0].time is None
    assert manifest.patients[0].record == Record({"OS_MONTHS": 2.0})
