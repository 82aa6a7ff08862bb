"""Recall: made once per bag and weights, never stale, one at most; answers stay the same."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.models import create_model
from napari_wsimil.models.layers.region_received import received
from napari_wsimil.models.layers.result_cache import Recall
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from napari_wsimil.models import MILModel

N, D = 120, 8
CONFIGS: dict[str, dict[str, int]] = {
    "querent": {"region_size": 4, "top_regions": 3, "width": 16, "heads": 4},
    "longmil": {"width": 16, "radius": 2},
}


@pytest.fixture(params=list(CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_model(name: str, seed: int = 0) -> MILModel:
    torch.manual_seed(seed)
    return create_model(name, feature_dim=D, classes=2, **CONFIGS[name]).eval()


def make_bag(seed: int = 1) -> Bag:
    index = np.arange(N, dtype=np.int64)
    coords = np.stack([index % 10, index // 10], axis=1) * 100
    grid = PatchGrid(coords, patch_size=100, stride=100, pixels=100, mpp=0.5)
    return Bag(torch.randn(N, D, generator=torch.Generator().manual_seed(seed)), grid=grid)


def answers(model: MILModel, bag: Bag, query: list[int]) -> list[torch.Tensor]:
    return [map_.scores for map_ in model.explain(bag, torch.tensor(query))]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in pairs)


def test_a_later_answer_is_bit_for_bit_that_of_a_model_never_asked(name: str) -> None:
    model, bag, other = make_model(name), make_bag(), make_bag(2)
    for asked in (bag, bag, other, bag):
        for query in ([7], [3, 90, 41], list(range(60))):
            assert same(answers(model, asked, query), answers(make_model(name), asked, query))


def test_changed_weights_are_seen(name: str) -> None:
    model, bag, other = make_model(name), make_bag(), make_model(name, seed=5)
    before = answers(model, bag, [7])
    model.load_state_dict(other.state_dict())
    assert same(answers(model, bag, [7]), answers(other, bag, [7]))
    assert not same(answers(model, bag, [7]), before)
    with torch.no_grad():
        model.standardize.scale += 1
    fresh = make_model(name)
    fresh.load_state_dict(model.state_dict())
    assert same(answers(model, bag, [7]), answers(fresh, bag, [7]))


def test_what_was_made_in_inference_mode_serves_outside_of_it(name: str) -> None:
    model, bag = make_model(name), make_bag()
    with torch.inference_mode():
        inside = answers(model, bag, [7])
    assert same(answers(model, bag, [7]), inside)


def test_the_slide_is_gone_through_once(name: str) -> None:
    model, bag = make_model(name), make_bag()
    embedded: list[int] = []
    model.embedding.register_forward_hook(lambda _, inputs, __: embedded.append(len(inputs[0])))
    answers(model, bag, [7])
    assert sum(embedded) >= N
    embedded.clear()
    answers(model, bag, [8])
    assert sum(embedded) <= 1


class Maker:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self, bag: Bag) -> torch.Tensor:
        self.times += 1
        return bag.features + self.times


def test_a_bag_is_known_by_its_features_and_grid() -> None:
    model, bag, make = torch.nn.Linear(2, 2), make_bag(), Maker()
    recall: Recall[torch.Tensor] = Recall()
    first = recall.of(model, bag, make)
    assert recall.of(model, replace(bag, slide="another name"), make) is first
    assert make.times == 1
    assert recall.of(model, replace(bag, features=bag.features.clone()), make) is not first
    recall.of(model, bag, make)
    assert make.times == 3
    recall.of(model, replace(bag, grid=replace(bag.grid)), make)  # type: ignore[type-var]
    assert make.times == 4


def test_features_changed_in_place_are_seen() -> None:
    model, bag, make = torch.nn.Linear(2, 2), make_bag(), Maker()
    recall: Recall[torch.Tensor] = Recall()
    recall.of(model, bag, make)
    bag.features.add_(1)
    recall.of(model, bag, make)
    assert make.times == 2


def test_what_was_made_goes_with_the_features() -> None:
    model, make = torch.nn.Linear(2, 2), Maker()
    recall: Recall[torch.Tensor] = Recall()
    bag = make_bag()
    made = weakref.ref(recall.of(model, bag, make))
    assert made() is not None
    del bag
    gc.collect()
    assert made() is None


def test_one_bag_takes_the_place_of_another_before_it_is_made() -> None:
    model, bag, other = torch.nn.Linear(2, 2), make_bag(), make_bag(2)
    recall: Recall[torch.Tensor] = Recall()
    made = weakref.ref(recall.of(model, bag, Maker()))

    def make(asked: Bag) -> torch.Tensor:
        assert made() is None
        return asked.features * 2

    assert torch.equal(recall.of(model, other, make), other.features * 2)


@pytest.mark.parametrize("sizes", [(3, 70, 64, 1, 130, 65), (2, 1, 3), (5,)])
@pytest.mark.parametrize("queries", [1, 40])
def test_received_is_the_literal_softmax(
    sizes: tuple[int, ...], queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_wsimil.models.layers.region_received.LOGITS", 5000)
    random = torch.Generator().manual_seed(0)
    regions, heads, top = len(sizes), 2, min(2, len(sizes))
    q = 8 * torch.randn(queries, heads, 4, generator=random)
    k = 8 * torch.randn(sum(sizes), heads, 4, generator=random)
    chosen = torch.stack([torch.randperm(regions, generator=random)[:top] for _ in range(queries)])
    starts = [sum(sizes[:r]) for r in range(regions)]
    expected = np.zeros(sum(sizes))
    for n in range(queries):
        rows = [i for r in chosen[n].tolist() for i in range(starts[r], starts[r] + sizes[r])]
        for h in range(heads):
            e = np.array([float(q[n, h].double() @ k[i, h].double()) / 2 for i in rows])
            a = np.exp(e - e.max())
            for i, share in zip(rows, a / a.sum(), strict=True):
                expected[i] += share / (queries * heads)
    np.testing.assert_allclose(received(q, k, sizes, chosen), expected, atol=1e-5)
