"""Features keep the version of the readers, so that pixels read otherwise are known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from tiffs import Header, write_tiff

from napari_wsimil.cli.main import main
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.case import Case
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.models import create_model
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.reading import READER_VERSION, Reading
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.training.checkpoint import load_checkpoint, save_checkpoint
from napari_wsimil.training.model_card import describe
from napari_wsimil.workflows.load_features import Laid, features_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from windows import Docks

    from napari_wsimil.models.card import Card

    Run = Callable[..., tuple[int, str, str]]

CUT = ("--mpp", "1", "--pixels", "64")
EARLIER = "made with the earlier color of this slide"
UNSURE = "were made by an earlier reader (version 1, now 2)"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transparent slide, whose color changed, a plain one, and the features of both."""
    folder = tmp_path_factory.mktemp("slides")
    rng = np.random.default_rng(0)
    stained = rng.integers((130, 40, 120), (190, 100, 180), (1024, 1024, 3)).astype(np.uint8)
    alpha = np.zeros((1024, 1024, 1), np.uint8)
    alpha[:, :512] = 255
    rgba = np.concatenate([stained, alpha], axis=2)
    write_tiff(folder / "clear.tif", rgba, Header(extra=(2,)))
    stained[:, 512:] = 245
    write_tiff(folder / "plain.tif", stained, Header())
    for name in ("clear", "plain"):
        assert main(["extract", str(folder / f"{name}.tif"), "-o", str(folder), *CUT]) == 0
    return folder


@pytest.fixture
def checkpoint(folder: Path, tmp_path: Path) -> Path:
    """A model that learned from features of both slides."""
    bags = [load_bag(folder / f"{name}.h5") for name in ("clear", "plain")]
    torch.manual_seed(0)
    model = create_model("abmil", feature_dim=bags[0].features.shape[1], classes=2)
    card = describe(
        model,
        [Case(f"P{number}", (bag,), number) for number, bag in enumerate(bags)],
        classes=("normal", "tumor"),
        data="two slides",
        seed=0,
        salt="sea",
        created="2026-01-01",
    )
    save_checkpoint(tmp_path / "model.safetensors", model, card)
    return tmp_path / "model.safetensors"


def of_version_1(source: Path, target: Path, rows: int | None = None) -> Path:
    """Write features as the program did before it kept versions, or their first rows."""
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "r+") as file:
        del file.attrs["reader_version"], file.attrs["reader_changes"]
        if rows is not None:
            file["features"].resize(rows, axis=0)
            file["coords"].resize(rows, axis=0)
    return target


def laid(path: Path, slide_path: Path) -> Laid:
    """Return features on their slide as the window lays them."""
    with open_slide(slide_path) as slide:
        job = features_job(path, slide)
        while True:
            try:
                next(job)
            except StopIteration as end:
                return end.value


@pytest.mark.parametrize(("name", "changes"), [("clear", "color=2"), ("plain", "")])
def test_features_keep_the_version_and_what_changed(
    folder: Path, name: str, changes: str, run: Run
) -> None:
    with h5py.File(folder / f"{name}.h5") as file:
        assert file.attrs["reader_version"] == READER_VERSION
        assert file.attrs["reader_changes"] == changes
    facts = json.loads(run("info", folder / f"{name}.h5", "--json")[1])
    assert (facts["reader_version"], facts["warnings"]) == (READER_VERSION, [])


