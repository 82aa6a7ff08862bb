"""Models that look closer: trained, evaluated and asked through the slides themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_wsimil.cli.main import main
from napari_wsimil.cohort.manifest import SlideRow
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.features.subpatches import FineFeatures
from napari_wsimil.models import model_class
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.synthetic import SlideRecipe, write_phantom
from napari_wsimil.training.bag_files import BagFiles
from napari_wsimil.training.config import RunConfig
from napari_wsimil.training.subpatch_provider import SIDE, CloserLook, closer_for, cost_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

PATCHES = 3


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
    """A folder with six patients who share a tiny slide, three patches of it each."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("closer")
    size = {"width": 1024, "height": 1024, "pieces": 1, "folds": 0, "pen_marks": 0}
    recipe = SlideRecipe(seed=1, lesions={}, **size)
    finish(write_phantom(folder / "slide.tiff", recipe))
    with open_slide(folder / "slide.tiff") as slide:
        grid = make_grid(slide, find_tissue(slide), 1, 64)
        rows = ["patient_id,slide_id,slide_path,split,label"]
        for k, split in enumerate(("train", "train", "validation", "validation", "test", "test")):
            few = replace(grid, coords=grid.coords[PATCHES * k : PATCHES * (k + 1)])
            bag = finish(extract_features(slide, few, create_encoder()))
            save_bag(folder / f"s{k}.h5", bag)
            rows.append(f"p{k},s{k},slide.tiff,{split},{'AB'[k % 2]}")
    (folder / "cohort.csv").write_text("\n".join(rows))
    return folder


def test_a_bag_is_given_the_sub_patches_of_its_own_slide_and_encoder(study: Path) -> None:
    bag = load_bag(study / "s0.h5")
    closer = CloserLook()
    found = closer(SlideRow("s0", slide_path=study / "slide.tiff"), bag)
    assert isinstance(found.finer, FineFeatures)
    assert found.finer.calls == 0
    assert found.finer(1).shape == (SIDE**2, bag.features.shape[1])
    assert closer.encoder(bag) is closer.encoder(bag)
    with pytest.raises(ValueError, match="'s0' has no slide_path"):
        closer(SlideRow("s0"), bag)


def test_bags_of_a_patient_are_looked_at_closer_whenever_they_are_read(study: Path) -> None:
    row = SlideRow("s0", slide_path=study / "slide.tiff")
    assert BagFiles((row,), study, closer=CloserLook())[0].finer is not None
    assert BagFiles((row,), study)[0].finer is None


def test_only_models_that_need_it_look_closer() -> None:
    assert closer_for(model_class("abmil"), None) is None
    assert closer_for(model_class("sasha"), None) is not None


def test_the_cost_counts_every_patch_of_every_slide(study: Path) -> None:
    manifest = read_manifest(study / "cohort.csv")
    config = RunConfig(
        cohort=study / "cohort.csv",
        out=study / "sasha.safetensors",
        model="sasha",
        options={"budget": 0.5},
        features=study,
        threads=1,
    )
    cost = cost_of(manifest, config, CloserLook())
    assert cost.hours > 0
    looked = 2 * SIDE**2  # half of three patches, rounded up
    assert cost.share == pytest.approx((PATCHES + looked) / (PATCHES * SIDE**2))


def test_a_model_that_looks_closer_goes_the_whole_path(
    study: Path, tmp_path: Path, run: Run
) -> None:
    out, cohort = tmp_path / "sasha.safetensors", study / "cohort.csv"
    how = ("--model", "sasha", "--features", study, "--epochs", 1, "--option", "budget=0.4")
    code, _, err = run("train", cohort, "-o", out, *how)
    assert code == 0, err
    assert "Training encodes all sub-patches of all slides" in err
    where = (out, cohort, "--features", study, "--draws", 100)
    code, said, err = run("evaluate", *where, "--json")
    assert code == 0, err
    assert json.loads(said)["patients"] == 2
    code, _, err = run("predict", out, study / "s4.h5")
    assert code == 2
    assert "sub-patch features" in err.splitlines()[-1]
    code, said, err = run("predict", out, study / "slide.tiff", "--json")
    assert code == 0, err
    assert sum(json.loads(said)["probabilities"].values()) == pytest.approx(1)
    code, said, err = run("explain", out, study / "slide.tiff", "--looks", 1, "--json")
    assert code == 0, err
    told = json.loads(said)
    assert told["maps"]["order so far"]["patches"] == 1
    assert told["maps"]["policy of the next look"]["patches"] == told["patches"]
    assert 1 <= told["maps"]["attention so far"]["effective"] <= told["patches"]
    code, _, err = run("explain", out, study / "slide.tiff", "--looks", 99)
    assert code == 2
    assert "step 99" in err.splitlines()[-1]


def test_a_slide_that_is_not_there_is_asked_for(study: Path, tmp_path: Path, run: Run) -> None:
    cohort = tmp_path / "cohort.csv"
    cohort.write_text((study / "cohort.csv").read_text().replace("slide.tiff", ""))
    how = ("--model", "sasha", "--features", study)
    code, _, err = run("train", cohort, "-o", tmp_path / "no.safetensors", *how)
    assert code == 2
    assert "no slide_path" in err.splitlines()[-1]
