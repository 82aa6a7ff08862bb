"""A BD's branches: which one answered, what each says, what the record changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.explain.branch_comparison import (
    Route,
    branches,
    divergence_of,
    gap_of,
    risk_by,
    route,
    said_by,
)
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.bag import Bag
from napari_wsimil.models import create_model
from napari_wsimil.models.losses import Survival
from napari_wsimil.training.checkpoint import load_checkpoint, save_checkpoint
from napari_wsimil.workflows.demo import MODELS, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card


@pytest.fixture(scope="module")
def loaded() -> tuple[MILModel, Card]:
    return load_checkpoint(MODELS / "bd.safetensors")


def record(**values: str) -> Record:
    return read_schema(SCHEMA).parse(values)


def bag_for(card: Card) -> Bag:
    rows = torch.randn(20, card.encoder_dim, generator=torch.Generator().manual_seed(3))
    return Bag(rows, card.encoder, synthetic=True)


def groups_of(card: Card) -> tuple[str, ...]:
    assert card.record is not None
    return tuple(card.record.clinical.groups)


def test_the_route_names_the_groups_that_are_there(loaded: tuple[MILModel, Card]) -> None:
    model, card = loaded
    bag, groups = bag_for(card), groups_of(card)
    some = predict(model, card, bag, record(age="71"))
    group = next(f.group for f in read_schema(SCHEMA).fields if f.name == "age")
    rest = tuple(name for name in groups if name != group)
    assert route(some) == Route("multi-modal", (group,), rest)
    assert route(predict(model, card, bag)) == Route("single-modal", (), groups)
    acmil, other = load_checkpoint(MODELS / "acmil.safetensors")
    assert route(predict(acmil, other, bag_for(other))) is None


def test_the_answer_is_that_of_the_branch_taken(loaded: tuple[MILModel, Card]) -> None:
    model, card = loaded
    bag = bag_for(card)
    for values, branch in (({"age": "71"}, "multi-modal"), ({}, "single-modal")):
        found = predict(model, card, bag, record(**values))
        said = said_by(found, branch)
        assert said is not None
        torch.testing.assert_close(said, found.probabilities)
    assert said_by(found, "multi-modal") is None  # nothing was known


def test_what_the_record_changes_is_told_by_a_loop_over_classes(
    loaded: tuple[MILModel, Card],
) -> None:
    model, card = loaded
    bag = bag_for(card)
    found = branches(model, card, bag, record(age="71", ldh="640"))
    pairs = ((found.single, found.gap), (found.blind, found.own))
    for other, told in pairs:
        nats = 0.0
        for p, q in zip(found.multi.tolist(), other.tolist(), strict=True):
            nats += p * math.log(p / q)
        assert told == pytest.approx(nats, rel=1e-3, abs=1e-6)
    torch.testing.assert_close(found.change, found.multi - found.single)
    assert float(found.own_change.sum()) == pytest.approx(0, abs=1e-5)
    said = predict(model, card, bag, record(age="71", ldh="640"))
    assert said.scalars["what the record changes"] == pytest.approx(found.gap)


def test_without_a_record_nothing_is_the_records_own(loaded: tuple[MILModel, Card]) -> None:
    model, card = loaded
    found = branches(model, card, bag_for(card), None)
    assert found.own == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(found.multi, found.blind)


def test_other_models_have_no_such_branches() -> None:
    model, card = load_checkpoint(MODELS / "acmil.safetensors")
    with pytest.raises(ValueError, match="acmil has no branches"):
        branches(model, card, bag_for(card), None)


DISCRETE = Survival(loss="discrete", unit="months", bins=(12.0, 60.0))
COX = Survival(loss="cox", unit="months", reference=0.3)


def of_survival(loaded: tuple[MILModel, Card], survival: Survival) -> tuple[MILModel, Card]:
    """Return an untrained model of survival that reads the same records."""
    card, classes = loaded[1], survival.classes
    assert card.record is not None
    torch.manual_seed(4)
    shape = {"feature_dim": card.encoder_dim, "classes": len(classes)}
    model = create_model("bd", groups=card.record.groups, **shape)
    said = {"survival": survival, "classes": classes, "config": model.config}
    return model, card.model_copy(update=said)


@pytest.mark.parametrize("survival", [DISCRETE, COX])
def test_of_survival_branches_say_what_the_card_makes_of_their_logits(
    loaded: tuple[MILModel, Card], survival: Survival
) -> None:
    model, card = of_survival(loaded, survival)
    bag, values = bag_for(card), record(age="71", ldh="640")
    said, found = predict(model, card, bag, values), branches(model, card, bag, values)
    torch.testing.assert_close(said_by(said, "multi-modal"), said.probabilities)
    torch.testing.assert_close(said_by(said, "single-modal"), found.single)
    risks = {name: risk_by(said, name) for name in ("multi-modal", "single-modal")}
    assert risks["multi-modal"] == pytest.approx(said.scalars["risk"])
    if survival is DISCRETE:
        assert risks["single-modal"] == pytest.approx(float((1 - found.single).sum()))
    assert found.own_risk != 0
    assert gap_of(said) == pytest.approx(found.gap)
    assert set(said.scalars) == {"risk"}  # softmax of the branches says nothing of survival
    alone = predict(model, card, bag)
    assert (risk_by(alone, "multi-modal"), gap_of(alone)) == (None, None)
    assert risk_by(alone, "single-modal") == pytest.approx(alone.scalars["risk"])


def test_the_divergence_of_hazards_is_a_loop_over_when_the_event_comes(
    loaded: tuple[MILModel, Card],
) -> None:
    _, card = of_survival(loaded, DISCRETE)
    teacher, student = torch.tensor([0.4, -1.2]), torch.tensor([-0.7, 0.9])
    chances = []
    for logits in (teacher.tolist(), student.tolist()):
        lived, each = 1.0, []
        for logit in logits:
            hazard = 1 / (1 + math.exp(-logit))
            each.append(lived * hazard)
            lived *= 1 - hazard
        chances.append([*each, lived])
    nats = sum(p * math.log(p / q) for p, q in zip(*chances, strict=True))
    assert divergence_of(card, teacher, student) == pytest.approx(nats, rel=1e-5)


def test_the_divergence_of_cox_is_of_earlier_or_later_than_the_median(
    loaded: tuple[MILModel, Card],
) -> None:
    _, card = of_survival(loaded, COX)
    teacher, student = torch.tensor([0.1, 0.9]), torch.tensor([0.5, -0.2])
    p, q = (1 / (1 + math.exp(-(one[1] - one[0] - 0.3))) for one in (teacher, student))
    nats = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert divergence_of(card, teacher, student) == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("survival", [DISCRETE, COX])
def test_the_tab_tells_chances_and_risk_of_survival(
    docks: Docks,
    small_slide: Path,
    features: Path,
    loaded: tuple[MILModel, Card],
    survival: Survival,
    tmp_path: Path,
) -> None:
    save_checkpoint(tmp_path / "bd.safetensors", *of_survival(loaded, survival))
    docks.ask(small_slide, features, tmp_path / "bd.safetensors")
    docks.pane.record_state.record = record(age="71", ldh="640")
    docks.explain.run()
    docks.idle()
    tab, said = docks.explain.branches, docks.pane.prediction
    assert docks.explain.tabs.isTabVisible(docks.explain.tabs.indexOf(tab))
    tab.blind.click()
    docks.idle()
    assert "Chances of" in tab.routed.text()
    titles = [tab.table.item(row, 0).text() for row in range(3)]
    times = ["12", "60"] if survival is DISCRETE else ["later", "earlier"]
    assert titles == [*times, "risk"]
    assert tab.table.item(0, 2).text() == f"{float(said.probabilities[0]):.1%}"
    assert tab.table.item(2, 2).text() == f"{said.scalars['risk']:.3g}"
    change = risk_by(said, "multi-modal") - risk_by(said, "single-modal")
    assert tab.table.item(2, 3).text() == f"{change:+.3g}"
    assert tab.table.item(2, 4).text()[0] in "+-"


def test_the_tab_tells_branch_and_change_and_lays_both_maps_beside(
    docks: Docks, small_slide: Path, features: Path
) -> None:
    docks.ask(small_slide, features, MODELS / "bd.safetensors")
    tab = docks.explain.branches
    assert docks.explain.tabs.isTabVisible(docks.explain.tabs.indexOf(tab))
    assert "branch <b>without the record</b>" in tab.routed.text()
    assert not tab.blind.isEnabled()
    assert tab.table.item(0, 2).text() == "–"
    docks.pane.record_state.record = record(age="71", ldh="640")
    docks.explain.run()
    docks.idle()
    assert "branch <b>with the record</b>" in tab.routed.text()
    assert tab.table.columnCount() == 4
    said = docks.pane.prediction
    assert said is not None
    assert tab.table.item(1, 2).text() == f"{float(said.probabilities[1]):.1%}"
    tab.blind.click()
    docks.idle()
    assert tab.table.columnCount() == 5
    assert "within the one that reads it" in tab.gap.text()
    tab.beside.click()
    assert docks.pane.view_state.side == ("multi-modal attention", "single-modal attention")
    assert len(docks.beside.model.layers) == 4
    tab.differ.click()
    assert "attention difference" in docks.names()
    docks.pane.record_state.record = record(ldh="640")
    docks.explain.run()
    docks.idle()
    assert tab.table.columnCount() == 4  # what was asked of the former record is gone


def test_other_models_have_no_such_tab(asked: Docks) -> None:
    tabs = asked.explain.tabs
    assert not tabs.isTabVisible(tabs.indexOf(asked.explain.branches))
