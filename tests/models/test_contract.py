"""The contract, for every model of the registry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag, ClinicalTokens, take_patches
from napari_wsimil.models import MODELS, MILModel, create_model, name_of
from napari_wsimil.models.base import Explanation, ExplanationKind, MILOutput, Need
from napari_wsimil.models.card import Card
from napari_wsimil.models.layers.chunked import ROWS
from napari_wsimil.models.layers.standardize import Moments, Standardize
from napari_wsimil.models.persam.common import Personalized
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

N, D, C = 30, 16, 3
GROUPS = (5, 3)

#: What a model is made with here, besides D and C.
CONFIGS: dict[str, dict[str, int | float | str]] = {
    "bd": {"groups": "5,3", "drop_groups": 0.0, "lam_ms": 0.1, "lam_sm": 0.1},
    "longmil": {"width": 32, "radius": 2},
    "persam": {"groups": "5,3"},
    "persam-live": {"groups": "5,3"},
    "querent": {"region_size": 4, "top_regions": 2},
}

#: Models in which a patch's own logit does not depend on the other patches.
CONTEXT_FREE = {"abmil", "acmil", "hafed", "meanpool", "vib"}

#: Parameters that a loss cannot reach: a softmax does not see what all patches share.
IDLE: dict[str, set[str]] = {name: {"attention.score.bias"} for name in MODELS}
IDLE["bd"] = {f"{branch}.attention.score.bias" for branch in ("multi", "single")}
IDLE["bd"] |= {"multi.prompts"}  # none of a bag's groups are missing here
IDLE["hafed"] |= {"fine_attention.score.bias"}
#: SASHA has stages of its own for what comes before the last state.
IDLE["sasha"] |= {
    name
    for name, _ in create_model("sasha", feature_dim=D, classes=C).named_parameters()
    if name.startswith(("fine_attention.", "updater.", "actor."))
}


#: Models that can say where a patch looks.
ANSWERS = {"longmil", "querent"}

#: Models that read clinical records, and those that pool slides by a rule of their own.
READS_RECORDS = {"bd", "persam", "persam-live"}
PERSONAL = {"persam", "persam-live"}

#: Models by the kind of their maps; a head that is not linear has no evidence.
WITH_EVIDENCE = set(MODELS) - {"bd", "persam", "persam-live"}
WITH_ATTENTION = set(MODELS) - {"maxpool", "meanpool"}
WITH_PROBABILITIES = {"persam", "persam-live", "querent", "vib"}

PROBABILITIES = (ExplanationKind.PROBABILITY, ExplanationKind.SIGMOID)


def only(names: set[str]) -> pytest.MarkDecorator:
    """Run a test for these models of the registry alone."""
    return pytest.mark.parametrize("model", [n for n in MODELS if n in names], indirect=True)


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> MILModel:
    torch.manual_seed(0)
    config = CONFIGS.get(request.param, {})
    return create_model(request.param, feature_dim=D, classes=C, **config).eval()


def make_bag(n: int = N, seed: int = 1) -> Bag:
    generator = torch.Generator().manual_seed(seed)
    index = np.arange(n, dtype=np.int64)
    coords = np.stack([index % 6, index // 6], axis=1) * 256
    grid = PatchGrid(coords, patch_size=256, stride=256, pixels=256, mpp=0.5)
    features = torch.randn(n, D, generator=generator)
    record = tuple(torch.randn(width, generator=generator) for width in GROUPS)
    return Bag(
        features,
        encoder="test",
        grid=grid,
        clinical=ClinicalTokens(record, torch.ones(len(GROUPS), dtype=torch.bool)),
        finer=features[:, None] + torch.randn(n, 4, D, generator=generator),
    )


@pytest.fixture
def bag() -> Bag:
    return make_bag()


def maps_of(output: MILOutput, *kinds: ExplanationKind) -> list[Explanation]:
    return [m for m in output.explanations if m.kind in kinds]


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def test_logits_are_one_per_class_and_maps_one_score_per_patch(model: MILModel, bag: Bag) -> None:
    output = model(bag)
    assert output.logits.shape == (C,)
    assert output.explanations
    assert all(map_.per_patch().shape == (N,) for map_ in output.explanations)


def test_maps_have_names_of_their_own_and_carry_no_gradient(model: MILModel, bag: Bag) -> None:
    maps = model.train()(bag).explanations
    assert len({map_.name for map_ in maps}) == len(maps)
    assert not any(map_.scores.requires_grad for map_ in maps)


def test_models_give_the_kinds_of_maps_that_are_listed_here(model: MILModel, bag: Bag) -> None:
    name, output = name_of(model), model(bag)
    assert bool(maps_of(output, ExplanationKind.EVIDENCE)) == (name in WITH_EVIDENCE)
    assert bool(maps_of(output, ExplanationKind.ATTENTION)) == (name in WITH_ATTENTION)
    assert bool(maps_of(output, *PROBABILITIES)) == (name in WITH_PROBABILITIES)
    assert (Need.RECORD in model.needs) == (name in READS_RECORDS)
    assert isinstance(model, Personalized) == (name in PERSONAL)


def test_a_map_of_a_class_ends_in_its_index(model: MILModel, bag: Bag) -> None:
    maps = model(bag).explanations
    of_classes = [map_ for map_ in maps if map_.class_index is not None]
    assert of_classes
    assert all(map_.name.endswith(f": {map_.class_index}") for map_ in of_classes)


@only(WITH_EVIDENCE)
def test_evidence_is_of_a_class(model: MILModel, bag: Bag) -> None:
    maps = maps_of(model(bag), ExplanationKind.EVIDENCE)
    assert all(map_.class_index is not None for map_ in maps)


def test_scores_follow_their_patches(model: MILModel, bag: Bag) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    before, after = model(bag), model(take_patches(bag, order))
    torch.testing.assert_close(after.logits, before.logits)
    for old, new in zip(before.explanations, after.explanations, strict=True):
        expected = old.per_patch()[order]
        torch.testing.assert_close(new.per_patch(), expected, equal_nan=True)


@only(WITH_ATTENTION)
def test_attention_is_a_distribution(model: MILModel, bag: Bag) -> None:
    for map_ in maps_of(model(bag), ExplanationKind.ATTENTION):
        seen = map_.scores[~map_.scores.isnan()]  # NaN: not among what is attended to
        assert (seen >= 0).all()
        torch.testing.assert_close(seen.sum(), torch.tensor(1.0))


@only(WITH_PROBABILITIES)
def test_probabilities_lie_between_0_and_1(model: MILModel, bag: Bag) -> None:
    for map_ in maps_of(model(bag), *PROBABILITIES):
        assert ((map_.scores >= 0) & (map_.scores <= 1)).all()


@only(WITH_EVIDENCE)
def test_evidence_sums_to_the_logit_less_its_bias(model: MILModel, bag: Bag) -> None:
    model.head.bias.data = torch.tensor([0.5, -1.0, 2.0])
    output = model(bag)
    maps = maps_of(output, ExplanationKind.EVIDENCE)
    assert [m.class_index for m in maps] == list(range(C))
    for map_ in maps:
        expected = output.logits[map_.class_index] - model.head.bias[map_.class_index]
        torch.testing.assert_close(map_.scores.nansum(), expected)


@only(CONTEXT_FREE)  # in the others a patch alone has another embedding
def test_a_patch_logit_is_what_a_slide_of_that_patch_alone_would_get(
    model: MILModel, bag: Bag
) -> None:
    model.head.bias.data = torch.tensor([0.5, -1.0, 2.0])
    maps = [m for m in model(bag).explanations if m.name.startswith("patch logit")]
    alone = model(take_patches(bag, torch.tensor([7]))).logits
    found = torch.stack([m.scores[7] for m in maps])
    torch.testing.assert_close(found, alone - alone.mean())


def test_eval_gives_the_same_bits_twice(model: MILModel, bag: Bag) -> None:
    first, second = model(bag), model(bag)
    assert torch.equal(first.logits, second.logits)
    for one, other in zip(first.explanations, second.explanations, strict=True):
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=0, equal_nan=True)


def test_loss_reaches_every_parameter(model: MILModel, bag: Bag) -> None:
    model.train()
    total(model.loss(model(bag), torch.tensor(1))).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(idle) <= IDLE[name_of(model)]


def test_one_patch_is_enough(model: MILModel) -> None:
    bag = make_bag(1)
    assert torch.isfinite(model(bag).logits).all()
    assert torch.isfinite(total(model.train().loss(model(bag), torch.tensor(0))))


def test_no_patch_is_refused(model: MILModel) -> None:
    with pytest.raises(ValueError, match="no patches"):
        model(Bag(torch.empty(0, D)))


def test_another_width_is_refused(model: MILModel) -> None:
    with pytest.raises(ValueError, match=f"{D + 1} numbers each.* takes {D}"):
        model(Bag(torch.zeros(3, D + 1)))


LACKING = {
    Need.PLACES: ("grid", "needs places"),
    Need.RECORD: ("clinical", "needs a clinical record"),
    Need.FINER: ("finer", "needs sub-patch features"),
}


@pytest.mark.parametrize("need", list(Need))
def test_what_a_model_needs_is_asked_for_by_name(model: MILModel, bag: Bag, need: Need) -> None:
    attribute, sentence = LACKING[need]
    without = replace(bag, **{attribute: None})
    if need in model.needs:
        with pytest.raises(ValueError, match=sentence):
            model(without)
    else:
        assert torch.equal(model(without).logits, model(bag).logits)


@only(READS_RECORDS)
def test_a_record_of_another_schema_is_refused(model: MILModel, bag: Bag) -> None:
    other = ClinicalTokens((torch.zeros(7),), torch.ones(1, dtype=torch.bool))
    with pytest.raises(ValueError, match="groups of 7 numbers.*5, 3"):
        model(replace(bag, clinical=other))


def test_features_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Bag(torch.full((3, D), float("nan")))


def test_pieces_of_rows_change_nothing(model: MILModel, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = make_bag(50)
    whole = model(bag)
    monkeypatch.setattr("napari_wsimil.models.layers.chunked.ROWS", 7)
    pieces = model(bag)
    assert ROWS > 50
    torch.testing.assert_close(pieces.logits, whole.logits)
    for one, other in zip(whole.explanations, pieces.explanations, strict=True):
        torch.testing.assert_close(one.scores, other.scores, equal_nan=True)


def test_loss_falls_on_slides_with_a_planted_patch(model: MILModel) -> None:
    bags = [make_bag(20, seed) for seed in range(12)]
    for k, bag in enumerate(bags):
        bag.features[:2, k % C] += 6
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        losses.append(0.0)
        for k, bag in enumerate(bags):
            model.train()
            loss = total(model.loss(model(bag), torch.tensor(k % C)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1] += loss.item()
    assert losses[-1] < losses[0] / 2


def test_a_saved_model_comes_back_bit_for_bit(model: MILModel, bag: Bag, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    card = Card(
        model=name_of(model),
        config=model.config,
        encoder="test",
        encoder_dim=D,
        classes=("a", "b", "c"),
        data="made up",
        synthetic=False,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )
    save_checkpoint(path, model, card)
    again, _ = load_checkpoint(path)
    assert again.config == model.config
    assert torch.equal(again(bag).logits, model(bag).logits)


def test_a_patient_of_one_slide_is_that_slide(model: MILModel, bag: Bag) -> None:
    output = model(bag)
    pooled = model.pool([output])
    assert torch.equal(pooled.logits, output.logits)
    terms, same = (model.loss(o, torch.tensor(2)) for o in (output, pooled))
    assert terms.keys() == same.keys()
    assert all(torch.equal(terms[name], same[name]) for name in terms)


@only(set(MODELS) - PERSONAL)
def test_a_patient_of_two_slides_is_their_mean(model: MILModel) -> None:
    outputs = [model(make_bag(20, seed)) for seed in (3, 4)]
    pooled = model.pool(outputs)
    torch.testing.assert_close(pooled.logits, (outputs[0].logits + outputs[1].logits) / 2)
    for name, value in pooled.branches.items():
        torch.testing.assert_close(
            value, (outputs[0].branches[name] + outputs[1].branches[name]) / 2
        )


def test_a_patient_without_slides_is_refused(model: MILModel) -> None:
    with pytest.raises(ValueError, match="at least one"):
        model.pool([])


def test_a_query_is_answered_only_by_models_that_have_queries(model: MILModel, bag: Bag) -> None:
    assert len(model.explain(bag)) == len(model(bag).explanations)
    answered = model.explain(bag, query=torch.tensor([0])) != ()
    assert answered == model.answers_queries == (name_of(model) in ANSWERS)


@only(ANSWERS)
@pytest.mark.parametrize("query", [[], [-1], [N]])
def test_a_query_that_names_no_patch_is_refused(
    model: MILModel, bag: Bag, query: list[int]
) -> None:
    with pytest.raises(ValueError, match=f"patches 0 to {N - 1}"):
        model.explain(bag, query=torch.tensor(query, dtype=torch.int64))


@only(READS_RECORDS)
def test_a_record_that_is_no_number_is_refused(model: MILModel, bag: Bag) -> None:
    assert bag.clinical is not None
    values = (bag.clinical.values[0], torch.full((GROUPS[1],), torch.nan))
    with pytest.raises(ValueError, match="group 2 of the record has NaN"):
        model(replace(bag, clinical=replace(bag.clinical, values=values)))


def test_half_precision_trains(model: MILModel, bag: Bag) -> None:
    model.train()
    with torch.autocast("cpu", torch.float16):
        loss = total(model.loss(model(bag), torch.tensor(1)))
    assert torch.isfinite(loss)


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="unknown model.*acmil"):
        create_model("resnet", feature_dim=D, classes=C)


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot create abmil.*depth"):
        create_model("abmil", feature_dim=D, classes=C, depth=3)


def test_moments_in_pieces_are_those_of_the_whole() -> None:
    x = 1e4 + torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [0.1, 1.0, 10.0]
    )
    moments = Moments(3)
    for part in (x[:10], x[10:1000], x[1000:]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, x.double().numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation, x.double().numpy().std(axis=0), rtol=1e-9)


def test_standardized_features_have_mean_zero_and_scale_one_but_for_constants() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 5 + 20
    x[:, 1] = 0.1
    moments = Moments(3)
    moments.add(x)
    standardize = Standardize(3)
    standardize.measure(moments)
    z = standardize(x)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(dim=0, correction=0), torch.tensor([1.0, 0.0, 1.0]))


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no patch"):
        Standardize(3).measure(Moments(3))


def test_outputs_default_to_no_extras() -> None:
    output = MILOutput(logits=torch.zeros(2), explanations=())
    assert (output.branches, output.scalars, output.trajectory) == ({}, {}, None)
