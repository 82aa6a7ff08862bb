"""Case: a patient with the clinical record that the study has of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.study.create_study import Study


@dataclass(frozen=True, eq=False)
class Case:
    """A patient with their record in the study.

    Attributes
    ----------
    patient
        Pseudonym; empty for a record of no patient, such as an empty one to try.
    schema
        Schema of the record.
    record
        Record of the patient without what-if edits.
    version
        Version of the record in its study; a correction must name it.
    cohort
        Records of all patients of the study, for comparison.
    """

    patient: str
    schema: ClinicalSchema
    record: Record
    version: int = 0
    cohort: tuple[Record, ...] = ()


def newer(case: Case | None, other: Case | None) -> Case | None:
    """Return the later version of a patient's record, `case` if the patients differ."""
    if case is None or other is None or case.patient != other.patient:
        return case
    return other if other.version > case.version else case


def why_not_correct(case: Case, study: Study | None) -> str:
    """Return why the record of a case cannot be corrected, empty if it can."""
    if study is None or not case.patient:
        return "Only the record of a patient of an open study can be corrected"
    return study.read_only
