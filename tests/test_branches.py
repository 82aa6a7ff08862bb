"""A BD's branches: which one answered, what each says, what the record changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from napari_wsimil.app.demo import MODELS, SCHEMA
from napari_wsimil.bags.bag import Bag
from napari_wsimil.explain.branches import Route, branches, route, said_by
from napari_wsimil.explain.predict import predict
from napari_wsimil.learning.checkpoint import load_checkpoint
from napari_wsimil.study.schema_file import read_schema

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks

    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.schema import Record


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
    with pytest.raises(ValueError, match="acmil of classification has no branches"):
        branches(model, card, bag_for(card), None)


def test_the_tab_tells_branch_and_change_and_lays_both_maps_beside(
    docks: Docks, small_slide: Path, features: Path
) -> None:
    docks.ask(small_slide, features, MODELS / "bd.safetensors")
    tab = docks.explain.branches
    assert docks.explain.tabs.isTabVisible(docks.explain.tabs.indexOf(tab))
    assert "branch <b>without the record</b>" in tab.routed.text()
    assert not tab.blind.isEnabled()
    assert tab.table.item(0, 2).text() == "–"
    docks.pane.record = record(age="71", ldh="640")
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
    assert docks.pane.side == ("multi-modal attention", "single-modal attention")
    assert len(docks.beside.model.layers) == 4
    tab.differ.click()
    assert "attention difference" in docks.names()
    docks.pane.record = record(ldh="640")
    docks.explain.run()
    docks.idle()
    assert tab.table.columnCount() == 4  # what was asked of the former record is gone


def test_other_models_have_no_such_tab(asked: Docks) -> None:
    tabs = asked.explain.tabs
    assert not tabs.isTabVisible(tabs.indexOf(asked.explain.branches))
