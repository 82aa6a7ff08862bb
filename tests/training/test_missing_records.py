"""Records hidden for the benchmark of BD: hiding, filling, drawing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from _missing import Answers, ask, fill, hide, mean_tokens

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.features.case import Case
from napari_wsimil.models.base import MILModel, MILOutput
from napari_wsimil.progress import finish
from napari_wsimil.training.evaluation import Scores

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
    assert [(s.text, s.done, s.total) for s in steps] == [
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


def test_only_patients_who_lost_their_record_are_wrong() -> None:
    answers = answers_of([True] * 4, [0, 1, 0, 1])
    lost = np.array([True, False, False, True])
    wrong = answers.when(lost).logits.argmax(dim=1) != answers.recorded.targets
    assert wrong.tolist() == lost.tolist()
