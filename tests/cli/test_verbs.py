"""The command line: the whole path on a tiny cohort, and errors in one line."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import tifffile
import torch

from napari_wsimil.cli.main import main
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.synthetic import SlideRecipe, write_phantom
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.workflows.pipeline import PatchSettings
from napari_wsimil.workflows.slides import encode_missing

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]

VERBS = (
    "info",
    "phantom",
    "extract",
    "train",
    "models",
    "evaluate",
    "predict",
    "effect",
    "export-map",
    "view",
    "demo",
)
SPLITS = ("train", "train", "train", "train", "validation", "validation", "test", "test")
MODEL = "model.safetensors"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with eight tiny phantoms, their manifest, features and a trained model."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")
    rows = ["patient_id,slide_id,slide_path,split,label"]
    for number, split in enumerate(SPLITS):
        lesions = {"A": 0.5} if number % 2 else {}
        recipe = SlideRecipe(
            width=512, height=512, seed=number, lesions=lesions, pieces=1, folds=0, pen_marks=0
        )
        finish(write_phantom(folder / f"s{number}.tiff", recipe))
        label = "tumor" if number % 2 else "normal"
        rows.append(f"Jane Doe {number},s{number},s{number}.tiff,{split},{label}")
    cohort = folder / "cohort.csv"
    cohort.write_text("\n".join(rows))
    features = folder / "features"
    patches = ["--mpp", "1", "--pixels", "64"]
    assert main(["extract", str(cohort), "-o", str(features), *patches]) == 0
    model = [str(cohort), "-o", str(folder / MODEL), "--features", str(features)]
    assert main(["train", *model, "--epochs", "3", "--model", "abmil"]) == 0
    return folder


def read_json(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return content


def test_the_model_says_how_it_did_on_patients_it_never_saw(study: Path, run: Run) -> None:
    code, out, _ = run("info", study / MODEL, "--json")
    facts = read_json(out)
    assert code == 0
    assert facts["classes"] == ["normal", "tumor"]
    assert facts["training_patients"] == 6
    assert facts["synthetic"] is True
    assert (facts["mpp"], facts["pixels"]) == (1.0, 64)
    assert 0 <= facts["metrics"]["test auc"] <= 1
    assert "salt" not in facts


def test_evaluation_is_of_patients_the_model_was_not_trained_on(study: Path, run: Run) -> None:
    where = (study / MODEL, study / "cohort.csv", "--features", study / "features")
    code, out, _ = run("evaluate", *where, "--json", "--draws", 100)
    facts = read_json(out)
    assert code == 0
    assert facts["patients"] == 2
    assert set(facts["metrics"]) == {"auc", "balanced_accuracy", "macro_f1"}
    auc = facts["metrics"]["auc"]
    assert 0 <= auc["value"] <= 1
    assert (auc["low"], auc["high"]) == (None, None)
    assert auc["reason"] == "no interval for fewer than 10 patients (2)"
    assert "Jane" not in out
    _, out, err = run("evaluate", *where, "--split", "train", "--json", "--identifying")
    assert set(read_json(out)["probabilities"]) == {f"Jane Doe {n}" for n in range(4)}
    assert "trained on" in err


def test_a_split_nobody_is_in_is_refused(study: Path, run: Run) -> None:
    where = (study / MODEL, study / "cohort.csv", "--features", study / "features")
    assert run("evaluate", *where, "--split", "tets")[0] == 2


def test_a_slide_and_its_features_get_the_same_answer(study: Path, run: Run) -> None:
    code, out, err = run("predict", study / MODEL, study / "s7.tiff", "--json")
    slide = read_json(out)
    assert code == 0
    assert "hours" in err
    features = read_json(run("predict", study / MODEL, study / "features" / "s7.h5", "--json")[1])
    assert slide == features
    assert sum(slide["probabilities"].values()) == pytest.approx(1)
    assert slide["synthetic"] is True


def test_a_real_slide_is_warned_about_by_a_model_of_phantoms(
    study: Path, small_slide: Path, run: Run
) -> None:
    out = study / "real.csv"
    code, _, err = run("export-map", study / MODEL, small_slide, out, "--slide-mpp", 0.1)
    assert code == 0
    assert "warning: model trained on synthetic slides: result not meaningful" in err
    assert {row["synthetic"] for row in csv.DictReader(out.open())} == {"0"}
    assert "CMU" not in out.read_text()


@pytest.mark.parametrize("ending", ["csv", "geojson", "png"])
def test_a_map_is_exported_by_ending(study: Path, run: Run, ending: str) -> None:
    out = study / f"map.{ending}"
    code, said, _ = run("export-map", study / MODEL, study / "features" / "s7.h5", out, "--json")
    assert code == 0
    assert read_json(said)["synthetic"] is True
    assert out.stat().st_size > 500
    if ending != "png":
        assert "synthetic" in out.read_text()
        assert "s7" not in out.read_text()


def test_an_extraction_goes_on_where_it_ended(study: Path, run: Run) -> None:
    target = study / "features" / "s0.h5"
    before = target.read_bytes()
    code, out, _ = run(
        "extract", study / "s0.tiff", "-o", target.parent, "--mpp", 1, "--pixels", 64, "--json"
    )
    assert code == 0
    assert read_json(out)["patches"]["s0"] > 0
    assert target.read_bytes()[-64:] == before[-64:]


def test_training_takes_up_an_extraction_that_was_stopped(
    study: Path, tmp_path: Path, run: Run
) -> None:
    features = tmp_path / "features"
    shutil.copytree(study / "features", features)
    whole = load_bag(features / "s3.h5")
    (features / "s3.h5").unlink()
    stop_early(study / "s3.tiff", features / "s3.h5")
    command = ("train", study / "cohort.csv", "-o", tmp_path / MODEL, "--features", features)
    code, _, err = run(*command, "--epochs", 1)
    assert code == 2  # this one was begun at another size than train's
    assert "s3.h5: cannot resume" in err.splitlines()[-1]
    settings = PatchSettings(mpp=1, pixels=64)
    finish(encode_missing(read_manifest(study / "cohort.csv"), features, settings))
    assert torch.equal(load_bag(features / "s3.h5").features, whole.features)
    assert run(*command, "--epochs", 1)[0] == 0


def stop_early(slide_path: Path, target: Path) -> None:
    """Leave the file of an extraction that was stopped before its last patch."""
    with open_slide(slide_path) as slide:
        grid = make_grid(slide, find_tissue(slide), 1, 64)
        work = extract_features(slide, grid, create_encoder(), target, batch=1)
        for _ in range(len(grid)):
            next(work)
        work.close()


def test_a_cohort_is_encoded_by_one_encoder_and_told_its_cost_once(
    study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("s0", "s1"):
        shutil.copy(study / "features" / f"{name}.h5", tmp_path)
    made = []
    monkeypatch.setattr(
        "napari_wsimil.workflows.pipeline.create_encoder",
        lambda *given: made.append(given) or create_encoder(*given),
    )
    command = ("extract", study / "cohort.csv", "-o", tmp_path, "--mpp", 1, "--pixels", 64)
    code, _, err = run(*command)
    assert (code, len(made)) == (0, 1)
    assert err.count("hours (") == 1
    assert "per slide, 6 slides" in err
    tissue = "napari_wsimil.workflows.pipeline.find_tissue"
    monkeypatch.setattr(tissue, lambda _: pytest.fail("a finished slide is looked at again"))
    code, out, err = run(*command, "--json")
    assert code == 0
    assert set(read_json(out)["patches"]) == {f"s{n}" for n in range(8)}
    assert "hours" not in err


def test_an_encoder_tells_its_license_and_where_it_is_out_of_its_size(
    study: Path, tmp_path: Path, run: Run
) -> None:
    command = ("extract", study / "s0.tiff", "-o", tmp_path, "--pixels", 64)
    _, _, err = run(*command, "--mpp", 0.52)
    assert "encoder stain-texture@" in err
    assert "BSD-3-Clause" in err
    assert "warning" not in err
    _, _, err = run("extract", study / "s1.tiff", "-o", tmp_path, "--pixels", 64, "--mpp", 0.56)
    assert "warning: stain-texture was made for 0.5 µm per pixel, patches have 0.56" in err


def test_features_that_do_not_state_their_size_take_it_as_an_option(
    study: Path, tmp_path: Path, run: Run
) -> None:
    bag = load_bag(study / "features" / "s7.h5")
    assert bag.grid is not None
    path = tmp_path / "clam.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = bag.features.numpy(), bag.grid.coords
        file["features"].attrs["encoder"] = bag.encoder
    code, _, err = run("predict", study / MODEL, path)
    assert code == 2
    assert "--patch-size" in err
    size = ("--patch-size", bag.grid.patch_size)
    code, out, _ = run("predict", study / MODEL, path, *size, "--json")
    assert code == 0
    assert read_json(out)["patches"] == len(bag)
    out_map = tmp_path / "map.csv"
    assert run("export-map", study / MODEL, path, out_map, *size)[0] == 0
    assert run("predict", study / MODEL, study / "s7.tiff", *size)[0] == 2


def test_a_slide_of_malformed_ome_xml_is_refused_in_one_line(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "broken.ome.tif"
    pixels = np.zeros((64, 64, 3), np.uint8)
    header = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/OME"><Pixels </OME>'
    tifffile.imwrite(path, pixels, photometric="rgb", description=header, metadata=None)
    code, _, err = run("info", path)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "broken.ome.tif" in err


def test_features_of_another_size_are_not_mixed(study: Path, run: Run) -> None:
    code, _, err = run(
        "extract", study / "s0.tiff", "-o", study / "features", "--mpp", 1, "--pixels", 80
    )
    assert code == 2
    assert "s0.h5" in err.splitlines()[-1]


def test_a_phantom_is_written_with_its_truth(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "p.tiff"
    code, out, _ = run("phantom", path, "--size", 256, "--lesion", "B=0.2", "--json")
    assert code == 0
    assert Path(read_json(out)["truth"]).exists()
    assert read_json(run("info", path, "--json")[1])["synthetic"] is True


def test_facts_name_nobody_unless_asked(small_slide: Path, study: Path, run: Run) -> None:
    code, out, _ = run("info", small_slide, "--json")
    assert code == 0
    assert (read_json(out)["width_px"], read_json(out)["mpp_um"]) == (2220, 0.499)
    assert not {"associated", "header"} & set(read_json(out))
    facts = read_json(run("info", small_slide, "--json", "--identifying")[1])
    assert "label" in facts["associated"]
    assert facts["header"]
    assert "Jane" not in run("info", study / "cohort.csv")[1]
    assert "Jane" in run("info", study / "cohort.csv", "--identifying")[1]


def test_every_malformed_file_is_told_of_in_one_line(data: Path, run: Run) -> None:
    paths = sorted((data / "malformed").iterdir())
    assert len(paths) > 50
    for path in paths:
        code, out, err = run("info", path)
        assert code in (0, 2), path
        assert "Traceback" not in out + err, path
        if code == 2:
            assert len(err.splitlines()) == 1, path
            assert path.name in err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["info", "--colour"], "--colour"),
        (["inform"], "inform"),
        (["info"], "path"),
        (["info", "/nowhere/x.svs"], "x.svs"),
        (["info", "/nowhere/x.csv"], "x.csv"),
        (["info", "/nowhere/x.h5"], "x.h5"),
        (["info", "/nowhere/x.safetensors"], "x.safetensors"),
        (["phantom", "/tmp/x.tiff", "--lesion", "Q"], "'Q'"),
        (["phantom", "/tmp/x.tiff", "--lesion", "Q=0.1"], "'Q'"),
        (["phantom", "/tmp/x.tiff", "--size", "1"], "width"),
        (["train", "c.csv", "-o", "m.safetensors", "--epochs", "0"], "--epochs"),
    ],
)
def test_an_error_is_one_line_that_names_its_cause(
    run: Run, arguments: list[str], names: str
) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert names in err


@pytest.mark.parametrize(
    ("option", "value", "names"),
    [("--model", "resnet", "resnet"), ("--lr", "-1", "lr"), ("--features", "/nowhere", "nowhere")],
)
def test_training_names_what_it_cannot_use(
    study: Path, run: Run, option: str, value: str, names: str
) -> None:
    manifest = study / "unplaced.csv"
    manifest.write_text(
        (study / "cohort.csv").read_text().replace(".tiff", "").replace("slide_path", "note")
    )
    features = [] if option == "--features" else ["--features", study / "features"]
    code, _, err = run("train", manifest, "-o", study / "no.safetensors", *features, option, value)
    assert code == 2
    assert names in err.splitlines()[-1]
    assert not (study / "no.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--weights", "w.pth", "--weights w.pth is for models that read sub-patches, not acmil"),
        ("--time-unit", "months", "--time-unit months is for survival, not classification"),
        ("--folds", 5, "--folds 5 is for a manifest without a split, not "),
        ("--fold", 0, "--fold 0 is for a manifest without a split, not "),
    ],
)
def test_training_refuses_an_option_that_would_do_nothing(
    study: Path, run: Run, option: str, value: object, sentence: str
) -> None:
    how = ("-o", study / "no.safetensors", "--features", study / "features", option, value)
    code, _, err = run("train", study / "cohort.csv", *how)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert sentence in err
    assert not (study / "no.safetensors").exists()


def test_a_fold_of_a_manifest_without_a_split_is_trained(
    study: Path, tmp_path: Path, run: Run
) -> None:
    rows = [line.split(",") for line in (study / "cohort.csv").read_text().splitlines()]
    manifest = study / "whole.csv"
    manifest.write_text("\n".join(",".join([*row[:3], row[4]]) for row in rows))
    how = ("--features", study / "features", "--epochs", 1, "--folds", 4)
    first, out = tmp_path / "first.safetensors", tmp_path / "last.safetensors"
    assert run("train", manifest, "-o", first, *how)[0] == 0
    assert run("train", manifest, "-o", out, *how, "--fold", 3)[0] == 0
    assert run("train", manifest, "-o", out, *how, "--fold", 4)[0] == 2


def test_weights_of_an_encoder_are_refused_where_nothing_is_encoded(study: Path, run: Run) -> None:
    where = (study / MODEL, study / "cohort.csv", "--features", study / "features")
    code, _, err = run("evaluate", *where, "--weights", "w.pth")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--weights w.pth is for models that read sub-patches, not abmil" in err
    features = study / "features" / "s7.h5"
    for option, value in (("--weights", "w.pth"), ("--slide-mpp", 0.5)):
        code, _, err = run("predict", study / MODEL, features, option, value)
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"{option} {value} is for a slide, not {features}" in err


def test_a_map_is_named_for_pictures_alone(study: Path, run: Run) -> None:
    where = (study / MODEL, study / "features" / "s7.h5")
    assert run("export-map", *where, study / "named.png", "--map", "attention")[0] == 0
    code, _, err = run("export-map", *where, study / "named.csv", "--map", "attention")
    assert code == 2
    assert "--map attention is for a picture (.png), not " in err
    assert not (study / "named.csv").exists()


def test_help_tells_what_is_special_to_the_models_that_look_closer(run: Run) -> None:
    told = [
        " ".join(run(verb, "--help")[1].replace("│", " ").split()) for verb in ("train", "predict")
    ]
    assert told[0].count("sasha: of its first") == 2
    assert "sasha and hafed require the slide" in told[1]


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(OSError, match=r"x\.svs"):
        main(["--debug", "info", "/nowhere/x.svs"])


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_by_example(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"napari-wsimil {verb}" in out.split("Examples")[1]


def test_a_window_that_is_not_installed_is_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, _, err = run("view", "x.svs")
    assert code == 2
    assert "pip install" in err


def test_the_demo_study_is_made_once(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "cases.toml"
    recipe.write_text(
        'task = "three-class"\npatients = 4\nslides = [1, 1]\nambiguous = 1.0\n'
        "[slide]\nwidth = 1280\nheight = 1280\npieces = 1\nfolds = 0\npen_marks = 0\n"
    )
    monkeypatch.setattr("napari_wsimil.workflows.demo.CASES", recipe)
    command = ("demo", "--prepare-only", "--folder", tmp_path / "demo", "--json")
    code, out, _ = run(*command)
    made = read_json(out)
    assert code == 0
    assert made.pop("synthetic") is True
    assert {name for name, path in made.items() if not Path(path).exists()} == set()
    before = Path(made["slide"]).stat().st_mtime_ns
    assert read_json(run(*command)[1]) == {**made, "synthetic": True}
    assert Path(made["slide"]).stat().st_mtime_ns == before
    patients = read_cohort(Path(made["study"]), None).patients
    assert Path(made["slide"]) == patients[1].slides[0].slide_path  # the last that has one
    recipe.write_text(recipe.read_text().replace("patients = 4", "patients = 5"))
    changed = read_json(run(*command)[1])
    assert changed["slide"] != made["slide"]
    assert len(read_cohort(Path(changed["study"]), None).patients) == 5


@pytest.mark.parametrize("arguments", [["--help"], ["info", "SLIDE"]])
def test_the_quick_verbs_load_neither_torch_nor_napari(
    small_slide: Path, arguments: list[str]
) -> None:
    code = (
        "import sys; from napari_wsimil.cli.main import main; done = main(sys.argv[1:]); "
        "heavy = {'torch', 'napari', 'qtpy', 'vispy'} & set(sys.modules); "
        "sys.exit(f'{done} {heavy}' if done or heavy else 0)"
    )
    words = [str(small_slide) if word == "SLIDE" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_features_of_another_encoder_are_not_evaluated(
    study: Path, tmp_path: Path, run: Run
) -> None:
    for path in (study / "features").glob("*.h5"):
        bag = load_bag(path)
        save_bag(tmp_path / path.name, replace(bag, encoder="other@1"))
    cohort = study / "cohort.csv"
    code, _, err = run("evaluate", study / MODEL, cohort, "--features", tmp_path)
    assert code == 2
    assert "other@1" in err.splitlines()[-1]


def test_features_of_several_encoders_are_not_trained_on(
    study: Path, tmp_path: Path, run: Run
) -> None:
    for path in (study / "features").glob("*.h5"):
        bag = load_bag(path)
        encoder = "other@1" if path.stem == "s7" else bag.encoder
        save_bag(tmp_path / path.name, replace(bag, encoder=encoder))
    where = (study / "cohort.csv", "-o", tmp_path / "no.safetensors", "--features", tmp_path)
    code, _, err = run("train", *where)
    assert code == 2
    assert "several encoders" in err
