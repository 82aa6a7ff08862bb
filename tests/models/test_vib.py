"""VIB against its equations, written as plain loops."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag, take_patches
from napari_wsimil.models.base import ExplanationKind, MILOutput
from napari_wsimil.models.vib import VIB
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.synthetic.bags import Lesions, map_auroc, plant, probe
from napari_wsimil.training.config import recipe
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import fit

N, D, C, K = 12, 5, 3, 4


@pytest.fixture
def model() -> VIB:
    torch.manual_seed(0)
    model = VIB(feature_dim=D, classes=C, width=7, attention_dim=6, keep=K)
    model.head.bias.data.uniform_()
    model.selection.weight.data.mul_(5)
    return model.eval()


@pytest.fixture
def bag() -> Bag:
    return Bag(torch.randn(N, D, generator=torch.Generator().manual_seed(1)))


def with_grid(bag: Bag, coords: list[tuple[int, int]]) -> Bag:
    grid = PatchGrid(np.array(coords, dtype=np.int64) * 256, 256, 256, 256)
    return replace(bag, grid=grid)


def scores(output: MILOutput, name: str) -> torch.Tensor:
    return next(m.scores for m in output.explanations if m.name == name)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def embedded(w: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return h (N, H) and π (N,), one patch at a time."""
    h = np.array([np.maximum(w["embedding.weight"] @ x_n + w["embedding.bias"], 0) for x_n in x])
    u = np.array([w["selection.weight"][0] @ h_n + w["selection.bias"][0] for h_n in h])
    return h, sigmoid(u)


