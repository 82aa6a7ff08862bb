"""PersAM and PersAM-live against their equations, written as plain loops."""

from __future__ import annotations

from dataclasses import replace
from math import erf
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.models.persam.incremental_layer import OneLayer
from napari_wsimil.models.persam.live import PersAMLive
from napari_wsimil.models.persam.model import BAG, PersAM, in_bags, shuffled
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags import planted_grid
from napari_wsimil.synthetic.bags_clinical import GROUPS, LESIONS, Records, plant_records
from napari_wsimil.training.config import recipe
from napari_wsimil.training.fit import fit

if TYPE_CHECKING:
    from napari_wsimil.models.base import MILOutput
    from napari_wsimil.models.persam.common import Personalized

D, C, R, FF = 5, 3, 8, 12
WIDTHS = (4, 3)
BOTH = torch.tensor([True, True])
Numbers = dict[str, np.ndarray]


def make(cls: type[Personalized], **config: object) -> Personalized:
    torch.manual_seed(0)
    shape = {"feature_dim": D, "classes": C, "groups": "4,3", "width": R, "feedforward": FF}
    if cls is PersAM:
        shape["heads"] = 2
    model = cls(**(shape | config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def make_bag(n: int, present: torch.Tensor = BOTH, seed: int = 1) -> Bag:
    random = torch.Generator().manual_seed(seed)
    cells = np.stack([np.arange(n) % 13, np.arange(n) // 13], axis=1)
    record = tuple(torch.randn(width, generator=random) for width in WIDTHS)
    return Bag(
        torch.randn(n, D, generator=random),
        grid=planted_grid(cells),
        clinical=ClinicalTokens(record, present),
    )


def exact(model: Personalized, bag: Bag) -> MILOutput:
    """Return the output in float64, so that only the equations can differ."""
    values = tuple(value.double() for value in bag.clinical.values)
    clinical = ClinicalTokens(values, bag.clinical.present)
    return model.double()(replace(bag, features=bag.features.double(), clinical=clinical))


def part(bag: Bag, index: torch.Tensor) -> Bag:
    grid = replace(bag.grid, coords=bag.grid.coords[index.numpy()])
    return replace(bag, features=bag.features[index], grid=grid)


def scores(output: MILOutput) -> dict[str, np.ndarray]:
    return {m.name: m.per_patch().double().numpy() for m in output.explanations}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * np.vectorize(lambda t: (1 + erf(t / 2**0.5)) / 2)(x)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def linear(w: Numbers, name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)


def norm(w: Numbers, name: str, x: np.ndarray) -> np.ndarray:
    z = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return z * w[f"{name}.weight"] + w[f"{name}.bias"]


def numbers(model: torch.nn.Module) -> Numbers:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def tokens_by_hand(w: Numbers, bag: Bag) -> tuple[np.ndarray, np.ndarray]:
    def mlp(name: str, x: np.ndarray) -> np.ndarray:
        return linear(w, f"{name}.2", gelu(linear(w, f"{name}.0", x)))

    record = [
        mlp(f"tokens.groups.{m}", value.double().numpy()) + w["tokens.group_types"][m]
        for m, value in enumerate(bag.clinical.values)
        if bag.clinical.present[m]
    ]
    patches = [
        mlp("tokens.patch", x) + w["tokens.patch_type"] for x in bag.features.double().numpy()
    ]
    return np.array(record).reshape(-1, R), np.array(patches)


def live_layer_by_hand(w: Numbers, x: np.ndarray) -> np.ndarray:
    n = [norm(w, "encoder.norm1", t) for t in x]
    q, k, v = ([linear(w, f"encoder.{s}", t) for t in n] for s in ("query", "key", "value"))
    h = []
    for t, q_t in zip(x, q, strict=True):
        a = softmax(np.array([q_t @ k_s for k_s in k]) / R**0.5)
        x1 = t + linear(w, "encoder.out", sum(a_s * v_s for a_s, v_s in zip(a, v, strict=True)))
        hidden = gelu(linear(w, "encoder.up", norm(w, "encoder.norm2", x1)))
        h.append(x1 + linear(w, "encoder.down", hidden))
    return np.array(h)


def post_norm_layer_by_hand(w: Numbers, name: str, x: np.ndarray, heads: int) -> np.ndarray:
    inside = w[f"{name}.self_attn.in_proj_weight"] @ x.T
    q, k, v = np.split(inside.T + w[f"{name}.self_attn.in_proj_bias"], 3, axis=1)
    h = []
    for t in range(len(x)):
        o = []
        for columns in np.split(np.arange(R), heads):
            a = softmax(k[:, columns] @ q[t, columns] / len(columns) ** 0.5)
            o.extend(a @ v[:, columns])
        x1 = norm(w, f"{name}.norm1", x[t] + linear(w, f"{name}.self_attn.out_proj", np.array(o)))
        hidden = gelu(linear(w, f"{name}.linear1", x1))
        h.append(norm(w, f"{name}.norm2", x1 + linear(w, f"{name}.linear2", hidden)))
    return np.array(h)


def equations_by_hand(
    w: Numbers, h: np.ndarray, groups: int, contents: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    q = [linear(w, "aggregator.query", t) for t in h]
    k = [linear(w, "aggregator.key", t) for t in h]
    first = C + groups
    a, psi, phi = np.empty((len(contents), C)), np.ones(len(contents)), np.ones(C)
    for c in range(C):
        for n in range(len(contents)):
            a[n, c] = sigmoid(scale * q[c] @ k[first + n])
    if groups:
        phi = np.array([np.mean([sigmoid(scale * q[c] @ k[C + m]) for m in range(groups)])
                        for c in range(C)])  # fmt: skip
        psi = np.array([np.mean([sigmoid(scale * q[C + m] @ k[first + n]) for m in range(groups)])
                        for n in range(len(contents))])  # fmt: skip
    whole = np.array([max(a[n, c] * phi[c] * psi[n] for c in range(C)) for n in range(len(a))])
    weight = (whole + 1e-6) / (whole + 1e-6).sum()
    z = sum(weight[n] * linear(w, "aggregator.value", contents[n]) for n in range(len(a)))
    return a, psi, phi, linear(w, "head", z)


PRESENT = [BOTH, torch.tensor([False, True]), torch.tensor([False, False])]


def check_maps(output: MILOutput, a: np.ndarray, psi: np.ndarray, phi: np.ndarray) -> None:
    found = scores(output)
    explanatory = a * phi * psi[:, None]
    for c in range(C):
        np.testing.assert_allclose(found[f"class-wise: {c}"], a[:, c], atol=1e-9)
        np.testing.assert_allclose(found[f"explanatory: {c}"], explanatory[:, c], atol=1e-9)
    np.testing.assert_allclose(found["exploratory"], psi, atol=1e-9)
    whole = explanatory.max(axis=1)
    np.testing.assert_allclose(found["explanatory"], whole, atol=1e-9)
    np.testing.assert_allclose(found["attention"], (whole + 1e-6) / (whole + 1e-6).sum(), atol=1e-9)
    np.testing.assert_allclose([output.scalars[f"phi: {c}"] for c in range(C)], phi, atol=1e-9)


@pytest.mark.parametrize("present", PRESENT)
@pytest.mark.parametrize(("values", "scale"), [("patch", 0.0), ("encoded", 1.0)])
def test_persam_live_is_the_equations(present: torch.Tensor, values: str, scale: float) -> None:
    model, bag = make(PersAMLive, values=values, scale=scale), make_bag(9, present)
    w, output = numbers(model), exact(model, bag)
    record, patches = tokens_by_hand(w, bag)
    h = live_layer_by_hand(w, np.concatenate([w["tokens.classes"], record, patches]))
    contents = patches if values == "patch" else h[-9:]
    a, psi, phi, logits = equations_by_hand(w, h, len(record), contents, scale or R**-0.5)
    np.testing.assert_allclose(output.logits.detach(), logits, atol=1e-9)
    check_maps(output, a, psi, phi)


@pytest.mark.parametrize("present", PRESENT)
@pytest.mark.parametrize(("values", "scale"), [("patch", 1.0), ("encoded", 0.0)])
def test_a_bag_of_persam_is_the_equations(present: torch.Tensor, values: str, scale: float) -> None:
    model, bag = make(PersAM, values=values, scale=scale), make_bag(9, present)
    w, output = numbers(model), exact(model, bag)
    record, patches = tokens_by_hand(w, bag)
    h = np.concatenate([w["tokens.classes"], record, patches])
    for layer in range(2):
        h = post_norm_layer_by_hand(w, f"encoder.{layer}", h, heads=2)
    contents = patches if values == "patch" else h[-9:]
    a, psi, phi, logits = equations_by_hand(w, h, len(record), contents, scale or R**-0.5)
    np.testing.assert_allclose(output.logits.softmax(0).detach(), softmax(logits), atol=1e-9)
    check_maps(output, a, psi, phi)


@pytest.mark.parametrize("n", [1, 99, 100, 101, 250])
def test_every_patch_is_in_one_bag_and_the_last_is_filled_from_the_first(n: int) -> None:
    order = shuffled(make_bag(n).grid, seed=0)
    bags = in_bags(order)
    assert bags.shape == (-(-n // BAG), min(n, BAG))
    assert sorted(bags.flatten()[:n].tolist()) == list(range(n))
    extra = bags.flatten()[n:]
    assert torch.equal(extra, order[: len(extra)])
    assert all(len(set(bag.tolist())) == len(bag) for bag in bags)


def test_bags_are_decided_by_places_and_seed_not_by_the_order_of_patches() -> None:
    grid = make_bag(250).grid
    order = torch.randperm(250)
    other = replace(grid, coords=grid.coords[order.numpy()])
    assert torch.equal(order[shuffled(other, 0)], shuffled(grid, 0))
    assert not torch.equal(shuffled(grid, 0), shuffled(grid, 1))


def test_each_bag_is_read_alone_and_what_fills_the_last_keeps_the_maps_of_the_first() -> None:
    model, bag = make(PersAM), make_bag(250)
    output = model(bag)
    found, probabilities = scores(output), []
    for members in reversed(in_bags(shuffled(bag.grid, 0))):
        alone = model(part(bag, members))
        probabilities.append(alone.logits.softmax(0))
        for name, values in scores(alone).items():
            if name != "attention":  # a share of the slide, not of the bag
                expected = np.empty(250)
                expected[members] = values
                mine = members if len(probabilities) > 1 else members[:50]
                np.testing.assert_allclose(found[name][mine], expected[mine], atol=1e-6)
    torch.testing.assert_close(output.logits.softmax(0), torch.stack(probabilities).mean(0))
    np.testing.assert_allclose(
        found["attention"], found["explanatory"] / found["explanatory"].sum(), atol=1e-6
    )


def test_more_passes_are_the_mean_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = make_bag(250)
    both = make(PersAM, passes=2)(bag)
    one = make(PersAM)
    first = one(bag)
    monkeypatch.setattr(
        "napari_wsimil.models.persam.model.shuffled", lambda grid, _: shuffled(grid, 1)
    )
    second = one(bag)
    mean = (first.logits.softmax(0) + second.logits.softmax(0)) / 2
    torch.testing.assert_close(both.logits.softmax(0), mean)
    a, b, found = scores(first), scores(second), scores(both)
    for name in ("exploratory", "class-wise: 1", "explanatory: 2"):
        assert np.abs(a[name] - b[name]).max() > 1e-4
        np.testing.assert_allclose(found[name], (a[name] + b[name]) / 2, atol=1e-6)


def test_bags_encoded_a_few_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, bag = make(PersAM), make_bag(450)
    whole = model(bag)
    monkeypatch.setattr("napari_wsimil.models.persam.model.TOGETHER", 2)
    pieces = model(bag)
    torch.testing.assert_close(pieces.logits, whole.logits)
    torch.testing.assert_close(pieces.explanations[0].scores, whole.explanations[0].scores)


@pytest.mark.parametrize("n", [1, 2, 700, 3000])
def test_the_layer_in_pieces_equals_a_dense_one_forward_and_backward(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("napari_wsimil.models.layers.chunked.ROWS", 512)
    layer, x = OneLayer(R, FF), torch.randn(n, R, requires_grad=True)
    k, v = layer.keys_values(x)
    q = layer.query(layer.norm1(x))
    dense = layer.mixed(x + layer.out((q @ k.T / R**0.5).softmax(dim=1) @ v))
    wanted = [x, *layer.parameters()]
    upstream = torch.randn(n, R) / n
    torch.testing.assert_close(layer(x), dense, atol=1e-5, rtol=0)
    slow = torch.autograd.grad(dense, wanted, upstream)
    fast = torch.autograd.grad(layer(x), wanted, upstream)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cls", [PersAM, PersAMLive])
def test_what_stands_in_a_missing_group_is_not_read(cls: type[Personalized]) -> None:
    model, bag = make(cls), make_bag(20, torch.tensor([True, False]))
    values = (bag.clinical.values[0], bag.clinical.values[1] + 5)
    other = replace(bag, clinical=ClinicalTokens(values, bag.clinical.present))
    assert torch.equal(model(bag).logits, model(other).logits)
    shown = replace(bag, clinical=ClinicalTokens(values, BOTH))
    assert not torch.allclose(model(bag).logits, model(shown).logits)


@pytest.mark.parametrize("cls", [PersAM, PersAMLive])
def test_the_loss_is_cross_entropy_and_that_of_each_class_s_best_patch(
    cls: type[Personalized],
) -> None:
    model, bag = make(cls), make_bag(150)
    output = model(bag)
    terms = model.loss(output, torch.tensor(1))
    assert list(terms) == ["class", "best"]
    p = output.logits.softmax(0)
    torch.testing.assert_close(terms["class"], -p[1].log())
    best = [scores(output)[f"class-wise: {c}"].max() for c in range(C)]
    wanted = [0.05, 0.95, 0.05]
    bce = [-t * np.log(b) - (1 - t) * np.log(1 - b) for t, b in zip(wanted, best, strict=True)]
    assert terms["best"].item() == pytest.approx(np.mean(bce), rel=1e-5)


def test_a_record_of_another_schema_or_none_is_refused() -> None:
    model, bag = make(PersAMLive), make_bag(5)
    with pytest.raises(ValueError, match="another clinical schema"):
        model(replace(bag, clinical=ClinicalTokens((torch.zeros(4),), torch.ones(1))))
    with pytest.raises(ValueError, match="needs a clinical record"):
        model(replace(bag, clinical=None))


def test_only_bags_need_places() -> None:
    bag = replace(make_bag(5), grid=None)
    assert make(PersAMLive)(bag).logits.shape == (C,)
    with pytest.raises(ValueError, match="needs places"):
        make(PersAM)(bag)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (PersAMLive, {"values": "both"}),
        (PersAMLive, {"scale": -1.0}),
        (PersAMLive, {"feedforward": 0}),
        (PersAM, {"heads": 3}),
        (PersAM, {"passes": 0}),
        (PersAM, {"dropout": 1.0}),
    ],
)
def test_impossible_settings_are_refused(cls: type[Personalized], wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make(cls, **wrong)


@pytest.mark.parametrize(
    ("name", "cls", "shape"),
    [("persam", PersAM, {"depth": 1, "heads": 4}), ("persam-live", PersAMLive, {})],
)
def test_attention_learns_to_go_where_the_record_points(
    name: str, cls: type[Personalized], shape: dict[str, int]
) -> None:
    world = Records(
        world=100,
        patches=(60, 100),
        dim=32,
        spread=0.8,
        share=(0.05, 0.1),
        ambiguous=0.6,
        signal=3.0,
    )
    train, test = plant_records(world, 300, seed=1), plant_records(world, 24, seed=2)
    torch.manual_seed(100)
    model = cls(feature_dim=32, classes=LESIONS, groups=GROUPS, feedforward=128, **shape)
    config = replace(recipe(name), epochs=6, accumulate=4, lr=2e-3, noise=0.5)
    finish(fit(model, [one.case for one in train], [], config))
    found, shares = [], []
    for one in (one for one in test if one.ambiguous):
        for lesion in (0, 1):
            with torch.no_grad():
                a = scores(model(one.pointed(lesion)))["explanatory"]
            found.append(roc_auc_score(one.lesions == lesion, a))
            shares.append(a[one.lesions == lesion].sum() / a[one.lesions >= 0].sum())
    assert np.mean(found) > 0.95
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("cls", [PersAM, PersAMLive])
def test_a_patient_has_the_best_patch_of_all_slides(cls: type[Personalized]) -> None:
    model = make(cls)
    one, other = (
        replace(model(make_bag(5)), branches={"best": torch.tensor(best)})
        for best in ([3.0, -3.0, 0.0], [-3.0, 3.0, 1.0])
    )
    assert model.pool([one, other]).branches["best"].tolist() == [3.0, 3.0, 1.0]


def test_slides_count_by_their_probabilities_as_bags_do() -> None:
    model = make(PersAM)
    one, other = (
        replace(model(make_bag(5)), logits=torch.tensor(p).log())
        for p in ([0.98, 0.01, 0.01], [0.3, 0.6, 0.1])
    )
    chances = model.pool([one, other]).logits.exp()
    torch.testing.assert_close(chances, torch.tensor([0.64, 0.305, 0.055]))
