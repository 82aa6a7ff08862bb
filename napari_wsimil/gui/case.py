"""RecordState: patient of a pane and the record in the form; knows no Qt."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from psygnal import SignalGroupDescriptor

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.case import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.models.card import Card


@dataclass(eq=False)
class RecordState:
    """Patient of a pane and the clinical record in the form.

    Attributes
    ----------
    case
        Patient with the record of the study.
    record
        Record that the model reads: that of the patient, or a what-if edit of it.
    holds
        Asked before slide or patient are replaced; each may refuse because of unsaved input.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(("case", "record"), operator.is_)
    )

    case: Case | None = None
    record: Record | None = None
    holds: list[Callable[[], bool]] = field(default_factory=list, repr=False)

    @property
    def edits(self) -> dict[str, tuple[Value, Value]]:
        """Return old and new value of each field that was edited."""
        if self.case is None or self.record is None:
            return {}
        return self.case.record.changes(self.record)

    def editable(self, card: Card | None) -> Case | None:
        """Return the case; without a patient an empty one for a model that reads records."""
        if self.case is not None or card is None or card.record is None:
            return self.case
        schema = card.record.clinical
        return Case("", schema, self.record or schema.parse({}))


def mismatch(case: Case, card: Card) -> str:
    """Return why a model cannot read the record of a case, empty if it can.

    It reads none, or one of another schema, whose fields are named.
    """
    if card.record is None:
        return f"{card.model} reads no clinical record: an edit changes nothing it says"
    try:
        card.record.check(case.schema)
    except RecordError as error:
        return str(error)
    return ""