def pooled(w: dict[str, np.ndarray], h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return attention over the rows of h, and the logits of the slide they are."""
    a = np.empty(len(h))
    for n, h_n in enumerate(h):
        v = np.tanh(w["attention.tanh.weight"] @ h_n + w["attention.tanh.bias"])
        g = sigmoid(w["attention.gate.weight"] @ h_n + w["attention.gate.bias"])
        a[n] = np.exp(w["attention.score.weight"][0] @ (v * g) + w["attention.score.bias"][0])
    a /= a.sum()
    z = sum(a_n * h_n for a_n, h_n in zip(a, h, strict=True))
    return a, w["head.weight"] @ z + w["head.bias"]


def by_hand(model: VIB, bag: Bag) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    return w, *embedded(w, bag.features.double().numpy())


def test_eval_pools_the_k_patches_of_the_largest_pi_each_weighted_by_it(
    model: VIB, bag: Bag
) -> None:
    w, h, pi = by_hand(model, bag)
    kept = sorted(sorted(range(N), key=lambda n: -pi[n])[:K])
    a, logits = pooled(w, np.array([pi[n] * h[n] for n in kept]))
    output = model(bag)
    np.testing.assert_allclose(output.logits.detach(), logits, rtol=1e-4)
    np.testing.assert_allclose(scores(output, "selection"), pi, rtol=1e-5)
    np.testing.assert_allclose(scores(output, "attention")[kept], a, rtol=1e-5)
    assert scores(output, "kept").nonzero()[:, 0].tolist() == kept
    assert model.select(bag).tolist() == kept


def test_training_pools_every_patch_weighted_by_the_mean_of_its_samples(
    model: VIB, bag: Bag
) -> None:
    w, h, pi = by_hand(model.train(), bag)
    torch.manual_seed(3)
    output = model(bag)
    torch.manual_seed(3)
    uniform = torch.rand(model.samples, N).double().numpy()
    m = np.zeros(N)
    for s in range(model.samples):
        for n in range(N):
            logistic = log(uniform[s, n]) - log(1 - uniform[s, n])
            u = log(pi[n]) - log(1 - pi[n])
            m[n] += 1 / (1 + exp(-(u + logistic) / model.temperature)) / model.samples
    a, logits = pooled(w, m[:, None] * h)
    np.testing.assert_allclose(output.logits.detach(), logits, rtol=1e-3)
    np.testing.assert_allclose(scores(output, "attention"), a, rtol=1e-3)
    assert scores(output, "kept").tolist() == [1.0] * N


def test_information_is_the_mean_divergence_of_each_patch_from_the_prior(
    model: VIB, bag: Bag
) -> None:
    _, _, pi = by_hand(model, bag)
    r = model.prior
    kl = [p * log(p / r) + (1 - p) * log((1 - p) / (1 - r)) for p in pi]
    terms = model.loss(model(bag), torch.tensor(1))
    assert list(terms) == ["class", "information"]
    np.testing.assert_allclose(terms["information"].item(), model.beta * np.mean(kl), rtol=1e-4)


def test_mean_mse_is_the_squared_distance_of_the_mean_from_the_prior(bag: Bag) -> None:
    model = VIB(feature_dim=D, classes=C, beta=1.0, info="mean_mse").eval()
    _, _, pi = by_hand(model, bag)
    information = model.loss(model(bag), torch.tensor(1))["information"]
    np.testing.assert_allclose(information.item(), (pi.mean() - 0.1) ** 2, rtol=1e-4)


def test_information_of_a_certain_patch_is_finite_with_its_gradient(bag: Bag) -> None:
    model = VIB(feature_dim=D, classes=C)
    model.selection.bias.data.fill_(200.0)
    information = model(bag).branches["information"]
    information.backward()
    assert information.item() == pytest.approx(log(1 / 0.1), rel=1e-4)
    assert torch.isfinite(model.selection.weight.grad).all()


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.2, 0.4), (0.5, 1.0), (1.0, 1.0)])
def test_the_weight_of_the_information_climbs_in_the_warm_up(
    model: VIB, bag: Bag, progress: float, share: float
) -> None:
    output = model(bag)
    whole = model.loss(output, torch.tensor(1))["information"]
    model.progress = progress
    part = model.loss(output, torch.tensor(1))["information"]
    torch.testing.assert_close(part, share * whole)
    model.warm_up = 0.0
    assert torch.equal(model.loss(output, torch.tensor(1))["information"], whole)


def test_the_class_alone_moves_the_selection_through_the_samples(model: VIB, bag: Bag) -> None:
    model.train()
    model.loss(model(bag), torch.tensor(1))["class"].backward()
    assert model.selection.weight.grad.abs().max() > 0


def test_samples_follow_the_bernoulli_of_their_pi() -> None:
    torch.manual_seed(0)
    model = VIB(feature_dim=D, classes=C, samples=2000)
    u = torch.tensor([-4.0, -1.0, 0.0, 2.0])
    torch.testing.assert_close(model._draw(u), u.sigmoid(), atol=0.03, rtol=0)


def test_dropped_patches_have_no_attention_and_bring_nothing(model: VIB, bag: Bag) -> None:
    output = model(bag)
    dropped = scores(output, "kept") == 0
    assert dropped.sum() == N - K
    assert scores(output, "attention").isnan().equal(dropped)
    torch.testing.assert_close(scores(output, "attention").nansum(), torch.tensor(1.0))
    for c in range(C):
        evidence = scores(output, f"evidence: {c}")
        assert not evidence[dropped].any()
        torch.testing.assert_close(evidence.sum(), output.logits[c] - model.head.bias[c])


def test_selection_comes_first_as_a_probability_and_each_map_is_of_its_kind(
    model: VIB, bag: Bag
) -> None:
    output = model(bag)
    assert [(m.name, m.kind) for m in output.explanations[:3]] == [
        ("selection", ExplanationKind.PROBABILITY),
        ("kept", ExplanationKind.PROBABILITY),
        ("attention", ExplanationKind.ATTENTION),
    ]
    assert output.scalars["kept"] == K
    mean = scores(output, "selection").mean().item()
    assert output.scalars["mean selection"] == pytest.approx(mean)


def test_of_equal_patches_exactly_k_are_kept_the_same_in_any_order(model: VIB) -> None:
    cells = [(x, y) for x in range(4) for y in range(3)]
    bag = with_grid(Bag(torch.ones(N, D)), cells)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    first = model.select(bag)
    assert sorted(cells[n] for n in first) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    again = order[model.select(take_patches(bag, order))]
    assert sorted(again.tolist()) == first.tolist()
    assert model.select(replace(bag, grid=None)).tolist() == [0, 1, 2, 3]


def test_patches_whose_pi_rounds_to_one_keep_their_order(model: VIB) -> None:
    u = torch.tensor([30.0, 40.0, 20.0, 50.0, 60.0])
    assert u.sigmoid().unique().numel() == 1
    assert model._top(u, None).tolist() == [0, 1, 3, 4]


def test_a_slide_of_fewer_patches_keeps_them_all(model: VIB) -> None:
    output = model(Bag(torch.randn(K - 1, D)))
    assert output.scalars["kept"] == K - 1
    assert not scores(output, "attention").isnan().any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 0},
        {"samples": 0},
        {"beta": -1.0},
        {"temperature": 0.0},
        {"prior": 0.0},
        {"prior": 1.0},
        {"warm_up": 1.5},
        {"info": "none"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VIB(feature_dim=D, classes=C, **wrong)


def test_the_selection_finds_planted_lesions() -> None:
    world = Lesions(world=100, patches=(100, 150), share=(0.04, 0.08), shift=4.5)
    train, test = plant(world, 60, 101), plant(world, 20, 102)
    torch.manual_seed(0)
    model = VIB(feature_dim=world.dim, classes=2, width=64, attention_dim=32, keep=16)
    finish(fit(model, [one.case for one in train], [], replace(recipe("vib"), epochs=24)))
    with torch.no_grad():
        found = map_auroc(test, lambda one: scores(model(one.bag), "selection"))
    assert found >= map_auroc(test, probe(train)) - 0.05
    assert finish(evaluate(model, [one.case for one in test])).metrics()["auc"] >= 0.9
