"""Predictions: of the bag asked about, by a model that knows its encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsimil.explain.predict import predict, predict_patient
from napari_wsimil.features.bag import Bag
from napari_wsimil.models import MILModel, create_model
from napari_wsimil.models.card import Card, pseudonym
from napari_wsimil.slides.patch_grid import PatchGrid

D = 6


@pytest.fixture
def model() -> MILModel:
    torch.manual_seed(0)
    return create_model("acmil", feature_dim=D, classes=2, width=8)


@pytest.fixture
def card(model: MILModel) -> Card:
    return Card(
        model="acmil",
        config=model.config,
        encoder="ink-1",
        encoder_dim=D,
        mpp=0.5,
        pixels=224,
        overlap=0.0,
        classes=("normal", "tumor"),
        data="nothing",
        synthetic=False,
        patients=(pseudonym("ann", "sea"),),
        salt="sea",
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )


def make_bag(mpp: float | None = 0.5, pixels: int = 224, seed: int = 0, n: int = 12) -> Bag:
    coords = np.zeros((n, 2), dtype=np.int64)
    grid = PatchGrid(coords, patch_size=448, stride=448, pixels=pixels, mpp=mpp)
    features = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    return Bag(features, encoder="ink-1", grid=grid)


def test_a_prediction_carries_its_bag_and_what_the_model_says(model: MILModel, card: Card) -> None:
    bag = make_bag()
    prediction = predict(model, card, bag)
    output = model.eval()(bag)
    assert prediction.bag is bag
    assert prediction.card is card
    torch.testing.assert_close(prediction.logits, output.logits)
    torch.testing.assert_close(prediction.probabilities, output.logits.softmax(dim=0))
    assert [m.name for m in prediction.explanations] == [m.name for m in output.explanations]
    assert prediction.warnings == ()


def test_a_model_in_training_predicts_as_one_that_is_not(model: MILModel, card: Card) -> None:
    first = predict(model.train(), card, make_bag())
    assert torch.equal(first.logits, predict(model, card, make_bag()).logits)


def test_nothing_of_a_prediction_holds_a_graph(model: MILModel, card: Card) -> None:
    prediction = predict(model, card, make_bag())
    assert not prediction.logits.requires_grad
    assert not any(m.scores.requires_grad for m in prediction.explanations)


def test_maps_are_titled_with_the_names_of_the_classes(model: MILModel, card: Card) -> None:
    prediction = predict(model, card, make_bag())
    titles = [prediction.title(m) for m in prediction.explanations]
    assert titles[:2] == ["attention", "branch 1"]
    assert titles[-4:] == [
        "evidence: normal",
        "evidence: tumor",
        "patch logit: normal",
        "patch logit: tumor",
    ]


def test_a_bag_of_another_encoder_is_refused_naming_both(model: MILModel, card: Card) -> None:
    bag = replace(make_bag(), encoder="oil-2")
    with pytest.raises(ValueError, match=r'"oil-2".*"ink-1"'):
        predict(model, card, bag)
    with pytest.raises(ValueError, match=r'"oil-2".*"ink-1"'):
        predict_patient(model, card, "bob", [make_bag(), bag])


def test_a_bag_of_an_unknown_encoder_is_refused(model: MILModel, card: Card) -> None:
    with pytest.raises(ValueError, match="unnamed encoder"):
        predict(model, card, replace(make_bag(), encoder=""))


def test_a_bag_of_another_width_is_refused(model: MILModel, card: Card) -> None:
    with pytest.raises(ValueError, match="this model takes 6"):
        predict(model, card, Bag(torch.zeros(3, D + 1), encoder="ink-1"))


def test_a_diverged_model_is_refused(model: MILModel, card: Card) -> None:
    model.head.bias.data += float("inf")
    with pytest.raises(ValueError, match="diverged"):
        predict(model, card, make_bag())


@pytest.mark.parametrize(
    ("trained", "seen", "said"),
    [(True, False, "on real slides"), (False, True, "on synthetic slides")],
)
def test_synthetic_and_real_do_not_mix_unnoticed(
    model: MILModel, card: Card, trained: bool, seen: bool, said: str
) -> None:
    card = card.model_copy(update={"synthetic": trained})
    bag = replace(make_bag(), synthetic=seen)
    [warning] = predict(model, card, bag).warnings
    assert warning.endswith(said)
    assert predict(model, card, replace(bag, synthetic=trained)).warnings == ()


@pytest.mark.parametrize(
    ("mpp", "said"),
    [(0.54, None), (0.46, None), (0.56, "have 0.56 µm"), (0.44, "0.44"), (None, "unknown")],
)
def test_another_scale_is_warned_of(
    model: MILModel, card: Card, mpp: float | None, said: str | None
) -> None:
    warnings = predict(model, card, make_bag(mpp)).warnings
    assert len(warnings) == (said is not None)
    assert all(said in warning and "0.5" in warning for warning in warnings)


def test_another_patch_size_is_warned_of(model: MILModel, card: Card) -> None:
    [warning] = predict(model, card, make_bag(pixels=256)).warnings
    assert "256 pixels" in warning
    assert "224" in warning


def test_a_bag_without_places_has_no_scale_to_warn_of(model: MILModel, card: Card) -> None:
    assert predict(model, card, replace(make_bag(), grid=None)).warnings == ()


def test_a_patient_is_the_mean_of_the_slides(model: MILModel, card: Card) -> None:
    bags = [make_bag(seed=1), make_bag(seed=2, n=5)]
    patient = predict_patient(model, card, "bob", bags)
    assert [slide.bag for slide in patient.slides] == bags
    mean = (patient.slides[0].logits + patient.slides[1].logits) / 2
    torch.testing.assert_close(patient.logits, mean)
    torch.testing.assert_close(patient.probabilities, mean.softmax(dim=0))
    assert torch.equal(patient.slides[1].logits, predict(model, card, bags[1]).logits)


def test_the_slides_warnings_are_the_patient_s_once_each(model: MILModel, card: Card) -> None:
    bags = [make_bag(0.9), make_bag(0.9), make_bag(None)]
    warnings = predict_patient(model, card, "bob", bags).warnings
    assert len(warnings) == 2


def test_a_patient_the_model_was_trained_on_is_pointed_out(model: MILModel, card: Card) -> None:
    [warning] = predict_patient(model, card, "ann", [make_bag()]).warnings
    assert '"ann"' in warning
    assert predict_patient(model, card, "bob", [make_bag()]).warnings == ()


def test_a_patient_without_slides_is_refused(model: MILModel, card: Card) -> None:
    with pytest.raises(ValueError, match="at least one"):
        predict_patient(model, card, "bob", [])
