"""Querent against its equations, written as plain loops."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag, take_patches
from napari_wsimil.models.layers.regions import partition
from napari_wsimil.models.layers.standardize import Moments
from napari_wsimil.models.querent import Querent
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags import (
    Lesions,
    map_auroc,
    plant,
    planted_grid,
    probe,
    tissue_cells,
)
from napari_wsimil.training.config import recipe
from napari_wsimil.training.fit import fit

if TYPE_CHECKING:
    from napari_wsimil.models.base import Explanation

N, D, C, H, HEADS, T = 40, 6, 3, 8, 2, 2
Weights = dict[str, np.ndarray]


def make_model(**config: int | str) -> Querent:
    torch.manual_seed(0)
    sizes = {"width": H, "heads": HEADS, "attention_dim": 5, "metadata_dim": 4}
    regions = {"region_size": 9, "top_regions": T}
    model = Querent(feature_dim=D, classes=C, **(sizes | regions | config))
    model.head.bias.data.uniform_()
    moments = Moments(D)
    moments.add(make_bag(seed=2).features)
    model.standardize.measure(moments)
    return model.eval()


def make_bag(n: int = N, seed: int = 1) -> Bag:
    features = 3 * torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) + 2
    return Bag(features, grid=planted_grid(tissue_cells(n, np.random.default_rng(seed))))


def maps(model: Querent, bag: Bag, query: list[int] | None = None) -> dict[str, Explanation]:
    asked = None if query is None else torch.tensor(query)
    return {m.name: m for m in model.explain(bag, asked)}


def numbers(model: Querent) -> Weights:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def members(model: Querent, bag: Bag) -> list[np.ndarray]:
    index = partition(bag.grid, model.region_size, model.regions).index.numpy()
    return [np.flatnonzero(index == region) for region in range(index.max() + 1)]


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)


def norm(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    unit = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return unit * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(e: np.ndarray) -> np.ndarray:
    powers = np.exp(e - e.max())
    return powers / powers.sum()


def gelu(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def scores_by_hand(w: Weights, x: np.ndarray, regions: list[np.ndarray]) -> np.ndarray:
    s = np.empty((len(x), len(regions)))
    for i, patches in enumerate(regions):
        low = linear(w, "metadata.low", x[patches].min(axis=0))
        high = linear(w, "metadata.high", x[patches].max(axis=0))
        for n, x_n in enumerate(x):
            q = linear(w, "metadata.query", x_n)
            s[n, i] = max(abs(q @ low), abs(q @ high))
    return s


def attention_by_hand(
    w: Weights, h: np.ndarray, s: np.ndarray, regions: list[np.ndarray]
) -> np.ndarray:
    """Return (heads, N, N)."""
    a = np.zeros((HEADS, len(h), len(h)))
    u = [norm(w, "norm", row) for row in h]
    q = np.array([linear(w, "queries", row) for row in u]).reshape(-1, HEADS, H // HEADS)
    k = np.array([linear(w, "keys", row) for row in u]).reshape(-1, HEADS, H // HEADS)
    for n in range(len(h)):
        there = np.concatenate([regions[i] for i in np.argsort(s[n])[::-1][:T]])
        for head in range(HEADS):
            e = [q[n, head] @ k[m, head] / np.sqrt(H // HEADS) for m in there]
            a[head, n, there] = softmax(np.array(e))
    return a


def layer_by_hand(w: Weights, h: np.ndarray, a: np.ndarray) -> np.ndarray:
    v = np.array([linear(w, "values", norm(w, "norm", row)) for row in h])
    v = v.reshape(-1, HEADS, H // HEADS)
    out = []
    for n, h_n in enumerate(h):
        o = np.concatenate([a[head, n] @ v[:, head] for head in range(HEADS)])
        h_n = h_n + linear(w, "projection", o)
        if "ffn.1.weight" in w:
            h_n = h_n + linear(w, "ffn.3", gelu(linear(w, "ffn.1", norm(w, "ffn.0", h_n))))
        out.append(h_n)
    return np.array(out)


def by_hand(model: Querent, bag: Bag) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores (N, M), attention between patches (heads, N, N) and logits (C,)."""
    w, regions = numbers(model), members(model, bag)
    x = (bag.features.double().numpy() - w["standardize.mean"]) / w["standardize.scale"]
    h = np.array([np.maximum(linear(w, "embedding", row), 0) for row in x])
    s = scores_by_hand(w, x, regions)
    a = attention_by_hand(w, h, s, regions)
    h = layer_by_hand(w, h, a)
    gate = [1 / (1 + np.exp(-linear(w, "attention.gate", row))) for row in h]
    v = [np.tanh(linear(w, "attention.tanh", row)) for row in h]
    e = [linear(w, "attention.score", v_n * g_n)[0] for v_n, g_n in zip(v, gate, strict=True)]
    return s, a, linear(w, "head", softmax(np.array(e)) @ h)


@pytest.mark.parametrize("config", [{}, {"feedforward": 0}, {"regions": "sequence"}])
def test_forward_is_the_equations(config: dict[str, int | str]) -> None:
    model, bag = make_model(**config), make_bag()
    _, _, logits = by_hand(model, bag)
    np.testing.assert_allclose(model(bag).logits.detach(), logits, rtol=1e-4)


