"""Sweep: one field at a time, by the live update or by asking again, to the same figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from records import WARD, make_cohort, make_reader, make_slide

from napari_wsimil.clinical.field import Absent
from napari_wsimil.explain.map_shift import movement
from napari_wsimil.explain.predict import predict, with_record
from napari_wsimil.explain.sensitivity import FieldEffect, ranked, sweep
from napari_wsimil.progress import finish

COHORT = make_cohort()
RECORD = COHORT[5]


def swept(name: str = "persam-live") -> dict[str, FieldEffect]:
    model, card = make_reader(name)
    return {one.field: one for one in finish(sweep(model, card, make_slide(), RECORD, COHORT))}


def texts(effect: FieldEffect) -> list[str]:
    field = WARD.by_name[effect.field]
    return [field.format(one.value) or "missing" for one in effect.values]


def test_numbers_are_tried_at_the_cohorts_percentiles_others_at_each_value() -> None:
    found = swept()
    assert found.keys() == set(WARD.inputs)
    ages = sorted(range(40, 80))
    percentiles = [str(ages[int(np.ceil(0.01 * p * 40)) - 1]) for p in (5, 25, 50, 75, 95)]
    assert texts(found["age"]) == [*percentiles, "missing"]
    assert texts(found["smoker"]) == ["no", "yes", "missing"]  # the patient's is unknown
    assert texts(found["site"]) == ["neck", "missing"]  # the patient's is groin
    assert texts(found["stage"]) == ["I", "III", "missing"]


@pytest.mark.parametrize("name", ["persam-live", "persam", "bd"])
def test_each_bar_is_what_the_model_says_of_that_one_change(name: str) -> None:
    model, card = make_reader(name)
    bag = make_slide()
    own = predict(model, card, bag, RECORD)
    for effect in swept(name).values():
        for one in effect.values:
            assert one.record.changes(RECORD).keys() == {effect.field}
            assert one.record[effect.field] == one.value
            other = predict(model, card, bag, one.record)
            torch.testing.assert_close(one.probabilities, other.probabilities, atol=1e-5, rtol=0)
            rise = (other.probabilities - own.probabilities).tolist()
            assert list(one.probability.values()) == pytest.approx(rise, abs=1e-5)
            wanted = movement(own.explanations[0], other.explanations[0])
            assert one.movement.moved == pytest.approx(wanted.moved, abs=1e-5)


def test_fields_are_ranked_by_change_of_the_prediction_or_by_movement() -> None:
    effects = tuple(swept().values())
    changes = [max(abs(d) for v in e.values for d in v.probability.values()) for e in effects]
    assert [one.change for one in effects] == changes == sorted(changes, reverse=True)
    moved = [one.moved for one in ranked(effects[::-1], by_movement=True)]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] == max(v.movement.moved for e in effects for v in e.values) > 0


def test_combinations_that_cannot_be_are_flagged_and_the_patients_own_are_not() -> None:
    found = swept()
    broken = {(e.field, *v.broken) for e in found.values() for v in e.values if v.broken}
    assert {"lymphocytes", "leukocytes"} >= {field for field, *_ in broken}
    assert broken
    model, card = make_reader()
    impossible = WARD.apply(RECORD, {"lymphocytes": "30"})
    again = finish(sweep(model, card, make_slide(), impossible, COHORT))
    ages = next(one for one in again if one.field == "age")
    assert not any(one.broken for one in ages.values)


def test_values_that_no_training_record_had_are_marked() -> None:
    stage = {v.value: v.unseen for v in swept()["stage"].values}
    assert stage["I"] == ""
    assert "stage was III in no training record" in stage["III"]
    assert "missing" in stage[Absent.MISSING]


def test_without_a_cohort_numbers_can_only_be_missing() -> None:
    model, card = make_reader()
    found = finish(sweep(model, card, make_slide(), RECORD, ()))
    assert next(texts(one) for one in found if one.field == "age") == ["missing"]


def test_the_slide_is_prepared_once_and_progress_counts_answers() -> None:
    model, card = make_reader()
    steps = list(sweep(model, card, make_slide(), RECORD, COHORT))
    rows = [one for one in steps if one.total == 150 + 2]
    assert len(rows) == 1
    ready = finish(model.prepare(with_record(card, make_slide(), RECORD)))
    assert list(sweep(model, card, make_slide(), RECORD, COHORT, ready)) == steps[1:]
    answers = steps[1:]
    assert [one.done for one in answers] == list(range(1, answers[0].total + 1))
    assert answers[0].total == 1 + sum(len(one.values) for one in swept().values())


def test_features_of_another_encoder_and_models_without_records_are_refused() -> None:
    model, card = make_reader()
    with pytest.raises(ValueError, match="other"):
        finish(sweep(model, card.model_copy(update={"encoder": "other"}), make_slide(), RECORD, ()))
    with pytest.raises(ValueError, match="reads no clinical record"):
        finish(sweep(model, card.model_copy(update={"record": None}), make_slide(), RECORD, ()))
