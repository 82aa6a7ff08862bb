"""Queries: a place on a slide becomes patches, and the model's answer a prediction's maps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.cli.main import main
from napari_wsimil.explain.predict import predict
from napari_wsimil.explain.query import ask, patches_in, summaries
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.store import save_bag
from napari_wsimil.models import create_model
from napari_wsimil.models.abmil import ABMIL
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.card import Card
from napari_wsimil.slides.geometry import Region
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models import MILModel

D, SIDE, STRIDE = 8, 6, 100
START = (1000, 500)


def make_grid(patch_size: int = STRIDE) -> PatchGrid:
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    coords = np.stack([columns, rows], axis=1).astype(np.int64) * STRIDE + START
    return PatchGrid(coords, patch_size=patch_size, stride=STRIDE, pixels=STRIDE, mpp=0.5)


def make_bag() -> Bag:
    x = torch.randn(SIDE * SIDE, D, generator=torch.Generator().manual_seed(1))
    return Bag(x, encoder="test", grid=make_grid())


def make_card(model: MILModel, name: str) -> Card:
    return Card(
        model=name,
        config=model.config,
        encoder="test",
        encoder_dim=D,
        mpp=0.5,
        pixels=STRIDE,
        classes=("normal", "tumor"),
        data="made up",
        synthetic=False,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )


class Answering(ABMIL):
    """Answers a query with the patches that were asked about."""

    def explain(self, bag: Bag, query: Tensor | None = None) -> tuple[Explanation, ...]:
        if query is None:
            return self(bag).explanations  # type: ignore[no-any-return]
        asked = torch.zeros(len(bag)).index_fill(0, query, 1.0)
        return (Explanation("asked", ExplanationKind.SCORE, asked),)


def test_a_point_asks_about_the_patch_it_lies_in() -> None:
    assert patches_in(make_grid(), Region(1000, 500, 1, 1)).tolist() == [0]
    assert patches_in(make_grid(), Region(1299, 699, 1, 1)).tolist() == [SIDE + 2]


def test_where_patches_overlap_a_point_asks_about_all_of_them() -> None:
    grid = make_grid(patch_size=150)
    assert patches_in(grid, Region(1120, 500, 1, 1)).tolist() == [0, 1]


def test_an_area_asks_about_every_patch_it_touches() -> None:
    found = patches_in(make_grid(), Region(1199, 599, 2, 2))
    assert found.tolist() == [1, 2, SIDE + 1, SIDE + 2]
    assert patches_in(make_grid(), Region(1100, 500, 100, 100)).tolist() == [1]


@pytest.mark.parametrize("x", [999, 1000 + SIDE * STRIDE])
def test_a_place_without_patches_is_refused_and_told_where_they_are(x: int) -> None:
    with pytest.raises(ValueError, match=r"no patch.*from \(1000, 500\) to \(1600, 1100\)"):
        patches_in(make_grid(), Region(x, 500, 1, 1))


def test_the_answer_takes_the_place_of_the_maps_and_nothing_else() -> None:
    model = Answering(feature_dim=D, classes=2)
    found = predict(model, make_card(model, "abmil"), make_bag())
    asked = ask(model.train(), found, Region(1100, 500, 200, 1))
    assert [m.name for m in asked.explanations] == ["asked"]
    assert asked.explanations[0].scores.nonzero().flatten().tolist() == [1, 2]
    assert asked.bag is found.bag
    assert torch.equal(asked.logits, found.logits)
    assert not model.training


def test_a_model_without_queries_says_so() -> None:
    model = ABMIL(feature_dim=D, classes=2)
    found = predict(model, make_card(model, "abmil"), make_bag())
    with pytest.raises(ValueError, match="abmil supports no queries"):
        ask(model, found, Region(1000, 500, 1, 1))


def test_without_places_there_is_nothing_to_ask_about() -> None:
    model = Answering(feature_dim=D, classes=2)
    found = predict(model, make_card(model, "abmil"), Bag(make_bag().features, encoder="test"))
    with pytest.raises(ValueError, match="no coordinates"):
        ask(model, found, Region(1000, 500, 1, 1))


def test_a_summary_tells_limits_and_the_highest_patch_and_passes_over_the_unknown() -> None:
    model = Answering(feature_dim=D, classes=2)
    found = predict(model, make_card(model, "abmil"), make_bag())
    scores = torch.arange(SIDE * SIDE, dtype=torch.float32)
    scores[-1] = torch.nan
    partly = Explanation("evidence: 1", ExplanationKind.EVIDENCE, scores, class_index=1)
    nothing = Explanation("seen", ExplanationKind.ORDER, torch.full((SIDE * SIDE,), torch.nan))
    told = summaries(_with(found, partly, nothing))
    last = [START[0] + (SIDE - 2) * STRIDE, START[1] + (SIDE - 1) * STRIDE]
    assert told["evidence: tumor"] == {
        "kind": "evidence",
        "patches": SIDE * SIDE - 1,
        "lowest": 0.0,
        "highest": SIDE * SIDE - 2.0,
        "highest at": last,
    }
    assert told["seen"] == {"kind": "order", "patches": 0}


def _with(found: Prediction, *maps: Explanation) -> Prediction:
    return replace(found, explanations=maps)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Checkpoints of a model with queries and of one without, and a bag's file."""
    torch.manual_seed(0)
    paths = {"features": tmp_path / "slide.h5"}
    save_bag(paths["features"], make_bag())
    for name in ("querent", "abmil"):
        model = create_model(name, feature_dim=D, classes=2)
        paths[name] = tmp_path / f"{name}.safetensors"
        save_checkpoint(paths[name], model, make_card(model, name))
    return paths


