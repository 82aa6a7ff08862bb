"""The benchmark of mosaic slides measures what it says."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from skimage.io import imsave
from sklearn.metrics import roc_auc_score

from napari_wsimil.features.encoders.factory import create_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
CLASSES = ("Normal", "OSCC")


@pytest.fixture(scope="module", autouse=True)
def _importable_on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _nothing_is_kept_at_home(
    t: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(t, "user_cache_path", lambda _: tmp_path / "cache")


@pytest.fixture(scope="module")
def t() -> ModuleType:
    return importlib.import_module("_tiles")


@pytest.fixture(scope="module")
def r() -> ModuleType:
    return importlib.import_module("_readers")


@pytest.fixture(scope="module")
def mosaic() -> ModuleType:
    return importlib.import_module("mosaic")


def few_tiles(t: ModuleType, per_class: int = 30, seed: int = 0):
    """Tiles whose features tell the class; pixels are noise."""
    random = np.random.default_rng(seed)
    count = 2 * per_class
    tumor = np.arange(count) % 2 == 1
    features = random.normal(size=(count, 4)) + 3 * tumor[:, None]
    part = np.arange(count) // 2 % t.PARTS
    return t.Tiles(
        names=tuple(f"{CLASSES[int(is_)]}/{i}.png" for i, is_ in enumerate(tumor)),
        tumor=tumor,
        part=part,
        splits={"tiles": part, "sections": part},
        pixels=random.integers(0, 255, (count, 64, 64, 3), dtype=np.uint8),
        features=torch.from_numpy(features).float(),
        encoder="told",
    )


@pytest.mark.parametrize("name", ["tiles", "sections"])
def test_every_real_tile_is_in_one_part_of_each_committed_split(
    t: ModuleType, data: Path, name: str
) -> None:
    tiles = data / "tiles" / "oral-oscc-400x"
    names = [f"{c}/{path.name}" for c in CLASSES for path in (tiles / c).iterdir()]
    parts = json.loads((FOLDER / "mosaic_split.json").read_text())[name]
    placed = Counter(member for part in parts for member in part)
    assert len(parts) == t.PARTS
    assert set(placed.values()) == {1}
    assert set(names) == set(placed)


def test_committed_splits_are_the_drawn_ones(t: ModuleType) -> None:
    committed = json.loads((FOLDER / "mosaic_split.json").read_text())
    names = [name for part in committed["tiles"] for name in part]
    drawn = t.draw_splits(names[::-1])
    assert {name: committed[name] for name in drawn} == drawn


def test_sections_keep_neighbors_by_number_together(t: ModuleType) -> None:
    names = [f"a/{n}.png" for n in range(120)] + [f"b/{n}.png" for n in range(120)]
    for part in t.draw_splits(names)["sections"]:
        numbers = sorted(int(name[2:-4]) for name in part if name[0] == "a")
        assert np.diff(numbers).tolist().count(1) == len(numbers) - 2
        assert len(part) == 40


def test_mosaics_have_the_stated_share_of_tumor_and_only_tiles_of_their_pools(
    t: ModuleType,
) -> None:
    tiles = few_tiles(t)
    pools = tiles.pools([0, 2])
    mosaics = t.draw(pools, 6, 0.05, np.random.default_rng(0))
    assert [int(tiles.tumor[m.tiles].sum()) for m in mosaics] == [0, 10, 0, 10, 0, 10]
    assert [m.positive for m in mosaics] == [False, True] * 3
    assert {int(p) for m in mosaics for p in tiles.part[m.tiles]} == {0, 2}
    assert len({tuple(tiles.tumor[m.tiles]) for m in mosaics if m.positive}) == 3


def test_a_mosaic_slide_gives_the_features_of_its_tiles(t: ModuleType, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
    random = np.random.default_rng(1)
    for number in range(12):
        pixels = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        imsave(tmp_path / CLASSES[number % 2] / f"{number}.png", pixels, check_contrast=False)
    encoder = create_encoder()
    tiles = t.load_tiles(tmp_path, CLASSES, encoder, None)
    drawn = t.draw(tiles.pools(range(t.PARTS)), 2, 0.1, random)[1]
    assert t.slide_difference(drawn, tiles, encoder) == 0
    swapped = t.Mosaic(drawn.tiles[::-1].copy(), True)
    moved = t.bag_of(swapped, tiles).features - t.bag_of(drawn, tiles).features
    assert moved.abs().max() > 0.1


def test_a_tile_that_the_split_does_not_place_is_named(t: ModuleType, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
        imsave(tmp_path / name / "1.png", np.zeros((64, 64, 3), np.uint8), check_contrast=False)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"tiles": [["Normal/1.png"]], "sections": []}))
    with pytest.raises(ValueError, match="1 tiles, such as OSCC/1.png"):
        t.load_tiles(tmp_path, CLASSES, create_encoder(), split)
    with pytest.raises(ValueError, match="no tiles in Normal or none in Other"):
        t.load_tiles(tmp_path, ("Normal", "Other"), create_encoder(), None)


def test_auroc_is_that_of_scikit_learn_with_ties(r: ModuleType) -> None:
    random = np.random.default_rng(2)
    positive = random.random(80) < 0.3
    scores = random.integers(0, 9, 80).astype(float)
    assert r.auroc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))


def test_figures_are_of_the_slides_and_of_tiles_within_positive_ones(
    t: ModuleType, r: ModuleType
) -> None:
    tiles = few_tiles(t)
    mosaics = t.draw(tiles.pools([1]), 8, 0.1, np.random.default_rng(3))

    def read(mosaic):
        inverted = -tiles.tumor[mosaic.tiles].astype(float)
        return r.Answer(float(mosaic.positive), {"map_auroc": inverted})

    assert r.measure(read, mosaics, tiles.tumor) == {"auc": 1, "map_auroc": 0}


def test_models_and_the_ceiling_find_tumor_that_is_plain_and_never_train_on_the_test(
    t: ModuleType, mosaic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = few_tiles(t)
    seen: list[int] = []
    train = mosaic.train

    def watched(name, mosaics, tiles, seed):
        seen.extend(int(p) for m in mosaics for p in tiles.part[m.tiles])
        return train(name, mosaics, tiles, seed)

    monkeypatch.setattr(mosaic, "train", watched)
    plan = mosaic.Plan(splits=1, train=8, test=8, redrawn=4)
    found = mosaic.result(mosaic.compare(tiles, 0.1, plan, redraws=3))
    assert set(seen) == set(range(1, t.PARTS))
    assert found["ceiling"] > 0.98
    assert found["floor"] == found["meanpool"]["map_auroc"]
    for name in mosaic.MODELS:
        figures = found[name]
        assert figures["map_auroc"] > 0.9
        assert figures["of_ceiling"] == pytest.approx(figures["map_auroc"] / found["ceiling"])
        assert figures["auc_low"] <= figures["auc_high"]
