"""The baselines against their equations, written as plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.models import create_model
from napari_wsimil.models.base import ExplanationKind, MILModel, MILOutput
from napari_wsimil.models.full_attention import FullAttention
from napari_wsimil.models.pooling_baselines import MaxPool
from napari_wsimil.models.transmil import TransMIL, block_means, pseudo_inverse
from napari_wsimil.slides.patch_grid import PatchGrid

N, D, C, H, HEADS = 14, 5, 3, 8, 2
STRIDE = 224
CELLS = [(x, y) for y in range(5) for x in range(5) if (x + 2 * y) % 5 < 3][:N]  # ragged


def ragged(cells: list[tuple[int, int]] = CELLS) -> PatchGrid:
    coords = np.array(cells, dtype=np.int64) * STRIDE + (1000, 500)
    return PatchGrid(coords, patch_size=STRIDE, stride=STRIDE, pixels=STRIDE)


def make_bag(grid: PatchGrid | None = None) -> Bag:
    grid = grid or ragged()
    x = torch.randn(len(grid), D, generator=torch.Generator().manual_seed(1))
    return Bag(x, grid=grid)


def make(name: str, **config: int) -> MILModel:
    torch.manual_seed(0)
    model = create_model(name, feature_dim=D, classes=C, width=H, **config).eval()
    model.head.bias.data.uniform_()
    return model


def numbers(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def embedded(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    rows = [w["embedding.weight"] @ row + w["embedding.bias"] for row in x]
    return np.maximum(np.array(rows), 0)


def softmax(e: np.ndarray) -> np.ndarray:
    return np.exp(e) / np.exp(e).sum()


def layer_norm(w: dict[str, np.ndarray], name: str, row: np.ndarray) -> np.ndarray:
    scaled = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def projected(w: dict[str, np.ndarray], prefix: str, h: np.ndarray) -> np.ndarray:
    """Return (3, N, H): queries, keys and values, one patch after another."""
    rows = [w[f"{prefix}qkv.weight"] @ layer_norm(w, f"{prefix}norm", row) for row in h]
    return np.array(rows).reshape(len(h), 3, H).transpose(1, 0, 2)


def attention_by_hand(w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    out = np.zeros_like(h)
    q, k, v = projected(w, "", h)
    d = H // HEADS
    for head in range(HEADS):
        part = slice(head * d, head * d + d)
        for n in range(len(h)):
            a = softmax(np.array([q[n, part] @ k_j[part] / np.sqrt(d) for k_j in k]))
            out[n, part] = sum(a_j * v_j[part] for a_j, v_j in zip(a, v, strict=True))
    return np.array([w["projection.weight"] @ row + w["projection.bias"] for row in out])


def nystrom_by_hand(
    w: dict[str, np.ndarray], prefix: str, h: np.ndarray, blocks: list[list[int]]
) -> np.ndarray:
    out = np.zeros_like(h)
    q, k, v = projected(w, prefix, h)
    d = H // HEADS
    for head in range(HEADS):
        part = slice(head * d, head * d + d)
        near_q = np.array([q[block, part].mean(axis=0) for block in blocks])
        near_k = np.array([k[block, part].mean(axis=0) for block in blocks])
        to = np.array([softmax(near_k @ row / np.sqrt(d)) for row in q[:, part]])
        middle = np.array([softmax(near_k @ row / np.sqrt(d)) for row in near_q])
        back = np.array([softmax(k[:, part] @ row / np.sqrt(d)) for row in near_q])
        out[:, part] = to @ inverse_by_hand(middle) @ back @ v[:, part]
    return np.array(
        [w[f"{prefix}projection.weight"] @ row + w[f"{prefix}projection.bias"] for row in out]
    )


def inverse_by_hand(a: np.ndarray) -> np.ndarray:
    z = a.T / (np.abs(a).sum(axis=1).max() * np.abs(a).sum(axis=0).max())
    one = np.eye(len(a))
    for _ in range(6):
        z = z @ (13 * one - a @ z @ (15 * one - a @ z @ (7 * one - a @ z))) / 4
    return z


def placed_by_hand(w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    out = np.empty_like(h)
    for n, (x, y) in enumerate(CELLS):
        out[n] = w["places.bias"]
        for other, (u, v) in enumerate(CELLS):
            if abs(u - x) <= 3 and abs(v - y) <= 3:
                out[n] += w["places.weight"][:, 0, v - y + 3, u - x + 3] * h[other]
    return out


def pooled_by_hand(w: dict[str, np.ndarray], h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def score(row: np.ndarray) -> float:
        v = np.tanh(w["attention.tanh.weight"] @ row + w["attention.tanh.bias"])
        u = 1 / (1 + np.exp(-(w["attention.gate.weight"] @ row + w["attention.gate.bias"])))
        return float(w["attention.score.weight"][0] @ (v * u) + w["attention.score.bias"][0])

    a = softmax(np.array([score(row) for row in h]))
    return a, w["head.weight"] @ (a @ h) + w["head.bias"]


def check(output: MILOutput, a: np.ndarray, logits: np.ndarray) -> None:
    np.testing.assert_allclose(output.explanations[0].scores, a, rtol=1e-4)
    np.testing.assert_allclose(output.logits.detach(), logits, rtol=1e-4, atol=1e-6)


def test_full_attention_is_the_equations() -> None:
    model, bag = make("attention", heads=HEADS), make_bag()
    w = numbers(model)
    h = embedded(w, bag.features.double().numpy())
    check(model(bag), *pooled_by_hand(w, h + attention_by_hand(w, h)))


def test_transmil_is_the_equations() -> None:
    model, bag = make("transmil", heads=HEADS, landmarks=9), make_bag()
    blocks: dict[tuple[int, int], list[int]] = {}
    for n, (x, y) in enumerate(CELLS):
        blocks.setdefault((x // 2, y // 2), []).append(n)
    w = numbers(model)
    h = embedded(w, bag.features.double().numpy())
    h = h + nystrom_by_hand(w, "layers.0.", h, list(blocks.values()))
    h = h + placed_by_hand(w, h)
    h = h + nystrom_by_hand(w, "layers.1.", h, list(blocks.values()))
    check(model(bag), *pooled_by_hand(w, h))


def test_landmarks_are_the_smallest_squares_that_are_few_enough() -> None:
    for most, expected in ((14, 14), (13, 7), (7, 7), (6, 4), (3, 3), (2, 1)):
        means = block_means(ragged(), most)
        assert means.shape == (expected, N)
        torch.testing.assert_close(means.sum(dim=1), torch.ones(expected))
        assert ((means > 0).sum(dim=0) == 1).all()


def test_landmarks_follow_places_and_not_the_stored_order() -> None:
    order = np.random.default_rng(0).permutation(N)
    shuffled = ragged([CELLS[n] for n in order])
    assert torch.equal(block_means(shuffled, 7), block_means(ragged(), 7)[:, order])


def test_the_pseudo_inverse_of_a_well_conditioned_matrix_is_its_inverse() -> None:
    a = (torch.eye(6) * 3 + torch.rand(2, 6, 6)).softmax(dim=-1)
    torch.testing.assert_close(pseudo_inverse(a), torch.linalg.inv(a), atol=1e-3, rtol=1e-3)


def test_patches_in_one_cell_are_placed_as_their_mean() -> None:
    model = make("transmil", heads=HEADS, landmarks=N)
    assert isinstance(model, TransMIL)
    h = torch.randn(3, H, generator=torch.Generator().manual_seed(2))
    twice = model._convolve(h, torch.tensor([[0, 0], [1, 0], [1, 0]]))
    once = model._convolve(torch.stack([h[0], (h[1] + h[2]) / 2]), torch.tensor([[0, 0], [1, 0]]))
    torch.testing.assert_close(twice, once[[0, 1, 1]])


def test_transmil_needs_places() -> None:
    with pytest.raises(ValueError, match="needs places"):
        make("transmil")(replace(make_bag(), grid=None))


def test_max_pooling_takes_for_each_class_the_largest_patch_logit() -> None:
    model, bag = make("maxpool"), make_bag()
    w = numbers(model)
    each = embedded(w, bag.features.double().numpy()) @ w["head.weight"].T + w["head.bias"]
    output = model(bag)
    np.testing.assert_allclose(output.logits.detach(), each.max(axis=0), rtol=1e-5)
    for map_ in output.explanations:
        if map_.kind is ExplanationKind.EVIDENCE:
            assert np.flatnonzero(map_.scores).tolist() == [each[:, map_.class_index].argmax()]


def test_max_pooling_teaches_only_the_patches_that_decided() -> None:
    model, bag = make("maxpool"), make_bag()
    assert isinstance(model, MaxPool)
    bag.features.requires_grad_()
    model(bag).logits.sum().backward()
    each = model.head(model._embed(bag.features))
    taught = bag.features.grad.abs().sum(dim=1).nonzero().flatten()
    assert set(taught.tolist()) <= set(each.argmax(dim=0).tolist())


@pytest.mark.parametrize("name", ["attention", "transmil"])
def test_heads_that_do_not_divide_the_width_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="multiple of heads 3"):
        make(name, heads=3)


def test_no_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match="landmarks"):
        TransMIL(feature_dim=D, classes=C, landmarks=0)


def test_one_patch_attends_to_itself() -> None:
    model = make("attention", heads=HEADS)
    assert isinstance(model, FullAttention)
    h = torch.randn(1, H)
    value = model.qkv(model.norm(h))[:, 2 * H :]
    torch.testing.assert_close(model._attend(h), model.projection(value))


def test_transmil_refuses_more_cells_than_it_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("transmil", feature_dim=4, classes=2).eval()
    coords = np.array([[0, 0], [256 * 9, 256 * 4]])
    grid = PatchGrid(coords, patch_size=256, stride=256, pixels=256)
    bag = Bag(torch.zeros(2, 4), grid=grid)
    assert model(bag).logits.shape == (2,)
    monkeypatch.setattr("napari_wsimil.models.transmil.MOST", 10 * 5 * model.width - 1)
    with pytest.raises(ValueError, match="10 by 5 cells"):
        model(bag)


def test_finer_features_of_another_precision_are_read() -> None:
    model = create_model("hafed", feature_dim=4, classes=2).eval()
    finer = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    single, double = (Bag(torch.zeros(3, 4), finer=one) for one in (finer, finer.double()))
    torch.testing.assert_close(model(double).logits, model(single).logits)
