"""What-if: two answers about one slide, what a model never saw, and what is told of it."""

from __future__ import annotations

import pytest
import torch
from records import WARD, make_cohort, make_reader, make_slide

from napari_wsimil.clinical.field import Absent
from napari_wsimil.explain.counterfactual import what_if
from napari_wsimil.explain.map_shift import movement
from napari_wsimil.explain.occlusion import removed
from napari_wsimil.explain.predict import predict, predict_patient
from napari_wsimil.models.card import Card
from napari_wsimil.models.record_encoder import RecordFormat

RECORD = make_cohort()[5]


def test_both_answers_are_those_of_the_model_and_differences_are_after_less_before() -> None:
    model, card = make_reader()
    bag = make_slide()
    edited = WARD.apply(RECORD, {"ldh": "520", "age": "missing"})
    found = what_if(model, card, bag, RECORD, edited)
    before, after = (predict(model, card, bag, record) for record in (RECORD, edited))
    assert torch.equal(found.before.probabilities, before.probabilities)
    assert torch.equal(found.after.probabilities, after.probabilities)
    assert found.changes == {"ldh": (250.0, 520.0), "age": (45.0, Absent.MISSING)}
    for number, outcome in enumerate(card.outcomes):
        rise = after.probabilities[number] - before.probabilities[number]
        assert found.probability[outcome] == pytest.approx(float(rise))
    assert max(map(abs, found.probability.values())) > 1e-3
    assert found.movements.keys() == {map_.name for map_ in before.explanations}
    for one, other in zip(before.explanations, after.explanations, strict=True):
        assert found.movements[one.name] == movement(one, other)


def test_without_a_change_nothing_moves() -> None:
    model, card = make_reader()
    found = what_if(model, card, make_slide(), RECORD, RECORD)
    assert found.changes == {}
    assert set(found.probability.values()) == {0}
    assert all(one.moved == 0 and one.brighter == 0 for one in found.movements.values())


def test_of_bd_the_answer_changes_and_attention_stays() -> None:
    model, card = make_reader("bd", attention_dim=8)
    found = what_if(model, card, make_slide(), RECORD, WARD.apply(RECORD, {"ldh": "520"}))
    assert max(map(abs, found.probability.values())) > 1e-3
    assert found.movements["multi-modal attention"].moved == 0
    assert found.movements["attention difference"].moved == 0
    assert found.movements["patch logit: 1"].moved > 0
    assert found.movements["patch logit: 1"].signed


def test_a_model_that_reads_no_record_says_so() -> None:
    model, card = make_reader()
    other = card.model_copy(update={"record": None, "model": "abmil"})
    with pytest.raises(ValueError, match="abmil reads no clinical record"):
        what_if(model, other, make_slide(), RECORD, RECORD)


# what no patient of the training was like


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"ldh": "200"}, ""),  # the ends of the range were seen
        ({"ldh": "590"}, ""),
        ({"ldh": "591"}, "ldh 591 is outside the 200 to 590 U/L of the training records"),
        ({"age": "39"}, "age 39 is outside the 40 to 79 years of the training records"),
        ({"stage": "II"}, ""),
        ({"stage": "III"}, "stage was III in no training record"),
        ({"smoker": "unknown"}, ""),
        ({"smoker": "missing"}, "smoker was missing in no training record that has others"),
        ({"note": "5"}, ""),  # no input
    ],
)
def test_what_was_in_no_training_record_is_named(changes: dict[str, str], told: str) -> None:
    model, card = make_reader()
    assert card.record is not None
    record = WARD.apply(RECORD, changes)
    assert card.record.unseen(record) == ((told.split()[0],) if told else ())
    warnings = predict(model, card, make_slide(), record).warnings
    assert len(warnings) == bool(told)
    assert not told or told in warnings[0]


def test_inputs_of_a_group_that_is_missing_altogether_are_not_named() -> None:
    record = make_reader()[1].record
    assert record is not None
    blood = ("stage", "ldh", "lymphocytes", "leukocytes")
    gone = WARD.apply(RECORD, dict.fromkeys(blood, ""))
    assert record.unseen(gone) == ()
    assert record.unseen(WARD.apply(gone, {"ldh": "300"})) == blood[:1] + blood[2:]


def test_an_absence_counts_as_seen_only_beside_others_of_its_group() -> None:
    silent = WARD.parse({})
    assert RecordFormat.fit(WARD, [*make_cohort(), silent]).seen["age"] == ()
    partly = WARD.parse({"smoker": "yes"})
    assert RecordFormat.fit(WARD, [*make_cohort(), partly]).seen["age"] == ("missing",)


def test_of_an_older_card_nothing_is_claimed() -> None:
    card = make_reader()[1]
    content = card.model_dump()
    del content["record"]["seen"]
    for moments in content["record"]["statistics"].values():
        moments.pop("min")
        moments.pop("max")
    old = Card.model_validate(content)
    assert old.record is not None
    assert old.record.unseen(WARD.apply(RECORD, {"ldh": "9000", "stage": "III"})) == ()


def test_what_was_never_a_number_is_told_as_that() -> None:
    never = RecordFormat.fit(WARD, [WARD.parse({"age": "40"})])
    assert never.remark("ldh", 5.0) == "ldh was a number in no training record"


def test_every_slide_of_a_patient_and_every_part_tells_it() -> None:
    model, card = make_reader()
    record = WARD.apply(RECORD, {"ldh": "591"})
    assert len(predict_patient(model, card, "p", [make_slide()] * 2, record).warnings) == 1
    whole = predict(model, card, make_slide(), record)
    assert removed(model, whole, torch.arange(5)).warnings == whole.warnings


def test_an_input_that_gives_the_outcome_away_is_warned_of() -> None:
    model, card = make_reader()
    fields = [f.model_copy(update={"outcome": f.name == "stage"}) for f in WARD.fields]
    leaky = WARD.model_copy(update={"fields": tuple(fields), "forced": ("stage",)})
    assert card.warnings == ()
    assert card.record is not None
    format_ = card.record.model_copy(update={"clinical": leaky})
    card = card.model_copy(update={"record": format_})
    (told,) = predict(model, card, make_slide(), RECORD).warnings
    assert "gives the outcome away, stage" in told
    assert card.warnings == (told,)
