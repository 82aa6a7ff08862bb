"""Records that go missing: hiding, filling, curves, and what missingness tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.bags.bag import Bag, ClinicalTokens
from napari_wsimil.learning.cases import Case, FollowUp
from napari_wsimil.learning.evaluation import Scores, finish
from napari_wsimil.learning.missing import (
    Answers,
    ask,
    coverage,
    curve,
    fill,
    hide,
    mean_tokens,
    zero_tokens,
)
from napari_wsimil.learning.missingness import Row, missingness, telling
from napari_wsimil.models.base import MILModel, MILOutput
from napari_wsimil.study.field import Field, Kind
from napari_wsimil.study.schema import ClinicalSchema, Record
from napari_wsimil.study.tokens import encode, fit_statistics

if TYPE_CHECKING:
    from napari_wsimil.learning.missing import Point

WIDTHS = (2, 3)


class ByRecord(MILModel):
    """Answers class 1 for a patient with the first group, class 0 without; counts its calls."""

    calls = 0

    def forward(self, bag: Bag) -> MILOutput:
        self.calls += 1
        sign = 1.0 if bag.clinical is not None and bag.clinical.present[0] else -1.0
        return MILOutput(torch.tensor([-sign, sign]), ())


def make_case(patient: str, *present: bool, target: int = 1, slides: int = 1) -> Case:
    value = float(len(patient))
    values = tuple(torch.full((width,), value + g) for g, width in enumerate(WIDTHS))
    clinical = ClinicalTokens(values, torch.tensor(present))
    bags = tuple(Bag(torch.zeros(2, 4), clinical=clinical) for _ in range(slides))
    return Case(patient, bags, target)


def present(case: Case) -> list[list[bool]]:
    return [bag.clinical.present.tolist() for bag in case.bags]


def point(points: tuple[Point, ...], rate: float, of: str) -> Point:
    return next(p for p in points if (p.rate, p.of) == (rate, of))


def answers_of(has: list[bool], targets: list[int]) -> Answers:
    """Return answers that are right as recorded and wrong once hidden."""
    right = torch.nn.functional.one_hot(torch.tensor(targets), 2).float()
    names = tuple(map(str, range(len(has))))
    recorded = Scores(names, torch.tensor(targets), right)
    return Answers(recorded, replace(recorded, logits=1 - right), np.array(has))


def test_hiding_leaves_the_case_as_it_was_and_the_other_groups() -> None:
    case = make_case("a", True, True, slides=2)
    assert present(hide(case)) == [[False, False]] * 2
    assert present(hide(case, [1])) == [[True, False]] * 2
    assert present(case) == [[True, True]] * 2
    assert hide(case).bags[:1][0].clinical.present.tolist() == [False, False]


def test_hiding_reads_a_bag_only_when_it_is_asked_for() -> None:
    class Unread(tuple):
        def __getitem__(self, index: int) -> Bag:
            raise AssertionError("read")

    case = hide(Case("a", Unread([None]), 0))
    with pytest.raises(AssertionError, match="read"):
        case.bags[0]


def test_a_bag_without_a_record_has_nothing_to_hide_or_fill() -> None:
    bag = Bag(torch.zeros(2, 4))
    case = Case("a", (bag,), 0)
    assert hide(case).bags[0] is bag
    assert fill(case, [torch.zeros(2)]).bags[0] is bag


def test_filling_replaces_missing_groups_alone_and_passes_them_for_known() -> None:
    tokens = (torch.tensor([7.0, 8.0]), torch.tensor([7.0, 8.0, 9.0]))
    record = fill(make_case("a", True, False), tokens).bags[0].clinical
    assert record.present.tolist() == [True, True]
    assert record.values[0].tolist() == [1.0, 1.0]
    assert record.values[1].tolist() == [7.0, 8.0, 9.0]


def test_the_mean_token_is_of_the_patients_who_have_the_group() -> None:
    cases = [
        make_case("a", True, True),
        make_case("bb", False, True),
        make_case("ccccc", True, False),
        Case("none", (Bag(torch.zeros(1, 4)),), 0),
    ]
    first, second = mean_tokens(cases)
    assert first.tolist() == [3.0, 3.0]
    assert second.tolist() == [2.5, 2.5, 2.5]


def test_a_mean_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="no patient has group 1"):
        mean_tokens([make_case("a", True, False)])
    with pytest.raises(ValueError, match="no patient has a record"):
        mean_tokens([Case("a", (Bag(torch.zeros(1, 4)),), 0)])


def test_a_raw_zero_is_as_far_from_the_mean_as_the_field_s_zero_is() -> None:
    fields = (
        Field(name="age", kind=Kind.NUMBER, group="who"),
        Field(name="sex", kind=Kind.CATEGORY, group="who", values=("f", "m")),
    )
    schema = ClinicalSchema(name="s", fields=fields, inputs=("age", "sex"))
    records = [Record({"age": age, "sex": "f"}) for age in (40.0, 60.0)]
    statistics = fit_statistics(schema, records)
    (token,) = zero_tokens(schema, statistics)
    assert token[0] == pytest.approx(-5.0)  # (0 - 50) / 10
    assert not token[1:].any()
    assert token.shape == encode(schema, records[0], statistics).values[0].shape


def test_coverage_counts_patients_by_group_and_those_with_any() -> None:
    cases = [
        make_case("a", True, True),
        make_case("b", False, True),
        make_case("c", False, False),
        Case("d", (Bag(torch.zeros(1, 4)),), 0),
    ]
    assert coverage(cases) == (1, 2, 2)


def test_a_model_is_asked_twice_a_slide_with_the_groups_and_without() -> None:
    model = ByRecord(feature_dim=4, classes=2)
    cases = [make_case("a", True, True, slides=2), make_case("b", False, True)]
    answers = finish(ask(model, cases))
    assert model.calls == 6
    assert answers.has.tolist() == [True, True]
    assert answers.recorded.logits[:, 1].tolist() == [1.0, -1.0]
    assert answers.hidden.logits[:, 1].tolist() == [-1.0, -1.0]


def test_who_has_a_record_is_asked_of_the_hidden_groups() -> None:
    model = ByRecord(feature_dim=4, classes=2)
    cases = [make_case("a", True, False), make_case("b", False, True)]
    answers = finish(ask(model, cases, groups=[1]))
    assert answers.has.tolist() == [False, True]
    assert torch.equal(answers.hidden.logits, answers.recorded.logits)


def test_what_is_hidden_can_be_filled() -> None:
    model = ByRecord(feature_dim=4, classes=2)
    cases = [make_case("a", True, True), make_case("b", False, True)]
    tokens = (torch.zeros(2), torch.zeros(3))
    answers = finish(ask(model, cases, [0], tokens))
    assert answers.hidden.logits[:, 1].tolist() == [1.0, 1.0]
    assert answers.has.tolist() == [True, False]


def test_asking_tells_how_far_it_is() -> None:
    steps = list(ask(ByRecord(feature_dim=4, classes=2), [make_case("a", True, True)]))
    assert [(s.stage, s.done, s.total) for s in steps] == [
        ("as recorded", 0, 1),
        ("as recorded", 1, 1),
        ("with groups hidden", 0, 1),
        ("with groups hidden", 1, 1),
    ]


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_a_draw_hides_a_share_of_those_who_have_something(rate: float) -> None:
    answers = answers_of([True] * 10 + [False] * 5, [0, 1, 0] * 5)
    lost = answers.draw(rate, (0, 0))
    assert lost.sum() == round(10 * rate)
    assert not lost[10:].any()


def test_draws_are_seeded_differ_and_grow_with_the_rate() -> None:
    answers = answers_of([True] * 20, [0, 1] * 10)
    some = answers.draw(0.4, (0, 0))
    assert (some == answers.draw(0.4, (0, 0))).all()
    assert (some != answers.draw(0.4, (0, 1))).any()
    assert answers.draw(0.8, (0, 0))[some].all()


def test_a_curve_is_of_all_patients_of_those_with_and_of_those_without() -> None:
    answers = answers_of([True] * 8 + [False] * 4, [0, 1] * 6)
    points = curve(answers, rates=(0.0, 0.5, 1.0), draws=3)
    assert len(points) == 9
    assert [p.patients for p in points] == [12, 8, 4, 12, 4, 8, 12, 0, 12]
    # right with the record; without, right only where there never was one
    assert point(points, 0.5, "with").mean["balanced_accuracy"] == 1
    assert point(points, 0.0, "without").mean["balanced_accuracy"] == 1
    assert point(points, 1.0, "all").mean["balanced_accuracy"] == pytest.approx(1 / 3)
    assert all(np.isnan(value) for value in point(points, 1.0, "with").mean.values())


def test_a_curve_spreads_over_its_draws() -> None:
    answers = answers_of([True] * 9, [0, 0, 0, 0, 0, 0, 0, 1, 1])
    points = curve(answers, rates=(0.0, 0.5), draws=6)
    found = [answers.when(answers.draw(0.5, (0, k))).metrics()["macro_f1"] for k in range(6)]
    half = point(points, 0.5, "all")
    assert half.mean["macro_f1"] == pytest.approx(np.mean(found))
    assert half.sd["macro_f1"] == pytest.approx(np.std(found))
    assert half.sd["macro_f1"] > 0
    assert point(points, 0.0, "all").sd["macro_f1"] == 0


def test_missingness_is_counted_by_site_and_class() -> None:
    has = np.array([True, False, True, True, False])
    table = missingness("blood", has, list("xxyxy"), list("aaabb"), shuffles=9)
    assert table.rows == (
        Row("a", "x", 1, 1),
        Row("a", "y", 1, 0),
        Row("b", "x", 1, 0),
        Row("b", "y", 0, 1),
    )


def test_missingness_that_follows_the_class_is_warned_of() -> None:
    labels = ["x"] * 30 + ["y"] * 30
    has = np.array([True] * 27 + [False] * 3 + [False] * 21 + [True] * 9)
    table = missingness("blood", has, labels)
    assert table.auc == pytest.approx(0.8)  # (27 / 30 + 21 / 30) / 2
    assert table.p == table.p_within == 0.001
    assert "blood is missing tells the class" in table.warning
    assert "also within sites" in table.warning


def test_missingness_that_only_follows_the_site_is_said_to() -> None:
    sites = ["a"] * 40 + ["b"] * 40
    labels = ["x"] * 36 + ["y"] * 4 + ["x"] * 4 + ["y"] * 36
    has = np.array([True] * 38 + [False, True] + [False] * 38 + [True, False])
    table = missingness("blood", has, labels, sites)
    assert table.p < 0.01 < table.p_within
    assert "not within sites" in table.warning


def test_missingness_by_chance_is_not_warned_of() -> None:
    random = np.random.default_rng(0)
    labels = list(random.choice(["x", "y", "z"], 90))
    table = missingness("blood", random.random(90) < 0.5, labels)
    assert table.p > 0.01
    assert table.warning is None


@pytest.mark.parametrize("has", [[True] * 6, [False] * 6])
def test_what_nobody_or_everybody_lacks_tells_nothing(has: list[bool]) -> None:
    table = missingness("blood", np.array(has), list("xxyyxy"))
    assert table.auc == 0.5
    assert table.warning is None


def test_a_single_class_cannot_be_told() -> None:
    assert missingness("blood", np.array([True, False]), ["x", "x"]).warning is None


def test_other_patients_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 patients, 3 labels and 2 sites"):
        missingness("blood", np.array([True, False]), ["x", "y", "x"])


def absent(number: int, target: int, present: tuple[bool, bool] | None) -> Case:
    tokens = (torch.zeros(2), torch.zeros(3))
    record = None if present is None else ClinicalTokens(tokens, torch.tensor(present))
    return Case(f"p{number}", (Bag(torch.zeros(1, 4), clinical=record),), target)


def test_a_group_that_only_one_class_lacks_is_told_by_its_name() -> None:
    cases = [absent(i, i % 2, (i % 3 > 0, i % 2 > 0)) for i in range(60)]
    (sentence,) = telling(("interview", "blood"), cases)
    assert "whether blood is missing tells the class" in sentence


def test_a_patient_without_tokens_lacks_every_group() -> None:
    cases = [absent(i, i % 2, (True, True) if i % 2 else None) for i in range(60)]
    assert len(telling(("interview", "blood"), cases)) == 2


def test_of_follow_ups_nothing_is_told() -> None:
    assert telling(("a", "b"), [replace(absent(0, 0, None), target=FollowUp(1.0, True))]) == ()
