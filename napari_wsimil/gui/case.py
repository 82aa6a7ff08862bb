"""Case of a pane: the patient, and the record that is tried on; knows no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.workflows.study import Case

if TYPE_CHECKING:
    from napari_wsimil.clinical.field import Value
    from napari_wsimil.gui.session import Pane, Session
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.create_study import Study


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


def show_alone(session: Session, case: Case | None) -> None:
    """Show a patient without a slide in the panes of a session; the slide before is closed."""
    pane, before = session.pane, session.pane.slide
    session.beside.show_slide(None)
    pane.show_slide(None)
    pane.show_case(case)
    if before is not None:
        before.close()


def newer(case: Case | None, other: Case | None) -> Case | None:
    """Return a case, or another of the same patient whose record was changed later."""
    if case is None or other is None or case.patient != other.patient:
        return case
    return other if other.version > case.version else case


def case_in(pane: Pane) -> Case | None:
    """Return a pane's case; without one the record of nobody, if its model reads records."""
    if pane.case is not None or pane.model is None or pane.model.card.record is None:
        return pane.case
    schema = pane.model.card.record.clinical
    return Case("", schema, pane.record or schema.parse({}))


def edits(pane: Pane) -> dict[str, tuple[Value, Value]]:
    """Return old and new value of the fields that a pane's record has not as its patient."""
    if pane.case is None or pane.record is None:
        return {}
    return pane.case.record.changes(pane.record)


def why_not_correct(case: Case, study: Study | None) -> str:
    """Return why the record of a case cannot be corrected in a study, empty if it can."""
    if study is None or not case.patient:
        return "Only the record of a patient of an open study can be corrected"
    return study.read_only
