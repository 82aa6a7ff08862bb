"""Rerun: one change of the record over many cases; who fails is named, the others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from records import WARD, make_cohort, make_reader, make_slide

from napari_wsimil.explain.baseline_variability import noise
from napari_wsimil.explain.counterfactual import main_movement
from napari_wsimil.explain.counterfactual_cohort import Row, rerun
from napari_wsimil.explain.predict import predict_patient
from napari_wsimil.progress import finish

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.features.bag import Bag

COHORT = make_cohort(3)


def higher(record: Record) -> Record:
    return WARD.apply(record, {"ldh": "900", "lymphocytes": "50"})


class Gone(list["Bag"]):
    """Bags whose file cannot be read."""

    def __iter__(self) -> object:  # type: ignore[override]
        raise OSError("s9.h5: no such file")


def rows(*, noisy: bool = False) -> dict[str, Row]:
    subjects = [
        ("two slides", COHORT[0], [make_slide(seed=1), make_slide(80, seed=2)]),
        ("no record", None, [make_slide()]),
        ("no file", COHORT[1], Gone()),
        ("one slide", COHORT[2], [make_slide()]),
    ]
    found = finish(rerun(*make_reader(), subjects, higher, noisy=noisy))
    assert [row.case for row in found] == [name for name, *_ in subjects]
    return {row.case: row for row in found}


def test_a_patient_is_asked_about_as_a_whole_and_each_slide_moves_on_its_own() -> None:
    model, card = make_reader()
    bags = [make_slide(seed=1), make_slide(80, seed=2)]
    before, after = (
        predict_patient(model, card, "x", bags, record) for record in (COHORT[0], higher(COHORT[0]))
    )
    row = rows()["two slides"]
    assert list(row.before.values()) == before.probabilities.tolist()
    assert list(row.after.values()) == after.probabilities.tolist()
    assert row.movements == tuple(map(main_movement, before.slides, after.slides))
    assert len(row.movements) == 2
    assert "lymphocytes 50 must be <= leukocytes 3" in row.warnings
    assert any("ldh 900 is outside" in warning for warning in row.warnings)


def test_who_fails_says_why_and_the_others_go_on() -> None:
    found = rows()
    assert {name: row.failed for name, row in found.items() if row.failed} == {
        "no record": "the case has no record to change",
        "no file": "s9.h5: no such file",
    }
    assert found["one slide"].after


def test_each_movement_is_judged_beside_the_noise_of_its_slide() -> None:
    model, card = make_reader()
    row = rows(noisy=True)["two slides"]
    judged = tuple(
        finish(noise(model, card, bag, COHORT[0])).within(moved)
        for bag, moved in zip(
            [make_slide(seed=1), make_slide(80, seed=2)], row.movements, strict=True
        )
    )
    assert row.within == judged
    assert rows()["two slides"].within == ()


def test_progress_names_the_case_that_is_done() -> None:
    subjects = [("a", COHORT[0], [make_slide(20)]), ("b", None, [])]
    steps = list(rerun(*make_reader(), subjects, higher, noisy=False))
    assert [(one.done, one.total, one.row.case) for one in steps] == [(1, 2, "a"), (2, 2, "b")]


def test_a_model_without_records_is_refused_before_any_case() -> None:
    model, card = make_reader()
    with pytest.raises(ValueError, match="reads no clinical record"):
        next(rerun(model, card.model_copy(update={"record": None}), [], higher))
