"""Exports: every map at its place, in other tools' formats, naming nobody."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_wsimil.explain.color_scale import DEFAULT_TOP, Stretch, scaled
from napari_wsimil.explain.export import export_map, find_map, map_picture
from napari_wsimil.explain.predict import Prediction
from napari_wsimil.features.bag import Bag
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.card import Card
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from pathlib import Path

COORDS = np.array([[0, 0], [100, 0], [100, 100], [400, 300]])
ATTENTION = torch.tensor([0.1, 0.2, 0.3, 0.4])
EVIDENCE = torch.tensor([-2.0, 1.0, 0.5, float("nan")])


@pytest.fixture
def prediction() -> Prediction:
    """Four patches of 100 level-0 pixels at 0.25 µm, shown to the encoder as 50 at 0.5."""
    grid = PatchGrid(COORDS, patch_size=100, stride=100, pixels=50, mpp=0.5)
    card = Card(
        model="abmil",
        config={"feature_dim": 3, "classes": 2},
        encoder="e@1",
        encoder_dim=3,
        classes=("normal", "tumor"),
        data="patients of a hospital",
        synthetic=False,
        seed=0,
        threads=1,
        versions={},
        created="2026-11-21",
    )
    return Prediction(
        bag=Bag(torch.zeros(4, 3), encoder="e@1", grid=grid, slide="f00d"),
        card=card,
        logits=torch.tensor([0.0, 1.0]),
        probabilities=torch.tensor([0.3, 0.7]),
        explanations=(
            Explanation("attention", ExplanationKind.ATTENTION, ATTENTION),
            Explanation("evidence: 1", ExplanationKind.EVIDENCE, EVIDENCE, class_index=1),
        ),
        scalars={},
        warnings=(),
    )


@pytest.fixture
def synthetic(prediction: Prediction) -> Prediction:
    return replace(prediction, bag=replace(prediction.bag, synthetic=True))


def test_a_table_has_every_map_beside_its_place(prediction: Prediction, tmp_path: Path) -> None:
    path = export_map(prediction, tmp_path / "map.csv")
    rows = list(csv.DictReader(path.open()))
    assert [(int(row["x"]), int(row["y"])) for row in rows] == [tuple(c) for c in COORDS]
    assert {row["width"] for row in rows} == {row["height"] for row in rows} == {"100"}
    np.testing.assert_allclose([float(row["attention"]) for row in rows], ATTENTION)
    assert [row["evidence: tumor"] for row in rows] == ["-2.0", "1.0", "0.5", ""]


@pytest.mark.parametrize("ending", [".geojson", ".geojson.gz"])
def test_qupath_tiles_lie_on_their_patches(
    prediction: Prediction, tmp_path: Path, ending: str
) -> None:
    path = export_map(prediction, tmp_path / f"map{ending}")
    content = gzip.decompress(path.read_bytes()) if ending == ".geojson.gz" else path.read_bytes()
    collection = json.loads(content, parse_constant=pytest.fail)
    assert collection["type"] == "FeatureCollection"
    tile = collection["features"][3]
    ring = tile["geometry"]["coordinates"][0]
    assert ring == [[400, 300], [500, 300], [500, 400], [400, 400], [400, 300]]
    assert tile["properties"]["objectType"] == "tile"
    assert tile["properties"]["measurements"]["evidence: tumor"] == "NaN"
    assert tile["properties"]["measurements"]["attention"] == pytest.approx(0.4)
    assert len({feature["id"] for feature in collection["features"]}) == 4


def test_what_came_from_a_phantom_says_synthetic(
    prediction: Prediction, synthetic: Prediction, tmp_path: Path
) -> None:
    for ending in ("csv", "geojson"):
        made = export_map(synthetic, tmp_path / f"phantom.{ending}").read_text()
        real = export_map(prediction, tmp_path / f"real.{ending}").read_text()
        assert made != real
        assert "synthetic" in made
    assert "synthetic" in map_picture(synthetic).axes[0].get_title()
    assert "synthetic" not in map_picture(prediction).axes[0].get_title()


def test_a_picture_shows_attention_in_multiples_of_uniform(prediction: Prediction) -> None:
    figure = map_picture(prediction)
    image = figure.axes[0].images[0]
    assert figure.axes[1].get_ylabel() == "× average"
    assert image.get_clim() == (0, DEFAULT_TOP)
    np.testing.assert_allclose(image.get_array()[0, :2], [0.4, 0.8])
    assert image.get_extent() == [0, 125, 100, 0]


def test_regions_count_as_the_units_of_uniform(prediction: Prediction) -> None:
    regions = Explanation(
        "regions",
        ExplanationKind.ATTENTION,
        torch.tensor([0.25, 0.75]),
        index=torch.tensor([0, 0, 1, 1]),
    )
    figure = map_picture(replace(prediction, explanations=(regions,)))
    np.testing.assert_allclose(figure.axes[0].images[0].get_array()[0, :2], [0.5, 0.5])


def test_evidence_is_drawn_around_zero(prediction: Prediction) -> None:
    figure = map_picture(prediction, 1)
    assert figure.axes[0].images[0].get_clim() == (-2, 2)
    assert figure.axes[1].get_ylabel() == "share of the logit"


def test_a_picture_is_colored_and_explained_as_the_window_does(prediction: Prediction) -> None:
    for number, stretch in ((0, Stretch.NATURAL), (0, Stretch.RANKS), (1, Stretch.NATURAL)):
        figure, scale = (
            map_picture(prediction, number, stretch),
            scaled(prediction, number, stretch),
        )
        image = figure.axes[0].images[0]
        assert (image.get_cmap().name, image.get_clim()) == (scale.colormap, scale.limits)
        assert figure.axes[1].get_ylabel() == scale.unit
        assert scale.caveat in figure.axes[0].get_xlabel()
    assert "looked" not in map_picture(prediction, 1).axes[0].get_xlabel()


@pytest.mark.parametrize("ending", ["csv", "geojson"])
def test_an_export_repeats_the_warnings(
    prediction: Prediction, tmp_path: Path, ending: str
) -> None:
    partial = replace(prediction, warnings=("so far: 4 of 9 patches",))
    assert "so far: 4 of 9" in export_map(partial, tmp_path / f"a.{ending}").read_text()
    assert "so far" not in export_map(prediction, tmp_path / f"b.{ending}").read_text()
    assert "so far: 4 of 9" in map_picture(partial).axes[0].get_xlabel()


def test_a_weight_keeps_its_absolute_scale(prediction: Prediction) -> None:
    weight = Explanation("weight", ExplanationKind.SIGMOID, torch.tensor([0.1, 0.2, 0.1, 0.1]))
    figure = map_picture(replace(prediction, explanations=(weight,)))
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_a_picture_is_written(prediction: Prediction, tmp_path: Path) -> None:
    path = export_map(prediction, tmp_path / "map.png", name="evidence: tumor")
    assert min(Image.open(path).size) > 500


def test_a_map_is_found_by_its_title(prediction: Prediction) -> None:
    assert find_map(prediction) == 0
    assert find_map(prediction, "evidence: tumor") == 1
    with pytest.raises(ValueError, match="'branch 1'; this model has attention, evidence: tumor"):
        find_map(prediction, "branch 1")


def test_an_unknown_ending_is_refused_before_anything_is_written(
    prediction: Prediction, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"cannot write a map to map\.tif: use one of \.csv"):
        export_map(prediction, tmp_path / "map.tif")
    assert not list(tmp_path.iterdir())


def test_features_without_places_are_refused(prediction: Prediction, tmp_path: Path) -> None:
    placeless = replace(prediction, bag=replace(prediction.bag, grid=None))
    with pytest.raises(ValueError, match="no coordinates"):
        export_map(placeless, tmp_path / "map.csv")
