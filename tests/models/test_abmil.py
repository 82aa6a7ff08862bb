"""ABMIL against its equations, written as plain loops."""

from __future__ import annotations

import numpy as np
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.models.abmil import ABMIL

N, D, C = 9, 5, 2


def numbers(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def attention_by_hand(w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    scores = []
    for h_n in h:
        v = np.tanh(w["attention.tanh.weight"] @ h_n + w["attention.tanh.bias"])
        u = 1 / (1 + np.exp(-(w["attention.gate.weight"] @ h_n + w["attention.gate.bias"])))
        scores.append(w["attention.score.weight"][0] @ (v * u) + w["attention.score.bias"][0])
    powers = np.exp(np.array(scores))
    return powers / powers.sum()


def test_forward_is_the_equations() -> None:
    torch.manual_seed(0)
    model = ABMIL(feature_dim=D, classes=C, width=7, attention_dim=4).eval()
    model.standardize.mean.uniform_()
    model.standardize.scale.uniform_(0.5, 2)
    model.head.bias.data.uniform_()
    x = torch.randn(N, D)
    w = numbers(model)
    h = np.array(
        [
            np.maximum(
                w["embedding.weight"] @ ((row - w["standardize.mean"]) / w["standardize.scale"])
                + w["embedding.bias"],
                0,
            )
            for row in x.double().numpy()
        ]
    )
    a = attention_by_hand(w, h)
    z = sum(a_n * h_n for a_n, h_n in zip(a, h, strict=True))

    output = model(Bag(x))

    np.testing.assert_allclose(output.explanations[0].scores, a, rtol=1e-5)
    expected = w["head.weight"] @ z + w["head.bias"]
    np.testing.assert_allclose(output.logits.detach(), expected, rtol=1e-5)
    names = [m.name for m in output.explanations]
    assert names == ["attention", "evidence: 0", "evidence: 1", "patch logit: 0", "patch logit: 1"]


def test_the_evidence_of_two_classes_mirror_each_other_even_after_training() -> None:
    torch.manual_seed(0)
    model = ABMIL(feature_dim=D, classes=2, width=7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(20):
        loss = model.loss(model(Bag(torch.randn(N, D))), torch.tensor(1))["class"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    maps = {m.name: m.scores for m in model(Bag(torch.randn(N, D))).explanations}
    assert maps["evidence: 1"].abs().max() > 0
    torch.testing.assert_close(maps["evidence: 0"], -maps["evidence: 1"], atol=1e-5, rtol=1e-3)