def test_a_query_is_told_where_it_looks_and_why() -> None:
    model, bag = make_model(), make_bag()
    s, a, _ = by_hand(model, bag)
    regions = members(model, bag)
    for patch in (0, 17):
        told = maps(model, bag, [patch])
        np.testing.assert_allclose(told["region score"].scores, s[patch], rtol=1e-4)
        chosen = np.sort(np.argsort(s[patch])[::-1][:T])
        assert np.flatnonzero(told["chosen by the query"].scores).tolist() == chosen.tolist()
        mean = a[:, patch].mean(axis=0)
        there = np.isin(np.arange(N), np.concatenate([regions[i] for i in chosen]))
        seen = told["attention of the query"].scores.double().numpy()
        assert np.isnan(seen[~there]).all()
        np.testing.assert_allclose(seen[there], mean[there], rtol=1e-4)
        by_region = told["attention by region"].scores.double().numpy()
        assert np.flatnonzero(~np.isnan(by_region)).tolist() == chosen.tolist()
        expected = [mean[regions[i]].sum() for i in chosen]
        np.testing.assert_allclose(by_region[chosen], expected, rtol=1e-4)


def test_an_area_is_told_the_mean_of_its_patches() -> None:
    model, bag = make_model(), make_bag()
    area = [3, 30, 11]
    told, alone = maps(model, bag, area), [maps(model, bag, [patch]) for patch in area]
    for name, map_ in told.items():
        mean = torch.stack([one[name].scores.nan_to_num() for one in alone]).mean(dim=0)
        torch.testing.assert_close(map_.scores.nan_to_num(), mean)


def test_chosen_by_is_the_share_of_patches_that_chose_a_region() -> None:
    model, bag = make_model(), make_bag()
    times = np.zeros(len(members(model, bag)))
    for patch in range(N):
        times += maps(model, bag, [patch])["chosen by the query"].scores.numpy()
    shares = maps(model, bag)["chosen by"]
    np.testing.assert_allclose(shares.scores, times / N, rtol=1e-5)
    assert torch.equal(shares.index, partition(bag.grid, 9).index)


@pytest.mark.parametrize("query", [[], [-1], [N], [0, N + 3]])
def test_a_query_of_no_patch_is_refused(query: list[int]) -> None:
    with pytest.raises(ValueError, match="query must name"):
        make_model().explain(make_bag(), torch.tensor(query, dtype=torch.int64))


def test_the_scorer_learns() -> None:
    model, bag = make_model().train(), make_bag()
    model.loss(model(bag), torch.tensor(1))["class"].backward()
    for parameter in model.metadata.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 1e-6


@pytest.mark.parametrize("n", [1, 5, N])
def test_more_regions_than_there_are_is_all_of_them_and_told(n: int) -> None:
    bag = make_bag(n)
    many, every = make_model(top_regions=50), make_model(top_regions=50, region_size=1)
    output = many(bag)
    torch.testing.assert_close(output.logits, every(bag).logits)
    count = len(members(many, bag))
    assert output.scalars == {"regions": count, "top regions": count}
    assert make_model()(make_bag()).scalars["top regions"] == T


def test_max_takes_no_account_of_the_least_features() -> None:
    model, bag = make_model(scorer="max"), make_bag()
    assert not any("low" in name for name in model.state_dict())
    w = numbers(model)
    w |= {f"metadata.low.{part}": w[f"metadata.high.{part}"] for part in ("weight", "bias")}
    x = (bag.features.double().numpy() - w["standardize.mean"]) / w["standardize.scale"]
    greatest = [np.array([i]) for i in range(N)]  # regions of one patch: least is greatest
    one = make_model(scorer="max", region_size=1)
    told = maps(one, bag, [4])["region score"]
    by_patch = scores_by_hand(w, x, greatest)[4]
    np.testing.assert_allclose(told.per_patch(), by_patch, rtol=1e-4)
    regions = members(model, bag)
    tops = [np.abs(linear(w, "metadata.query", x[4]) @ _high(w, x[part])) for part in regions]
    np.testing.assert_allclose(maps(model, bag, [4])["region score"].scores, tops, rtol=1e-4)


def _high(w: Weights, x: np.ndarray) -> np.ndarray:
    return linear(w, "metadata.high", x.max(axis=0))


def test_random_chooses_by_places_alone() -> None:
    model, bag = make_model(scorer="random", metadata_dim=64), make_bag(200)
    assert not list(model.metadata.parameters())
    chosen = maps(model, bag)["chosen by"]
    other = maps(model, replace(bag, features=bag.features.flip(0)))["chosen by"]
    assert torch.equal(chosen.scores, other.scores)
    assert (chosen.scores > 0).all()
    order = torch.randperm(200)
    moved = maps(model, take_patches(bag, order))["chosen by"]
    assert torch.equal(moved.per_patch(), chosen.per_patch()[order])


def test_a_bag_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="places"):
        make_model()(replace(make_bag(), grid=None))


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 3},
        {"heads": 0},
        {"top_regions": 0},
        {"metadata_dim": 0},
        {"feedforward": -1},
        {"scorer": "best"},
        {"regions": "ring"},
        {"region_size": 12},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_model(**wrong)


def test_evidence_finds_planted_lesions_that_only_slides_were_told_of() -> None:
    world = Lesions(world=7, patches=(100, 200), shift=4.0)
    train, held_out = plant(world, 120, seed=70), plant(world, 30, seed=71)
    torch.manual_seed(7)
    shape = {"width": 64, "heads": 4, "attention_dim": 64, "metadata_dim": 32}
    model = Querent(feature_dim=64, classes=2, **shape)
    finish(fit(model, [one.case for one in train], [], recipe("querent")))
    found = map_auroc(held_out, lambda one: maps(model, one.bag)["patch logit: 1"].scores)
    assert found >= map_auroc(held_out, probe(train)) - 0.05