def explain(*arguments: object) -> int:
    return main(["explain", *(str(argument) for argument in arguments)])


def test_explain_draws_the_map_that_is_named(files: dict[str, Path]) -> None:
    out = files["features"].with_suffix(".PNG")
    assert explain(files["abmil"], files["features"], "--map", "attention", "--out", out) == 0
    assert out.exists()


def test_explain_tells_the_maps_of_a_slide(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(files["abmil"], files["features"], "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["patches"] == SIDE * SIDE
    assert told["maps"]["attention"]["kind"] == "attention"
    assert "file" not in told


@pytest.mark.parametrize("place", [["--query", "1150,550"], ["--area", "1100,500,300,200"]])
def test_explain_asks_about_a_place_and_writes_the_answer(
    files: dict[str, Path], place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = files["features"].with_suffix(".csv")
    assert explain(files["querent"], files["features"], *place, "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(out)
    header = out.read_text().splitlines()[0]
    assert told["maps"]
    assert all(title in header for title in told["maps"])


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (["--query", "1150,550"], "abmil supports no queries"),
        (["--query", "1150"], "is not --query X,Y"),
        (["--query", "a,b"], "is not --query X,Y"),
        (["--area", "1,2,3"], "is not --area X,Y,WIDTH,HEIGHT"),
        (["--area", "1,2,0,3"], "has no pixels"),
        (["--query", "1,2", "--area", "1,2,3,4"], "give one of them"),
        (["--query", "1,2"], "no patch overlaps"),
        (["--looks", "2"], "is not a sequential model"),
        (["--looks", "2", "--query", "1150,550"], "give one"),
        (["--map", "attention"], "--map attention is for a picture (.png): write one with --out"),
        (["--map", "attention", "--out", "m.csv"], "is for a picture (.png), not m.csv"),
        (["--weights", "w.pth"], "--weights w.pth is for a slide, not "),
        (["--slide-mpp", "0.5"], "--slide-mpp 0.5 is for a slide, not "),
    ],
)
def test_explain_refuses_in_one_line(
    files: dict[str, Path],
    place: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert explain(files["abmil"], files["features"], *place) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("error:")]) == 1
    assert sentence in said[-1]