def test_a_run_does_not_go_on_after_rows_of_another_color(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    target = of_version_1(folder / "clear.h5", tmp_path / "clear.h5", rows=5)
    before = target.read_bytes()
    code, _, err = run("extract", folder / "clear.tif", "-o", tmp_path, *CUT)
    assert code == 2
    assert "clear.h5: cannot resume this file" in err
    assert "version 2 reads the color of this slide differently" in err
    assert target.read_bytes() == before


def test_a_run_goes_on_where_the_slide_is_read_as_before(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    target = of_version_1(folder / "plain.h5", tmp_path / "plain.h5", rows=5)
    assert run("extract", folder / "plain.tif", "-o", tmp_path, *CUT)[0] == 0
    whole = load_bag(folder / "plain.h5")
    assert torch.equal(load_bag(target).features, whole.features)


def test_a_finished_file_of_another_color_is_named(folder: Path, tmp_path: Path, run: Run) -> None:
    for name in ("clear", "plain"):
        of_version_1(folder / f"{name}.h5", tmp_path / f"{name}.h5")
        code, _, err = run("extract", folder / f"{name}.tif", "-o", tmp_path, *CUT)
        assert code == 0
        assert (EARLIER in err) == (name == "clear")
        assert f"{name}.h5" in err or name == "plain"


def test_the_window_knows_by_the_slide(folder: Path, tmp_path: Path, checkpoint: Path) -> None:
    model, card = load_checkpoint(checkpoint)
    old = of_version_1(folder / "clear.h5", tmp_path / "clear.h5")
    (warning,) = predict(model, card, laid(old, folder / "clear.tif").bag).warnings[:1]
    assert EARLIER in warning
    old = of_version_1(folder / "plain.h5", tmp_path / "plain.h5")
    assert predict(model, card, laid(old, folder / "plain.tif").bag).warnings == ()
    new = laid(folder / "clear.h5", folder / "clear.tif")
    assert predict(model, card, new.bag).warnings == ()


def test_the_window_says_so_when_features_are_opened(
    docks: Docks, folder: Path, tmp_path: Path
) -> None:
    for name in ("clear", "plain"):
        old = of_version_1(folder / f"{name}.h5", tmp_path / f"{name}.h5")
        docks.slide.open(folder / f"{name}.tif")
        docks.idle()
        docks.slide.features.open(old)
        docks.idle()
        assert docks.pane.bag is not None
        assert (EARLIER in docks.slide.features.passport.text()) == (name == "clear")


def test_without_the_slide_a_prediction_says_that_it_may_be(
    folder: Path, tmp_path: Path, checkpoint: Path, run: Run
) -> None:
    old = of_version_1(folder / "plain.h5", tmp_path / "plain.h5")
    code, out, err = run("predict", checkpoint, old, "--json")
    assert code == 0
    assert UNSURE in err
    assert UNSURE in json.loads(out)["warnings"][0]
    assert UNSURE not in run("predict", checkpoint, folder / "plain.h5")[2]


def test_features_of_another_program_have_no_version(
    folder: Path, tmp_path: Path, checkpoint: Path
) -> None:
    target = of_version_1(folder / "plain.h5", tmp_path / "other.h5")
    with h5py.File(target, "r+") as file:
        for name in ("software", "patches", "content_sha256"):
            del file.attrs[name]
        del file["features"].attrs["sealed"]
    bag = load_bag(target)
    assert bag.reading.version == 0
    assert predict(*load_checkpoint(checkpoint), bag).warnings == ()
    save_bag(tmp_path / "again.h5", bag)
    assert load_bag(tmp_path / "again.h5").reading.version == 0


def test_a_copy_keeps_the_version(folder: Path, tmp_path: Path) -> None:
    old = load_bag(of_version_1(folder / "clear.h5", tmp_path / "clear.h5"))
    for bag in (old, load_bag(folder / "clear.h5")):
        save_bag(tmp_path / "copy.h5", bag)
        assert load_bag(tmp_path / "copy.h5").reading == bag.reading


def test_the_card_has_the_versions_it_learned_from(folder: Path, checkpoint: Path) -> None:
    model, card = load_checkpoint(checkpoint)
    assert card.readers == (READER_VERSION,)
    earlier: Card = card.model_copy(update={"readers": (1,)})
    for name, said in (("clear", "reads the color of this slide differently"), ("plain", "")):
        warnings = predict(model, earlier, load_bag(folder / f"{name}.h5")).warnings
        assert len(warnings) == bool(said)
        assert said in "".join(warnings)


def test_a_card_notes_slides_of_another_color(folder: Path, tmp_path: Path) -> None:
    old = laid(of_version_1(folder / "clear.h5", tmp_path / "clear.h5"), folder / "clear.tif").bag
    new = load_bag(folder / "plain.h5")
    model = create_model("abmil", feature_dim=new.features.shape[1], classes=2)
    card = describe(
        model,
        [Case("P0", (old,), 0), Case("P1", (new,), 1)],
        classes=("normal", "tumor"),
        data="two slides",
        seed=0,
        salt="sea",
        created="2026-01-01",
    )
    assert card.readers == (1, 2)
    assert card.warnings == (f"1 of 2 slides: the features were {EARLIER}: extract them again",)


@pytest.mark.parametrize("placed", [True, False], ids=["slides known", "slides unknown"])
def test_an_evaluation_counts_slides_of_another_color(
    folder: Path, tmp_path: Path, checkpoint: Path, run: Run, placed: bool
) -> None:
    rows = ["patient_id,slide_id,slide_path,split,label"]
    for number, name in enumerate(("clear", "plain")):
        of_version_1(folder / f"{name}.h5", tmp_path / f"{name}.h5")
        where = folder / f"{name}.tif" if placed else ""
        rows.append(f"Q{number},{name},{where},test,{('normal', 'tumor')[number]}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    model, card = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, model, card.model_copy(update={"notes": ("a note",)}))
    where = (checkpoint, tmp_path / "cohort.csv", "--features", tmp_path, "--split", "test")
    code, _, err = run("evaluate", *where, "--draws", 100)
    assert code == 0, err
    assert "warning: a note" in err
    assert (f"1 of 2 slides: the features were {EARLIER}" in err) == placed
    assert (f"2 of 2 slides: the features {UNSURE}" in err) == (not placed)


def test_features_of_a_later_version_are_known_by_themselves(
    folder: Path, tmp_path: Path, checkpoint: Path, run: Run
) -> None:
    target = of_version_1(folder / "clear.h5", tmp_path / "clear.h5")
    with h5py.File(target, "r+") as file:
        file.attrs.update(reader_version=READER_VERSION + 1, reader_changes="color=3")
    row = f"Q0,clear,{folder / 'clear.tif'},test,normal"
    (tmp_path / "cohort.csv").write_text(f"patient_id,slide_id,slide_path,split,label\n{row}")
    where = (checkpoint, tmp_path / "cohort.csv", "--features", tmp_path, "--patient", "Q0")
    code, _, err = run("predict", *where)
    assert code == 0, err
    assert "made with the later color of this slide" in err


def test_fresh_features_state_their_reading(folder: Path) -> None:
    with open_slide(folder / "clear.tif") as slide:
        grid = make_grid(slide, find_tissue(slide), 1, 64)
        few = replace(grid, coords=grid.coords[:3])
        work = extract_features(slide, few, create_encoder())
        while True:
            try:
                next(work)
            except StopIteration as end:
                bag = end.value
                break
    assert bag.reading == Reading(READER_VERSION, {"color": 2})
