"""BD against its equations, its stop-gradients, its router and its missing groups."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.models.base import ExplanationKind, MILOutput
from napari_wsimil.models.bd import BD, divergence
from napari_wsimil.models.losses import criterion
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags_clinical import GROUPS, Records, plant_records
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import FitConfig, fit

if TYPE_CHECKING:
    from napari_wsimil.features.case import Case

N, D, C, H = 12, 5, 3, 7
WIDTHS = (4, 2)
TARGETS = {
    "class": torch.tensor(1),
    "survival": torch.tensor([1.0, 1.0]),
}


def make_model(**changed: float) -> BD:
    torch.manual_seed(0)
    config = {"width": H, "attention_dim": 6, "drop_groups": 0.0, "dropout": 0.0} | changed
    return BD(feature_dim=D, classes=C, groups="4,2", **config).eval()


@pytest.fixture
def model() -> BD:
    return make_model()


def make_bag(*present: bool, seed: int = 1) -> Bag:
    generator = torch.Generator().manual_seed(seed)
    values = tuple(torch.randn(width, generator=generator) for width in WIDTHS)
    features = torch.randn(N, D, generator=generator)
    return Bag(features, clinical=ClinicalTokens(values, torch.tensor(present)))


def numbers(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def linear(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def branch_by_hand(
    w: dict[str, np.ndarray], name: str, x: np.ndarray, tokens: list[np.ndarray]
) -> tuple[np.ndarray, ...]:
    h = np.array([np.maximum(linear(w, f"{name}.embedding", row), 0) for row in x])
    scores = []
    for row in h:
        v = np.tanh(linear(w, f"{name}.attention.tanh", row))
        u = 1 / (1 + np.exp(-linear(w, f"{name}.attention.gate", row)))
        scores.append(linear(w, f"{name}.attention.score", v * u)[0])
    a = softmax(np.array(scores))
    pooled = sum(a_n * h_n for a_n, h_n in zip(a, h, strict=True))
    u = fused_by_hand(w, name, pooled, tokens)
    return a, pooled, u, linear(w, f"{name}.head", u)


def fused_by_hand(
    w: dict[str, np.ndarray], name: str, pooled: np.ndarray, tokens: list[np.ndarray]
) -> np.ndarray:
    both = np.hstack([w[f"{name}.from_image.weight"], w[f"{name}.from_tokens.weight"]])
    z = both @ np.concatenate([pooled, *tokens]) + w[f"{name}.from_image.bias"]
    return linear(w, f"{name}.fusion", np.maximum(z, 0))


def tokens_by_hand(w: dict[str, np.ndarray], record: ClinicalTokens) -> list[np.ndarray]:
    tokens = []
    for g, value in enumerate(record.values):
        hidden = np.maximum(linear(w, f"record.{g}.0", value.double().numpy()), 0)
        token = linear(w, f"record.{g}.2", hidden)
        tokens.append(token if record.present[g] else w["multi.prompts"][g])
    return tokens


def maps(output: MILOutput) -> dict[str, np.ndarray]:
    return {m.name: m.scores.double().numpy() for m in output.explanations}


#: A softmax does not see what all patches share; rounding may.
SOFTMAX_BLIND = {"multi.attention.score.bias", "single.attention.score.bias"}

RECORDS = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("present", RECORDS)
def test_forward_is_the_equations_with_a_prompt_for_each_missing_group(
    model: BD, present: tuple[bool, bool]
) -> None:
    bag, w = make_bag(*present), numbers(model)
    x = bag.features.double().numpy()
    a_m, w_m, u_m, l_m = branch_by_hand(w, "multi", x, tokens_by_hand(w, bag.clinical))
    a_s, w_s, u_s, l_s = branch_by_hand(w, "single", x, list(w["single.prompts"]))
    output = model(bag)
    found = {name: value.detach().numpy() for name, value in output.branches.items()}
    for name, expected in {
        "multi-modal": l_m,
        "single-modal": l_s,
        "multi-modal fused": u_m,
        "single-modal fused": u_s,
        "multi-modal image": w_m,
        "single-modal image": w_s,
    }.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)
    shown = maps(output)
    np.testing.assert_allclose(shown["multi-modal attention"], a_m, rtol=1e-5)
    np.testing.assert_allclose(shown["single-modal attention"], a_s, rtol=1e-5)
    np.testing.assert_allclose(shown["attention difference"], len(a_m) * (a_m - a_s), atol=1e-5)


@pytest.mark.parametrize("present", RECORDS)
def test_a_patient_with_any_group_is_routed_to_m_and_one_without_to_s(
    model: BD, present: tuple[bool, bool]
) -> None:
    output = model(make_bag(*present))
    branch = "multi-modal" if any(present) else "single-modal"
    assert torch.equal(output.logits, output.branches[branch])
    assert output.explanations[0].name == "attention"
    np.testing.assert_array_equal(maps(output)["attention"], maps(output)[f"{branch} attention"])


@pytest.mark.parametrize("present", RECORDS)
def test_a_patch_logit_is_that_of_a_slide_of_the_patch_alone_beside_the_record(
    model: BD, present: tuple[bool, bool]
) -> None:
    bag = make_bag(*present)
    found = [m for m in model(bag).explanations if m.class_index is not None]
    assert [m.name for m in found] == [f"patch logit: {c}" for c in range(C)]
    for n in range(N):
        alone = model(replace(bag, features=bag.features[n : n + 1])).logits
        scores = torch.stack([m.scores[n] for m in found])
        torch.testing.assert_close(scores, (alone - alone.mean()).detach())


def test_a_fusion_that_is_not_linear_gives_no_evidence(model: BD) -> None:
    kinds = {m.kind for m in model(make_bag(True, True)).explanations}
    assert kinds == {ExplanationKind.ATTENTION, ExplanationKind.SCORE}


def test_what_a_missing_group_holds_changes_nothing(model: BD) -> None:
    bag = make_bag(True, False)
    first, second = bag.clinical.values
    other = replace(bag.clinical, values=(first, torch.full_like(second, float("nan"))))
    assert torch.equal(model(replace(bag, clinical=other)).logits, model(bag).logits)


def test_scalars_are_the_branches_probabilities_and_their_divergence(model: BD) -> None:
    output = model(make_bag(True, False))
    p = output.branches["multi-modal"].softmax(0).double().detach().numpy()
    q = output.branches["single-modal"].softmax(0).double().detach().numpy()
    expected = {f"single-modal: {c}": q[c] for c in range(C)}
    expected |= {f"multi-modal: {c}": p[c] for c in range(C)}
    expected["what the record changes"] = (p * np.log(p / q)).sum()
    assert output.scalars == pytest.approx(expected, rel=1e-4)


def test_without_a_record_only_the_single_modal_branch_is_told(model: BD) -> None:
    scalars = model(make_bag(False, False)).scalars
    assert list(scalars) == [f"single-modal: {c}" for c in range(C)]


def kl_by_hand(teacher: np.ndarray, student: np.ndarray, target: str) -> float:
    if target == "class":
        pairs = [(softmax(teacher), softmax(student))]
    else:
        hazards = [1 / (1 + np.exp(-x)) for x in (teacher, student)]
        pairs = [
            (np.array([p, 1 - p]), np.array([q, 1 - q])) for p, q in zip(*hazards, strict=True)
        ]
    return float(sum((p * np.log(p / q)).sum() for p, q in pairs))


@pytest.mark.parametrize("target", TARGETS)
def test_loss_is_the_equations(target: str) -> None:
    model = make_model(lam_ms=0.7, lam_sm=0.4, temperature=3.0)
    output = model(make_bag(True, False))
    b = {name: value.double().detach().numpy() for name, value in output.branches.items()}
    kl = kl_by_hand(b["multi-modal"] / 3, b["single-modal"] / 3, target)
    fused = ((b["multi-modal fused"] - b["single-modal fused"]) ** 2).mean()
    image = ((b["multi-modal image"] - b["single-modal image"]) ** 2).mean()
    expected = {
        name: criterion(output.branches[name], TARGETS[target]).item()
        for name in ("multi-modal", "single-modal")
    }
    expected |= {"distillation": 0.7 * (9 * kl + fused), "image": 0.4 * image}
    terms = model.loss(output, TARGETS[target])
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def moved(model: BD, term: torch.Tensor) -> set[str]:
    """Return the parameters that a term of the loss moves."""
    model.zero_grad()
    term.backward(retain_graph=True)
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name for name, grad in grads.items() if grad.any()} - SOFTMAX_BLIND


def inside(model: BD, *parts: str) -> set[str]:
    """Return the parameters of some parts that a loss can move."""
    names = {name for name, _ in model.named_parameters() if name.startswith(parts)}
    return names - SOFTMAX_BLIND


@pytest.mark.parametrize("target", TARGETS)
def test_fused_knowledge_teaches_s_alone_and_image_features_m_alone(model: BD, target: str) -> None:
    terms = model.loss(model(make_bag(True, True)), TARGETS[target])
    assert moved(model, terms["distillation"]) == inside(model, "single")
    assert moved(model, terms["image"]) == inside(model, "multi.embedding", "multi.attention")
    assert moved(model, terms["single-modal"]) == inside(model, "single")
    of_m = inside(model, "multi", "record") - {"multi.prompts"}
    assert moved(model, terms["multi-modal"]) == of_m


def test_a_patient_without_a_record_teaches_nothing_but_the_single_modal_branch(
    model: BD,
) -> None:
    terms = model.loss(model(make_bag(False, False)), torch.tensor(1))
    assert [name for name, term in terms.items() if term.item() != 0] == ["single-modal"]
    assert moved(model, sum(terms.values())) == inside(model, "single")


def test_a_group_is_learned_from_patients_who_have_it_and_its_prompt_from_the_others(
    model: BD,
) -> None:
    terms = model.loss(model(make_bag(False, True)), torch.tensor(1))
    learned = moved(model, terms["multi-modal"])
    assert inside(model, "record.1") <= learned
    assert not learned & inside(model, "record.0")
    rows = model.multi.prompts.grad.abs().sum(dim=1) > 0
    assert rows.tolist() == [True, False]


@pytest.mark.parametrize(("progress", "taught"), [(0.0, False), (0.19, False), (0.2, True)])
def test_distillation_waits_for_the_end_of_the_warm_up(
    model: BD, progress: float, taught: bool
) -> None:
    model.progress = progress
    terms = model.loss(model(make_bag(True, True)), torch.tensor(1))
    assert (terms["distillation"].item() > 0) is taught
    assert (terms["image"].item() > 0) is taught
    assert terms["multi-modal"].item() > 0


def test_training_hides_each_group_from_m_at_its_rate_and_the_patient_still_counts() -> None:
    model = make_model(drop_groups=0.3).train()
    bag = make_bag(True, True)
    hidden = np.zeros(2)
    for _ in range(400):
        tokens = model._tokens(bag.clinical)
        hidden += (tokens == model.multi.prompts).all(dim=1).numpy()
        assert model(bag).branches["has record"] == 1
    assert np.abs(hidden / 400 - 0.3).max() < 0.08
    assert not (model.eval()._tokens(bag.clinical) == model.multi.prompts).any()


def test_training_never_shows_m_a_group_that_is_missing() -> None:
    model = make_model(drop_groups=0.3).train()
    for _ in range(20):
        tokens = model._tokens(make_bag(True, False).clinical)
        assert torch.equal(tokens[1], model.multi.prompts[1])


def test_dropout_reaches_the_logits_but_not_what_is_distilled() -> None:
    model = make_model(dropout=0.5).train()
    first, second = (model(make_bag(True, True)).branches for _ in range(2))
    for branch in ("multi-modal", "single-modal"):
        assert not torch.equal(first[branch], second[branch])
        assert torch.equal(first[f"{branch} fused"], second[f"{branch} fused"])


def test_a_patient_s_slides_share_the_terms_that_need_a_record(model: BD) -> None:
    with_, without = (model(make_bag(*present)) for present in ((True, True), (False, False)))
    pooled = model.pool([with_, without])
    term = model.loss(pooled, torch.tensor(2))["multi-modal"]
    torch.testing.assert_close(term, criterion(pooled.branches["multi-modal"], torch.tensor(2)) / 2)


def test_cox_compares_in_m_only_the_patients_with_a_record() -> None:
    torch.manual_seed(0)
    model = BD(feature_dim=D, classes=2, groups="4,2", width=H, attention_dim=6).eval()
    has = [(True, True), (False, False), (True, False), (False, True)]
    outputs = [model(make_bag(*present, seed=k)) for k, present in enumerate(has)]
    together = {
        name: torch.stack([output.branches[name] for output in outputs])
        for name in outputs[0].branches
    }
    target = torch.tensor([[3.0, 1.0], [1.0, 1.0], [4.0, 0.0], [2.0, 1.0]])
    logits = torch.stack([output.logits for output in outputs])
    terms = model.loss(MILOutput(logits, (), together), target)
    known = [0, 2, 3]
    expected = criterion(together["multi-modal"][known], target[known])
    torch.testing.assert_close(terms["multi-modal"], expected)
    torch.testing.assert_close(terms["single-modal"], criterion(together["single-modal"], target))
    singly = [model.loss(output, torch.tensor(0)) for output in outputs]
    for name in ("distillation", "image"):
        torch.testing.assert_close(terms[name], torch.stack([each[name] for each in singly]).mean())


def test_cox_of_patients_without_any_record_asks_nothing_of_m() -> None:
    model = BD(feature_dim=D, classes=2, groups="4,2", width=H, attention_dim=6).eval()
    outputs = [model(make_bag(False, False, seed=k)) for k in range(2)]
    stacked = {
        name: torch.stack([output.branches[name] for output in outputs])
        for name in outputs[0].branches
    }
    target = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    logits = torch.stack([output.logits for output in outputs])
    terms = model.loss(MILOutput(logits, (), stacked), target)
    assert terms["multi-modal"] == 0
    assert terms["single-modal"] > 0


def test_divergence_is_zero_between_equals_and_of_each_row() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(divergence(logits, logits + 2.0), torch.zeros(4))
    assert (divergence(logits, logits.flip(1)) > 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"drop_groups": 1.0},
        {"dropout": -0.1},
        {"warm_up": 1.5},
        {"lam_ms": -1.0},
        {"lam_sm": -1.0},
        {"temperature": 0.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} {next(iter(wrong.values()))}"):
        make_model(**wrong)


def without_record(case: Case) -> Case:
    """Return the case with all groups of its record missing."""
    (bag,) = case.bags
    assert bag.clinical is not None
    absent = replace(bag.clinical, present=torch.zeros_like(bag.clinical.present))
    return replace(case, bags=(replace(bag, clinical=absent),))


def test_training_learns_what_only_the_record_tells_and_degrades_to_the_image_without() -> None:
    world = Records(world=100, patches=(60, 100), spread=1.0, share=(0.1, 0.15))
    planted = plant_records(world, 80, seed=100)
    cases = [one.case for one in planted]
    torch.manual_seed(0)
    model = BD(feature_dim=64, classes=3, groups=GROUPS, width=32, attention_dim=16)
    finish(fit(model, cases, [], FitConfig(epochs=8, lr=3e-3, drop=0.0, noise=0.0)))
    recorded = finish(evaluate(model, cases, "with records"))
    hidden = finish(evaluate(model, [without_record(case) for case in cases], "without"))
    ambiguous = torch.tensor([one.ambiguous for one in planted])
    right = {
        name: scores.logits.argmax(1) == scores.targets
        for name, scores in (("with", recorded), ("without", hidden))
    }
    assert right["with"][~ambiguous].float().mean() > 0.9
    assert right["without"][~ambiguous].float().mean() > 0.9
    assert right["with"][ambiguous].float().mean() > right["without"][ambiguous].float().mean()
