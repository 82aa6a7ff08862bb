"""Features of a cohort are compared: encoder, scale, duplicates, and the model's training."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from cohorts import SPLITS, make_bag, write_manifest

from napari_wsimil.cli.main import main
from napari_wsimil.cohort.table_import.slide_matching import participant
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_wsimil.features.bag import Bag

    Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, the JSON on stdout, and stderr."""
    torch.set_num_threads(1)

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else {}, err

    return run


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return write_manifest(tmp_path, SPLITS)


def train(run: Run, cohort: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    quick = ("--model", "abmil", "--epochs", 1, "--threads", 1)
    return run("train", cohort, "-o", cohort.with_name("m.safetensors"), *quick, *options)


def evaluate(run: Run, cohort: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    return run("evaluate", cohort.with_name("m.safetensors"), cohort, "--draws", 100, *options)


def rescaled(bag: Bag, mpp: float | None, pixels: int | None = None) -> Bag:
    assert bag.grid is not None
    return replace(bag, grid=replace(bag.grid, mpp=mpp, pixels=pixels or bag.grid.pixels))


def rename(cohort: Path, old: str, new: str) -> None:
    """Give a patient or a slide of the manifest another name."""
    text = cohort.read_text()
    assert text.count(f"{old},") == 1
    cohort.write_text(text.replace(f"{old},", f"{new},"))


def test_training_refuses_several_scales_unless_they_are_accepted(run: Run, cohort: Path) -> None:
    own = make_bag(1).grid
    assert own is not None
    assert own.mpp == 0.5
    for k in (1, 2, 9):  # the last one tests
        save_bag(cohort.with_name(f"p{k}.h5"), rescaled(make_bag(k), 0.25))
    code, _, err = train(run, cohort)
    assert code == 2
    assert "several µm per pixel, 0.25 (3 slides), 0.5 (9 slides)" in err
    assert "--mixed-scales" in err
    assert not cohort.with_name("m.safetensors").exists()
    code, _, err = train(run, cohort, "--mixed-scales")
    assert code == 0
    assert "warning: the features are of several µm per pixel" in err
    card = load_checkpoint(cohort.with_name("m.safetensors"))[1]
    assert card.features is not None
    assert card.features.mpp == (0.25, 0.5)
    assert "several µm per pixel, 0.25 (3 slides)" in card.data


def test_a_few_percent_of_scale_are_one_scale(run: Run, cohort: Path) -> None:
    save_bag(cohort.with_name("p1.h5"), rescaled(make_bag(1), 0.54))
    assert train(run, cohort)[0] == 0
    save_bag(cohort.with_name("p1.h5"), rescaled(make_bag(1), 0.56))
    assert train(run, cohort)[0] == 2


def test_training_refuses_several_patch_sizes_also_among_the_test_patients(
    run: Run, cohort: Path
) -> None:
    save_bag(cohort.with_name("p9.h5"), rescaled(make_bag(9), 0.5, 128))
    code, _, err = train(run, cohort)
    assert code == 2
    assert "several patch sizes in pixels, 128 (1 slide), 256 (11 slides)" in err
    save_bag(cohort.with_name("p1.h5"), rescaled(make_bag(1), 0.5, 128))
    assert train(run, cohort, "--mixed-scales")[0] == 0
    card = load_checkpoint(cohort.with_name("m.safetensors"))[1]
    assert card.features is not None
    assert (card.pixels, card.features.pixels) == (256, (128, 256))


def test_an_unknown_scale_is_counted_and_recorded(run: Run, cohort: Path) -> None:
    for k in (0, 1):
        save_bag(cohort.with_name(f"p{k}.h5"), rescaled(make_bag(k), None))
    code, _, err = train(run, cohort)
    assert code == 0
    said = "the µm per pixel of 2 of 12 slides is unknown and was not compared"
    assert f"warning: {said}" in err
    card = load_checkpoint(cohort.with_name("m.safetensors"))[1]
    assert said in card.data
    assert card.features is not None
    assert (card.features.unknown_mpp, card.features.slides) == (2, 8)
    assert evaluate(run, cohort)[0] == 0


def test_evaluation_refuses_another_scale_than_the_cards(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    for k in (8, 9):
        save_bag(cohort.with_name(f"p{k}.h5"), rescaled(make_bag(k), 0.25, 128))
    code, _, err = evaluate(run, cohort)
    assert code == 2
    assert (
        "2 of 4 slides have other µm per pixel, 0.25 (2 slides); the model was trained at 0.5"
        in err
    )
    assert "patches of 2 of 4 slides have other sizes in pixels, 128 (2 slides)" in err
    code, facts, err = evaluate(run, cohort, "--mixed-scales")
    assert (code, facts["patients"]) == (0, 4)
    assert "warning: the features of 2 of 4 slides have other µm per pixel" in err


@pytest.mark.parametrize("other", [2, 9])
def test_equal_features_of_two_patients_are_refused(run: Run, cohort: Path, other: int) -> None:
    save_bag(cohort.with_name(f"p{other}.h5"), make_bag(1))  # one trains too, or one tests
    code, _, err = train(run, cohort)
    assert code == 2
    assert f"2 patients have the same features (p1 and p{other})" in err


def test_a_slide_file_of_several_patients_is_counted_and_recognized(run: Run, cohort: Path) -> None:
    for k in (1, 2, 8):
        save_bag(cohort.with_name(f"p{k}.h5"), replace(make_bag(k), slide="f" * 16))
    code, _, err = train(run, cohort)
    assert code == 0
    said = "1 slide file is shared by 3 patients: right for a tissue microarray only"
    assert f"warning: {said}" in err
    assert said in load_checkpoint(cohort.with_name("m.safetensors"))[1].data
    code, facts, err = evaluate(run, cohort)
    assert (code, facts["patients"]) == (0, 4)
    assert "trained on the slide files of 1 slide of other patients here" in err


def test_equal_features_twice_of_one_patient_are_counted(run: Run, cohort: Path) -> None:
    save_bag(cohort.with_name("again.h5"), make_bag(1))
    cohort.write_text(cohort.read_text() + "\nJane Doe 1,again,again.h5,train,tumor")
    code, _, err = train(run, cohort)
    assert code == 0
    assert "warning: 1 slide has the features of another slide of the same patient" in err


def test_one_tcga_patient_under_two_names_is_refused(run: Run, cohort: Path) -> None:
    rename(cohort, "p1", "TCGA-A1-A0SK-01Z-00-DX1")
    rename(cohort, "p8", "tcga-a1-a0sk-01Z-00-DX2")
    code, _, err = train(run, cohort)
    assert code == 2
    assert "2 patients have the same TCGA barcode (TCGA-A1-A0SK-01Z" in err
    rename(cohort, "tcga-a1-a0sk-01Z-00-DX2", "TCGA-A1-A0SX-01Z-00-DX2")
    assert train(run, cohort)[0] == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TCGA-3C-AALI", "TCGA-3C-AALI"),
        ("TCGA-3C-AALI-01Z-00-DX1.F6E9", "TCGA-3C-AALI"),
        ("tcga-3c-aali_2", "TCGA-3C-AALI"),
        ("TCGA-3C-AALIX", ""),
        ("TCGA-3C", ""),
        ("P-TCGA-3C-AALI", ""),
    ],
)
def test_a_barcode_is_read_of_the_beginning_of_a_name(name: str, expected: str) -> None:
    assert participant(name) == expected


def test_a_test_patient_who_trained_under_another_name_is_left_out(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    card = load_checkpoint(cohort.with_name("m.safetensors"))[1]
    assert card.features is not None
    assert len(card.features.known) == 8
    rename(cohort, "Jane Doe 1", "Ann Other")
    code, facts, err = evaluate(run, cohort)
    assert (code, facts["patients"]) == (0, 4)
    assert "of 1 patients under other names: left out" in err
    code, facts, err = evaluate(run, cohort, "--split", "train")
    assert (code, facts["patients"]) == (0, 6)
    assert "barcodes of 1 patients under other names" in err
    assert "left out" not in err
    shown = run("info", cohort.with_name("m.safetensors"))[1]
    assert shown["features"]["mpp"] == [0.5, 0.5]
    assert "known" not in shown["features"]


def test_where_everybody_trained_under_another_name_nobody_is_left(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    lines = cohort.read_text().splitlines()
    cohort.write_text("\n".join([lines[0], *(f"X{line}" for line in lines[1:7])]))
    code, _, err = evaluate(run, cohort)
    assert code == 2
    assert "no other patient is left" in err


def test_a_card_of_an_earlier_version_is_read_and_compared(run: Run, cohort: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    assert train(run, cohort)[0] == 0
    path = cohort.with_name("m.safetensors")
    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    card.pop("features")
    save_file(tensors, path, metadata={"card": json.dumps(card | {"format": 2})})
    assert load_checkpoint(path)[1].features is None
    assert evaluate(run, cohort)[0] == 0
    save_bag(cohort.with_name("p9.h5"), rescaled(make_bag(9), 0.25))
    assert "the model was trained at 0.5" in evaluate(run, cohort)[2]


def test_training_names_all_files_that_cannot_be_read(run: Run, cohort: Path) -> None:
    cohort.with_name("p2.h5").write_bytes(b"rotten")
    cohort.with_name("p9.h5").unlink()
    code, _, err = train(run, cohort)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error")]
    assert "the features of 2 cases cannot be read" in line
    assert "p2.h5: not a readable HDF5 file" in line
    assert "no features at" in line
    assert "p9.h5" in line


def test_evaluation_goes_on_without_a_case_that_cannot_be_read(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    cohort.with_name("p9.h5").write_bytes(b"rotten")
    code, facts, err = evaluate(run, cohort)
    assert (code, facts["patients"], facts["failed"]) == (3, 3, 1)
    assert "p9.h5: not a readable HDF5 file" in err
    for k in (8, 10, 11):
        cohort.with_name(f"p{k}.h5").write_bytes(b"rotten")
    code, _, err = evaluate(run, cohort)
    assert code == 2
    assert "no features can be read" in err


@pytest.mark.parametrize(("factor", "said"), [(100.0, "median length of"), (0.0, "length of 0")])
def test_a_prediction_warns_of_features_far_from_the_trainings(
    run: Run, cohort: Path, factor: float, said: str
) -> None:
    assert train(run, cohort)[0] == 0
    path, model = cohort.with_name("p9.h5"), cohort.with_name("m.safetensors")
    assert run("predict", model, path)[1]["warnings"] == []
    bag = load_bag(path)
    save_bag(path, replace(bag, features=bag.features * factor))
    code, facts, err = run("predict", model, path)
    assert code == 0
    (warning,) = facts["warnings"]
    assert said in warning
    assert "those of training had" in warning
    assert f"warning: {warning}" in err


def test_a_prediction_warns_of_features_that_do_not_differ(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    path, model = cohort.with_name("p9.h5"), cohort.with_name("m.safetensors")
    bag = make_bag(9, 20)
    save_bag(path, replace(bag, features=bag.features[:1].repeat(20, 1)))
    assert "hardly differ between patches" in run("predict", model, path)[2]


def test_a_slide_that_cannot_be_read_is_named_and_the_patients_others_are_asked(
    run: Run, cohort: Path
) -> None:
    assert train(run, cohort)[0] == 0
    model = cohort.with_name("m.safetensors")
    save_bag(cohort.with_name("more.h5"), make_bag(40))
    cohort.write_text(cohort.read_text() + "\nJane Doe 9,more,more.h5,test,tumor")
    alone = run("predict", model, cohort.with_name("p9.h5"))[1]["probabilities"]
    cohort.with_name("more.h5").write_bytes(b"rotten")
    code, facts, err = run("predict", model, cohort, "--patient", "Jane Doe 9")
    assert code == 3
    assert facts["probabilities"] == pytest.approx(alone)
    assert list(facts["slides"]) == ["p9"]
    assert "more.h5: not a readable HDF5 file" in facts["failed slides"]["more"]
    assert "1 of 2 slides could not be read: not part of the prediction" in err


def test_all_patients_of_a_cohort_are_asked_and_each_has_an_outcome(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    model = cohort.with_name("m.safetensors")
    code, facts, _ = run("predict", model, cohort)
    assert (code, len(facts["patients"])) == (0, 12)
    whole = facts["patients"]["Jane Doe 8"]
    assert (
        whole["probabilities"]
        == run("predict", model, cohort.with_name("p8.h5"))[1]["probabilities"]
    )
    cohort.with_name("p9.h5").write_bytes(b"rotten")
    code, facts, _ = run("predict", model, cohort)
    assert (code, len(facts["patients"])) == (3, 12)
    assert "p9.h5: not a readable" in facts["patients"]["Jane Doe 9"]["failed"]
    assert facts["patients"]["Jane Doe 8"] == whole
    code, _, err = run("predict", model, cohort, "--patient", "Jane Doe 9")
    assert code == 2
    assert "p9.h5: not a readable" in err


def test_an_option_for_one_slide_is_refused_for_a_cohort(run: Run, cohort: Path) -> None:
    code, _, err = run("predict", cohort.with_name("m.safetensors"), cohort, "--patch-size", 256)
    assert code == 2
    assert "--patch-size 256 is for one slide" in err


def test_an_import_tells_of_one_tcga_patient_under_two_names(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table, study = tmp_path / "patients.csv", tmp_path / "study"
    rows = ["patient_id,slide_id,label", "TCGA-A1-A0SK-01,a,x", "TCGA-A1-A0SK-11,b,y"]
    rows += ["P3,TCGA-A1-A0SB-01Z-00-DX1,x", "P4,tcga-a1-a0sb-01Z-00-DX2,x", "P5,e,y"]
    table.write_text("\n".join(rows))
    assert main(["study", "create", str(study)]) == 0
    command = ["study", "import", str(study), "--table", str(table), "--keep-names"]
    capfd.readouterr()
    assert main([*command, "--dry-run"]) == 0
    said = "possibly one patient under several names (2): TCGA-A1-A0SK-01, TCGA-A1-A0SK-11; P3, P4"
    assert said in capfd.readouterr().out
    assert main(command) == 0
    assert f"warning: patients that share a TCGA barcode, {said}" in capfd.readouterr().err
    assert main(command) == 0
    assert said in capfd.readouterr().err
