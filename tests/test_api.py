"""The public API: names, lazy imports, and whole tasks in one call."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from cohorts import SPLITS, D, make_bag, write_manifest
from foreign import clam
from records import WARD, make_cohort, make_reader, make_slide

import napari_wsimil as wsi
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.store import save_bag
from napari_wsimil.models import create_model
from napari_wsimil.training.config import FoldRule, recipe, write_run
from napari_wsimil.workflows.library import new_run

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS: dict[str, Any] = {"model": "abmil", "options": {"width": 8}, "epochs": 1, "threads": 1}
PATCHES = {"mpp": 1.0, "pixels": 64, "min_tissue": 0.0}


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_importing_loads_no_heavy_package() -> None:
    heavy = "torch", "numpy", "pydantic", "qtpy", "PyQt5", "PyQt6", "napari"
    code = f"import sys, napari_wsimil; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code) == "[]"


def test_opening_a_slide_loads_neither_torch_nor_qt(coded_slide: Path) -> None:
    code = f"""
import sys, napari_wsimil as wsi
with wsi.open_slide({str(coded_slide)!r}) as slide:
    wsi.make_grid(slide, wsi.find_tissue(slide), mpp=1.0, pixels=64, min_tissue=0.0)
print([m for m in ("torch", "qtpy", "napari") if m in sys.modules])
"""
    assert run_python(code) == "[]"


def names_for_type_checkers() -> dict[str, str]:
    """Return the names that mypy and editors see, with their modules."""
    tree = ast.parse(Path(wsi.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    inner = [node for node in imports if (node.module or "").startswith("napari_wsimil")]
    return {alias.name: node.module or "" for node in inner for alias in node.names}


def test_every_public_name_is_what_type_checkers_see() -> None:
    stated = names_for_type_checkers()
    assert wsi.__all__ == sorted(stated)
    for name, module in stated.items():
        assert getattr(wsi, name) is getattr(import_module(module), name)


def test_names_are_listed_before_their_first_use() -> None:
    code = "import napari_wsimil as wsi; print({*wsi.__all__} - {*dir(wsi)}, 'Bag' in vars(wsi))"
    assert run_python(code) == "set() False"


def test_all_names_can_be_imported_at_once() -> None:
    names: dict[str, Any] = {}
    exec("from napari_wsimil import *", names)
    assert {*wsi.__all__} <= {*names}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'napari_wsimil' has no attribute 'open_slides'"):
        _ = wsi.open_slides  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "function",
    [wsi.extract_features, wsi.load_features, wsi.load_model, wsi.query, wsi.train, wsi.evaluate],
)
def test_docstrings_describe_parameters_results_and_errors(function: Callable[..., Any]) -> None:
    lines = (inspect.getdoc(function) or "").splitlines()
    described = {name.strip("* ") for line in lines for name in line.split(",")}
    assert {*inspect.signature(function).parameters} <= described
    assert {"Parameters", "Returns", "Raises", "Examples"} <= {*lines}
    assert sum(line.startswith(">>> ") for line in lines) == 2


def encode(slide: Path, *arguments: Any, **options: Any) -> wsi.Bag:
    with wsi.open_slide(slide) as opened:
        grid = wsi.make_grid(opened, wsi.find_tissue(opened), **PATCHES)
        return wsi.extract_features(opened, grid, *arguments, **options)


def test_features_are_those_of_the_built_in_encoder(coded_slide: Path) -> None:
    card = create_encoder().card
    threads = torch.get_num_threads()
    bag = encode(coded_slide)
    assert bag.grid is not None
    assert bag.features.shape == (len(bag.grid), card.dim)
    assert bag.encoder == card.identity
    assert torch.get_num_threads() == threads
    assert torch.equal(encode(coded_slide, create_encoder()).features, bag.features)


def test_features_are_written_and_loaded(coded_slide: Path, tmp_path: Path) -> None:
    bag = encode(coded_slide, path=f"{tmp_path}/a.h5")
    loaded = wsi.load_features(f"{tmp_path}/a.h5")
    assert torch.equal(loaded.features, bag.features)
    assert loaded.slide == bag.slide != ""


def test_unknown_encoders_and_needless_weights_are_refused(coded_slide: Path) -> None:
    with pytest.raises(ValueError, match="no encoder is called 'resnet'"):
        encode(coded_slide, "resnet")
    with pytest.raises(ValueError, match="weights w.bin are for a named encoder"):
        encode(coded_slide, create_encoder(), weights="w.bin")


def test_features_of_another_tool_are_loaded_with_options(tmp_path: Path) -> None:
    path = clam(tmp_path, "s1")
    bag = wsi.load_features(path, encoder="uni", stride=500)
    assert bag.grid is not None
    assert (bag.grid.patch_size, bag.grid.stride, bag.grid.pixels) == (512, 500, 256)
    assert bag.encoder == "uni (unverified)"
    other = wsi.load_features(path, patch_size=400, pixels=200)
    assert other.grid is not None
    assert (other.grid.patch_size, other.grid.pixels) == (400, 200)
    given = wsi.load_features(path, patches=f"{tmp_path}/patches/s1.h5")
    assert given.grid is not None
    assert given.grid.patch_size == 512


def test_a_query_names_patches_in_three_ways() -> None:
    model = create_model("querent", feature_dim=D, classes=2)
    bag = make_bag(0)
    expected = model.eval().explain(bag, torch.tensor([3]))
    for patches in (3, [3], torch.tensor([3])):
        maps = wsi.query(model.train(), bag, patches)
        assert [map_.name for map_ in maps] == [map_.name for map_ in expected]
        for one, other in zip(maps, expected, strict=True):
            assert torch.equal(one.scores.nan_to_num(), other.scores.nan_to_num())
            assert not one.scores.requires_grad
    with pytest.raises(ValueError, match="patches 0 to 11"):
        wsi.query(model, bag, 12)


def test_a_model_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="ABMIL supports no queries"):
        wsi.query(create_model("abmil", feature_dim=D, classes=2), make_bag(0), 0)


def test_what_if_compares_two_records() -> None:
    model, card = make_reader()
    record = make_cohort()[5]
    result = wsi.what_if(model, card, make_slide(), record, WARD.apply(record, {"ldh": "520"}))
    assert isinstance(result, wsi.WhatIf)
    assert result.changes == {"ldh": (250.0, 520.0)}


def test_training_takes_settings_a_run_or_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = write_manifest(tmp_path, SPLITS)
    out = f"{tmp_path}/model.safetensors"
    trained = wsi.train(cohort=str(cohort), out=out, **SETTINGS)
    run = new_run({"cohort": cohort, "out": out, **SETTINGS})
    write_run(f"{tmp_path}/run.json", run)
    for config in (run, f"{tmp_path}/run.json", tmp_path / "run.json"):
        assert wsi.train(config).card.weights == trained.card.weights
    model, card = wsi.load_model(out)
    assert isinstance(model, wsi.MILModel)
    assert card.weights == trained.card.weights
    assert "".join(capsys.readouterr()) == ""


def test_evaluation_agrees_with_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = write_manifest(tmp_path, SPLITS)
    trained = wsi.train(cohort=cohort, out=tmp_path / "m.safetensors", **SETTINGS)
    result = wsi.evaluate(trained.model, trained.card, str(cohort), split="test", draws=10)
    assert len(result.patients) == SPLITS.count("test")
    assert result.metrics["auc"]["value"] == trained.card.metrics["test auc"]
    default = wsi.evaluate(trained.model, trained.card, cohort, draws=10)
    assert default.patients == result.patients
    assert "".join(capsys.readouterr()) == ""


def test_evaluation_finds_features_and_checks_their_scale(tmp_path: Path) -> None:
    cohort = write_manifest(tmp_path, SPLITS)
    trained = wsi.train(cohort=cohort, out=tmp_path / "m.safetensors", **SETTINGS)
    card = trained.card.model_copy(update={"mpp": 8.0, "features": None})
    with pytest.raises(ValueError, match="µm per pixel"):
        wsi.evaluate(trained.model, card, cohort, split="test", draws=10)
    wsi.evaluate(trained.model, card, cohort, split="test", draws=10, mixed_scales=True)
    (tmp_path / "features").mkdir()
    save_bag(tmp_path / "features" / "q.h5", make_bag(101))
    cohort.write_text("patient_id,slide_id,label\nnew,q,tumor\n")
    result = wsi.evaluate(trained.model, trained.card, cohort, f"{tmp_path}/features", draws=10)
    assert [*result.patients] == ["new"]


def test_training_encodes_missing_slides_first(tmp_path: Path) -> None:
    cohort = write_manifest(tmp_path, SPLITS)
    rows = cohort.read_text().splitlines()
    rows[0] += ",slide_path"
    (tmp_path / "p0.h5").unlink()
    rows[1] += ",missing.svs"
    cohort.write_text("\n".join([*rows[:2], *(f"{row}," for row in rows[2:])]))
    with pytest.raises(ValueError, match="1 slides cannot be encoded: .*missing.svs"):
        wsi.train(cohort=cohort, out=tmp_path / "m.safetensors", **SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": "m.safetensors"}, "train: cohort: Field required"),
        ({"epochss": 3}, "train: epochss: Extra inputs"),
        ({"task": "cure"}, "train: task: "),
        ({"model": "resnet"}, 'unknown model "resnet"'),
        ({"fit": {}, "lr": 0.1}, "lr: give fit or its settings, not both"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    needed = {} if "out" in settings else {"cohort": "c.csv", "out": "m.safetensors"}
    with pytest.raises(ValueError, match=message):
        wsi.train(**needed, **settings)


def test_a_run_and_settings_are_not_both_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="epochs: give a run or its settings, not both"):
        wsi.train(tmp_path / "run.json", epochs=3)


def test_settings_that_are_not_given_are_those_of_the_recipe() -> None:
    run = new_run({"cohort": "c.csv", "out": "m.safetensors", "model": "querent", "seed": 5})
    assert run.fit.seed == 5
    assert (run.fit.epochs, run.fit.noise) == (recipe("querent").epochs, recipe("querent").noise)
    assert run.fold_rule is FoldRule.SLIDES
    assert run.threads == torch.get_num_threads()
    cox = new_run({"cohort": "c.csv", "out": "m.safetensors", "task": "cox", "time_unit": "d"})
    assert cox.fit.accumulate == 16
