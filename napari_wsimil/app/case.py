"""Case: the patient that a pane looks at, and the record that is tried on; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.schema import ClinicalSchema, Record


@dataclass(frozen=True, eq=False)
class Case:
    """A patient as the study has them.

    Attributes
    ----------
    patient
        Pseudonym; empty if the record is nobody's, such as an empty one to try.
    schema
        Of the record.
    record
        The patient's own; what is tried on is `Pane.record`.
    version
        Of the record in its study, which a correction must name.
    cohort
        Records of all patients of the study, to compare with.
    """

    patient: str
    schema: ClinicalSchema
    record: Record
    version: int = 0
    cohort: tuple[Record, ...] = ()


def mismatch(case: Case, card: Card) -> str:
    """Return why a model cannot follow a case's record, empty if it can.

    It reads none, or one of another schema, whose fields are named.
    """
    if card.record is None:
        return f"{card.model} reads no clinical record: an edit changes nothing it says"
    try:
        card.record.check(case.schema)
    except RecordError as error:
        return str(error)
    return ""
