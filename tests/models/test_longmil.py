"""LongMIL against its equations, written as plain loops."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import erf

from napari_wsimil.features.bag import Bag
from napari_wsimil.models import longmil as module
from napari_wsimil.models.base import ExplanationKind, MILOutput
from napari_wsimil.models.layers.positions import lattice_cells
from napari_wsimil.models.longmil import Layer, LongMIL, global_attention
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.synthetic.bags import Lesions, plant
from napari_wsimil.training.fit import FitConfig, fit

D, C, H, HEADS, RADIUS = 5, 3, 16, 2, 2
SETTINGS = list(product(("rope", "alibi"), ("attention", "mean")))

Weights = dict[str, np.ndarray]


def make_grid(cells: np.ndarray, stride: int = 100, size: int = 100) -> PatchGrid:
    return PatchGrid(cells.astype(np.int64) * stride, patch_size=size, stride=stride, pixels=50)


def make_bag(n: int = 23, seed: int = 1) -> Bag:
    rng = np.random.default_rng(seed)
    every = np.stack([np.arange(64) % 8, np.arange(64) // 8], axis=1)
    grid = make_grid(every[np.sort(rng.permutation(64)[:n])] + [40, 7])
    return Bag(torch.from_numpy(rng.standard_normal((n, D)).astype(np.float32)), grid=grid)


def make_model(
    positions: str = "rope", pooling: str = "attention", radius: int = RADIUS
) -> LongMIL:
    torch.manual_seed(0)
    model = LongMIL(
        feature_dim=D,
        classes=C,
        width=H,
        attention_dim=6,
        heads=HEADS,
        radius=radius,
        positions=positions,
        pooling=pooling,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def softmax(e: np.ndarray) -> np.ndarray:
    return np.exp(e - e.max()) / np.exp(e - e.max()).sum()


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)


def normalized(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    z = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return z * w[f"{name}.weight"] + w[f"{name}.bias"]


def turned(x: np.ndarray, place: np.ndarray) -> np.ndarray:
    """RoPE by complex numbers: pair i of an axis is (x_i, x_{i + d/4}) of its half."""
    quarter = len(x) // 4
    angle = place[:, None] * 10_000.0 ** -(np.arange(quarter) / quarter)
    half = x.reshape(2, 2, quarter)
    z = (half[:, 0] + 1j * half[:, 1]) * np.exp(1j * angle)
    return np.stack([z.real, z.imag], axis=1).ravel()


def layer_by_hand(
    w: Weights, name: str, h: np.ndarray, places: np.ndarray, radius: float, positions: str
) -> tuple[np.ndarray, np.ndarray]:
    n, d = len(h), H // HEADS
    qkv = np.array([linear(w, f"{name}.qkv", normalized(w, f"{name}.norm", x)) for x in h])
    qkv = qkv.reshape(n, 3, HEADS, d)
    a = np.zeros((HEADS, n, n))
    mixed = np.zeros((n, HEADS, d))
    for head, i in product(range(HEADS), range(n)):
        e = np.full(n, -np.inf)
        for j in range(n):
            q, k = qkv[i, 0, head], qkv[j, 1, head]
            if positions == "rope":
                q, k = turned(q, places[i]), turned(k, places[j])
            distance = np.linalg.norm(places[i] - places[j])
            penalty = 2.0 ** (-8 * (head + 1) / HEADS) if positions == "alibi" else 0
            if distance <= radius:
                e[j] = q @ k / np.sqrt(d) - penalty * distance
        a[head, i] = softmax(e)
        mixed[i, head] = a[head, i] @ qkv[:, 2, head]
    out = np.empty_like(h)
    for i in range(n):
        x = h[i] + linear(w, f"{name}.out", mixed[i].ravel())
        hidden = linear(w, f"{name}.mlp.1", normalized(w, f"{name}.mlp.0", x))
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        out[i] = x + linear(w, f"{name}.mlp.3", hidden)
    return out, a


def pooling_by_hand(w: Weights, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if "attention.score.weight" not in w:
        return normalized(w, "norm", h.mean(axis=0)), np.full(len(h), 1 / len(h))
    u = np.array([normalized(w, "norm", x) for x in h])
    e = []
    for x in u:
        v = np.tanh(linear(w, "attention.tanh", x))
        gate = 1 / (1 + np.exp(-linear(w, "attention.gate", x)))
        e.append(linear(w, "attention.score", v * gate)[0])
    a = softmax(np.array(e))
    return a @ u, a


def by_hand(model: LongMIL, bag: Bag) -> dict[str, np.ndarray]:
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    cells = (bag.grid.coords - bag.grid.coords.min(axis=0)) // bag.grid.stride
    h = np.array([np.maximum(linear(w, "embedding", x), 0) for x in bag.features.double().numpy()])
    near = []
    for number in range(2):
        h, a = layer_by_hand(w, f"local_layers.{number}", h, cells, model.radius, "none")
        near.append(a.mean(axis=0))
    places = np.array(sorted({(y // 2, x // 2) for x, y in cells}))[:, ::-1]
    members = [(cells // 2 == place).all(axis=1) for place in places]
    tokens = np.array([h[member].mean(axis=0) for member in members])
    tokens, a = layer_by_hand(w, "global_layer", tokens, places, np.inf, model.positions)
    z, attention = pooling_by_hand(w, tokens)
    return {
        "logits": linear(w, "head", z),
        "attention": attention,
        "attention received": a.mean(axis=(0, 1)),
        "index": np.argmax(members, axis=0),
        "neighborhoods": np.array(near),
    }


def maps_of(output: MILOutput) -> dict[str, torch.Tensor]:
    return {m.name: m.scores for m in output.explanations}


@pytest.mark.parametrize(("positions", "pooling"), SETTINGS)
def test_forward_is_the_equations(positions: str, pooling: str) -> None:
    model, bag = make_model(positions, pooling), make_bag()
    expected, output = by_hand(model, bag), model(bag)
    np.testing.assert_allclose(output.logits.detach(), expected["logits"], rtol=1e-4, atol=1e-5)
    maps = maps_of(output)
    for name in ("attention", "attention received")[pooling == "mean" :]:
        np.testing.assert_allclose(maps[name], expected[name], rtol=1e-4)
    assert ("attention" in maps) == (pooling == "attention")
    for map_ in output.explanations:
        np.testing.assert_array_equal(map_.index, expected["index"])


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_evidence_sums_to_the_logit_less_its_bias(pooling: str) -> None:
    model = make_model(pooling=pooling)
    output = model(make_bag())
    for c in range(C):
        total = maps_of(output)[f"evidence: {c}"].sum()
        expected = (output.logits[c] - model.head.bias[c]).detach()
        torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)


def test_a_query_shows_its_neighborhood_in_each_local_layer() -> None:
    model, bag = make_model(), make_bag()
    expected = by_hand(model, bag)["neighborhoods"]
    maps = model.explain(bag, torch.tensor([4]))
    assert [m.name for m in maps] == [
        "attention, layer 1 (within 2 steps)",
        "attention, layer 2 (within 2 steps)",
        "neighborhood",
    ]
    assert maps[2].outlined
    near = maps[2].scores > 0
    np.testing.assert_array_equal(near, maps[0].scores.isfinite())
    for map_, a in zip(maps[:2], expected, strict=True):
        assert map_.kind is ExplanationKind.ATTENTION
        cells = lattice_cells(bag.grid)
        near = np.linalg.norm(cells - cells[4], axis=1) <= RADIUS
        np.testing.assert_array_equal(map_.scores.isfinite(), near)
        np.testing.assert_allclose(map_.scores.nan_to_num(), a[4], atol=1e-6)


def test_an_area_shows_the_mean_of_its_neighborhoods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERIES", 2)
    model, bag = make_model(), make_bag()
    query = torch.tensor([3, 17, 8])
    expected = by_hand(model, bag)["neighborhoods"][1][query].mean(axis=0)
    found = model.explain(bag, query)[1].scores
    np.testing.assert_allclose(found.nan_to_num(), expected, atol=1e-6)
    torch.testing.assert_close(found.nansum(), torch.tensor(1.0))


def test_without_a_query_the_maps_of_the_slide_are_told() -> None:
    model, bag = make_model(), make_bag()
    names = [m.name for m in model.explain(bag)]
    assert names == [m.name for m in model(bag).explanations]
    assert names[0] == "attention"


def test_a_radius_above_the_slide_is_full_attention_in_the_local_layers() -> None:
    bag = make_bag()
    wide, wider = make_model(radius=12), make_model(radius=10_000)
    torch.testing.assert_close(wide(bag).logits, wider(bag).logits)
    assert not torch.allclose(wide(bag).logits, make_model(radius=1)(bag).logits, atol=1e-3)


def test_a_new_layer_changes_tokens_little() -> None:
    torch.manual_seed(0)
    h = torch.randn(20, 64)
    change = Layer(64, heads=1)(h, lambda q, k, v: v) - h
    assert 0 < change.std() < 0.1


def test_where_the_slide_begins_does_not_matter() -> None:
    model, bag = make_model(), make_bag()
    moved = replace(bag, grid=replace(bag.grid, coords=bag.grid.coords + 12_345))
    assert torch.equal(model(moved).logits, model(bag).logits)


@pytest.mark.parametrize("positions", ["rope", "alibi"])
def test_queries_in_pieces_change_nothing_forward_or_backward(
    positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(11, 3, HEADS, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    places = torch.randint(0, 9, (11, 2), generator=torch.Generator().manual_seed(1))

    def run() -> list[torch.Tensor]:
        out, received = global_attention(*x.unbind(1), places, positions)
        return [out, received, *torch.autograd.grad(out.sin().sum(), x)]

    whole = run()
    monkeypatch.setattr(module, "QUERIES", 4)
    for one, other in zip(whole, run(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_of_small_slides_takes_large_ones() -> None:
    small = [p.case for p in plant(Lesions(patches=(40, 60), dim=D, axes=D), 8, seed=5)]
    model = make_model()
    finish(fit(model, small, [], FitConfig(epochs=2, drop=0.0)))
    large = plant(Lesions(patches=(1500, 1500), dim=D, axes=D), 1, seed=6)[0].bag
    output = model(large)
    assert torch.isfinite(output.logits).all()
    assert all(m.per_patch().shape == (1500,) for m in output.explanations)


def test_the_radius_is_told_in_patches_and_micrometers() -> None:
    model, bag = make_model(), make_bag()
    assert model(bag).scalars == {"radius (steps)": 2.0}
    # 100 level-0 pixels a step, seen as 50 pixels of 0.5 µm: 25 µm a step
    known = replace(bag, grid=replace(bag.grid, mpp=0.5))
    assert model(known).scalars == {"radius (steps)": 2.0, "radius (µm)": 50.0}
    overlapping = replace(known.grid, patch_size=200, pixels=100)
    assert model(replace(bag, grid=overlapping)).scalars["radius (µm)"] == 50.0


def test_without_places_it_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="LongMIL needs places"):
        make_model()(replace(make_bag(), grid=None))


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 0},
        {"width": 10},
        {"width": 0},
        {"radius": -1},
        {"positions": "none"},
        {"pooling": "max"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LongMIL(feature_dim=D, classes=C, **wrong)
