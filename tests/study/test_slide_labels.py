"""Tumor and normal slides of one patient: in a study of slides each slide has its own label."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import pytest
from cohorts import make_bag
from studies import as_version_2, damage
from table_plans import add_answers, plan_for

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import NO_FIELDS
from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow, Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table_import.plan import summary_lines
from napari_wsimil.features.store import save_bag
from napari_wsimil.gui.docks.study.cohort_view import CohortView, Said
from napari_wsimil.progress import finish
from napari_wsimil.study.create_study import Study, Unit, create_study, open_study
from napari_wsimil.study.import_table import export_table, write_plan
from napari_wsimil.training.config import checked_run
from napari_wsimil.training.dataset import cohort_of, open_cohort
from napari_wsimil.training.metrics import bootstrap
from napari_wsimil.training.splits import split_of
from napari_wsimil.workflows.share import share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Command = Callable[..., tuple[int, Any, str]]

NAMES = ("normal_tissue", "tumor_tissue")
COUNT = 20
#: The label of each slide: two slides a patient, one of normal tissue and one of tumor.
TRUTH = {f"slide_{i}": NAMES[i % 2] for i in range(COUNT)}


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line; gives exit code, what JSON it printed, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def table_of(folder: Path, **columns: Sequence[object]) -> Path:
    """Write a row per slide, with further columns."""
    path = folder / "table.csv"
    rows = [
        [f"patient_{i // 2}", f"slide_{i}", NAMES[i % 2], *(cells[i] for cells in columns.values())]
        for i in range(COUNT)
    ]
    header = ",".join(("case_id", "slide_id", "label", *columns))
    path.write_text("\n".join((header, *(",".join(map(str, row)) for row in rows))))
    return path


def filled(folder: Path, table: Path, answers: Mapping[str, str] | None = None) -> Study:
    study = create_study(folder, NO_FIELDS, unit=Unit.SLIDE)
    finish(write_plan(study, plan_for(study, table, answers), "test"))
    return study


def labels_of(study: Path) -> dict[str, str | None]:
    return {case.name: case.label for case in open_cohort(study).patients}


def test_each_slide_of_a_table_keeps_its_label(tmp_path: Path, command: Command) -> None:
    study, table = tmp_path / "s", table_of(tmp_path)
    assert command("study", "create", study, "--unit", "slide")[0] == 0
    assert command("study", "import", study, "--table", table, "--keep-names")[0] == 0
    assert labels_of(study) == TRUTH
    code, shown, _ = command("study", "show", study)
    assert code == 0
    assert shown["labels"] == {"normal_tissue": 10, "tumor_tissue": 10}
    assert shown["labels_of"] == {"slides": 20, "patients, for slides without their own": 0}
    _, shown, _ = command("study", "show", study, "patient_3")
    assert {n: s["label"] for n, s in shown["slides"].items()} == {
        "slide_6": "normal_tissue",
        "slide_7": "tumor_tissue",
    }
    assert command("study", "import", study, "--table", table, "--keep-names")[1]["same"] == 10


def test_the_plan_counts_the_classes_of_slides(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        plan = plan_for(study, table_of(tmp_path))
        assert plan.open == ()
        counts = (
            "classes of slides: normal_tissue 10, tumor_tissue 10; 0 slides without their own class"
        )
        assert any(line.startswith(counts) for line in summary_lines(plan))


def test_in_a_study_of_patients_the_labels_are_asked_about(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        plan = plan_for(study, table_of(tmp_path))
        assert [question.key for question in plan.open] == ["conflicts"]
        assert "10 patients" in plan.open[0].text
        none = add_answers(plan, {"conflicts": "leave those columns out"})
        assert {patient.label for patient in none.patients()} == {None}


def test_two_labels_of_one_slide_are_asked_about(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    table.write_text(table.read_text() + "\npatient_0,slide_0,tumor_tissue")
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        plan = plan_for(study, table)
        (conflict,) = plan.merged.conflicts
        assert (conflict.patient, conflict.column) == ("patient_0", "label")
        first = add_answers(plan, {"conflicts": "the first row counts"}).patients()
        assert [slide.label for slide in first[0].slides] == list(NAMES)
        rest = add_answers(plan, {"conflicts": "leave those patients out"}).patients()
        assert len(rest) == 9


def test_a_patient_of_two_parts_is_asked_about_and_never_parted(tmp_path: Path) -> None:
    table = table_of(tmp_path, split=["train", "test", *["train"] * 10, *["test"] * 8])
    with create_study(tmp_path / "s", NO_FIELDS, unit=Unit.SLIDE) as study:
        plan = plan_for(study, table)
        assert "Rows of 1 patients disagree" in plan.open[0].text
        for answer in plan.open[0].options:
            for patient in add_answers(plan, {"conflicts": answer}).patients():
                assert len(patient.parts) <= 1
        parted = Patient("p", (SlideRow("a", split=Split.TRAIN), SlideRow("b", split=Split.TEST)))
        (sentence,) = study.add([parted], "test").conflicts
        assert "more than one split (test 1, train 1)" in sentence
        whole = replace(parted, slides=parted.slides[:1])
        assert study.add([whole], "test").new == ("p",)
        late = replace(parted, slides=(SlideRow("c", split=Split.TEST),))
        assert "more than one split" in study.add([late], "test").conflicts[0]
        assert len(study.patient("p").slides) == 1


def test_no_cohort_with_parted_patients_is_split(tmp_path: Path) -> None:
    slides = (SlideRow("a", split=Split.TRAIN), SlideRow("b", split=Split.TEST))
    other = Patient("q", (SlideRow("c"),), "y", Split.TRAIN)
    manifest = Manifest(tmp_path, (*Patient("p", slides, "x").slide_cases, other))
    run = checked_run({"cohort": tmp_path / "m.csv", "out": tmp_path / "m", "threads": 1})
    with pytest.raises(RecordError, match="1 of 2 patients have slides in more than one split"):
        split_of(run, manifest)


def test_a_manifest_with_labels_of_slides_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="row 3.*label.*study of --unit slide"):
        read_manifest(table_of(tmp_path))


def test_outcomes_of_slides_are_their_own(tmp_path: Path) -> None:
    times = [float(i) for i in range(COUNT)]
    events = [i % 2 for i in range(COUNT)]
    table = table_of(tmp_path, PFS_MONTHS=times, PFS_STATUS=events)
    with filled(tmp_path / "s", table, {"PFS_STATUS: event": "1"}) as study:
        assert study.endpoint.kind == "PFS"
        export_table(study, tmp_path / "out.csv")
    cases = open_cohort(tmp_path / "s").patients
    expected = [(t, e == 1) for t, e in zip(times, events, strict=True)]
    assert [(case.time, case.event) for case in cases] == expected
    written = pandas.read_csv(tmp_path / "out.csv")
    assert list(written.PFS_MONTHS) == times
    assert list(written.label) == list(TRUTH.values())


def test_an_export_comes_back_slide_by_slide(tmp_path: Path) -> None:
    with filled(tmp_path / "s", table_of(tmp_path)) as study:
        export_table(study, tmp_path / "out.xlsx")
        (note,) = export_table(study, tmp_path / "p.txt", cbioportal=True)
    assert note.startswith("10 patients have slides of several classes")
    written = pandas.read_excel(tmp_path / "out.xlsx")
    assert dict(zip(written.slide_id, written.label, strict=True)) == TRUTH
    assert "tissue" not in (tmp_path / "p.txt").read_text()
    filled(tmp_path / "t", tmp_path / "out.xlsx").close()
    assert labels_of(tmp_path / "t") == TRUTH


def test_a_shared_copy_has_the_labels_and_the_unit(tmp_path: Path) -> None:
    with filled(tmp_path / "s", table_of(tmp_path)) as study:
        shared = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    key = json.loads((tmp_path / "key.json").read_text())["slides"]
    with open_study(shared.folder) as copy:
        assert copy.unit is Unit.SLIDE
    assert labels_of(shared.folder) == {key[slide]: label for slide, label in TRUTH.items()}


def test_a_forgotten_patient_leaves_no_label_of_a_slide(tmp_path: Path) -> None:
    with filled(tmp_path / "s", table_of(tmp_path)) as study:
        study.add([Patient("p", (SlideRow("odd", label="unheard-of"),))], "test")
        assert b"unheard-of" in _bytes(tmp_path / "s")
        study.forget("p", "asked to")
    assert b"unheard-of" not in _bytes(tmp_path / "s")


def _bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("study.db*"))


def test_labels_are_learned_and_judged_slide_by_slide(tmp_path: Path, command: Command) -> None:
    paths = [tmp_path / "features" / f"slide_{i}.h5" for i in range(COUNT)]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        save_bag(path, make_bag(i))
    filled(tmp_path / "s", table_of(tmp_path, feature_path=paths)).close()
    out = tmp_path / "m.safetensors"
    given = ("--model", "abmil", "--epochs", "15", "--folds", "3")
    assert command("train", tmp_path / "s", "-o", out, *given)[0] == 0
    code, scored, _ = command("evaluate", out, tmp_path / "s")
    assert code == 0
    # every second slide is of tumor, which the labels of patients could not say
    assert scored["metrics"]["auc"]["value"] == 1.0
    run = checked_run({"cohort": tmp_path / "s", "out": out, "threads": 1, "folds": 3})
    fold = split_of(run, cohort_of(run))
    for part in (fold.train, fold.validation, fold.test):
        persons = [int(name.partition("_")[2]) // 2 for name in part]
        assert all(persons.count(person) == 2 for person in persons)


def test_old_studies_open_and_slides_have_the_label_of_their_patient(
    tmp_path: Path, command: Command
) -> None:
    with create_study(tmp_path, NO_FIELDS, unit=Unit.SLIDE) as study:
        rows = (SlideRow("a"), SlideRow("b"))
        study.add([Patient("p", rows, "tumor", Split.TRAIN, 5.0, True)], "test")
    as_version_2(tmp_path)
    code, shown, _ = command("study", "show", tmp_path)
    assert code == 0
    assert shown["labels_of"] == {"slides": 0, "patients, for slides without their own": 2}
    assert labels_of(tmp_path) == {"a": "tumor", "b": "tumor"}
    _, shown, _ = command("study", "show", tmp_path, "p")
    assert shown["slides"]["b"]["label"] == "tumor (of the patient)"
    with open_study(tmp_path) as study:
        assert study.add([Patient("p", (SlideRow("b", label="normal"),))], "own").completed
        entry = study.ledger.entries(newest=1)[0]
        assert (entry.field, entry.new) == ("label of b", "normal")
    assert labels_of(tmp_path) == {"a": "tumor", "b": "normal"}


def test_an_old_study_that_cannot_be_brought_up_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_study(tmp_path, NO_FIELDS, unit=Unit.SLIDE) as study:
        study.add([Patient("p", (SlideRow("a"),), "tumor")], "test")
    as_version_2(tmp_path)
    file = tmp_path / "study.db"
    file.chmod(stat.S_IREAD)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    with open_study(tmp_path) as study:
        assert "may not be written" in study.read_only
        (patient,) = study.manifest().patients
    assert patient.slide_cases[0].label == "tumor"


def test_slides_of_a_damaged_old_study_are_read(tmp_path: Path) -> None:
    with create_study(tmp_path, NO_FIELDS, unit=Unit.SLIDE) as study:
        study.add([Patient(f"p{i}", (SlideRow(f"s{i}"),), "x") for i in range(300)], "test")
    as_version_2(tmp_path)
    damage(tmp_path, "ledger")
    with open_study(tmp_path) as study:
        assert study.is_damaged
        slides = {s.slide for p in study.manifest().patients for s in p.slides}
    assert slides == {f"s{i}" for i in range(300)}


def test_a_study_of_patients_takes_no_labels_of_slides(tmp_path: Path) -> None:
    with (
        create_study(tmp_path, NO_FIELDS) as study,
        pytest.raises(RecordError, match="a slide has its own label"),
    ):
        study.add([Patient("p", (SlideRow("a", label="tumor"),))], "test")


def test_the_window_shows_the_labels_of_slides(tmp_path: Path) -> None:
    with filled(tmp_path / "s", table_of(tmp_path)) as study:
        view = CohortView(study.manifest(), study.schema, Said({}, {}))
    cell = view.cell(0, view.columns.index("label"))
    assert cell.text == "normal_tissue, tumor_tissue"
    assert cell.why == "slide_0: normal_tissue; slide_1: tumor_tissue"


def test_folds_spread_the_rarer_class_of_patients_with_both(tmp_path: Path) -> None:
    """Nine of 18 patients have a tumor slide beside a normal one: each fold tests three."""
    path = tmp_path / "s"
    with create_study(path, NO_FIELDS, unit=Unit.SLIDE) as study:
        both = [
            Patient(f"b{i}", (SlideRow(f"b{i}-t", label="tumor"), SlideRow(f"b{i}-n", label="n")))
            for i in range(9)
        ]
        normal = [Patient(f"n{i}", (SlideRow(f"n{i}-n", label="n"),)) for i in range(9)]
        study.add([*both, *normal], "test")
    for fold in range(3):
        values = {"cohort": path, "out": tmp_path / "m", "threads": 1, "folds": 3, "fold": fold}
        run = checked_run(values)
        test = split_of(run, cohort_of(run)).test
        assert sum(name.endswith("-t") for name in test) == 3


def test_slides_of_two_classes_of_one_patient_are_drawn_together() -> None:
    persons = [f"p{i // 2}" for i in range(20)]
    drawn: list[np.ndarray] = []

    def count(index: np.ndarray) -> dict[str, float]:
        drawn.append(np.bincount(index, minlength=20))
        return {"n": 0.0}

    bootstrap(np.arange(20) % 2, count, persons=persons, draws=20)
    for times in drawn:
        assert (times[::2] == times[1::2]).all()
        assert times.sum() == 20
