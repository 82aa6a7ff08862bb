"""Import plan: the changes that importing a table will make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.schema import Record
from napari_wsimil.cohort.endpoint import TimeToEvent
from napari_wsimil.cohort.manifest import Patient, count_outcomes
from napari_wsimil.cohort.table_import.outcome import time_to_event
from napari_wsimil.cohort.table_import.rows import (
    NO_PATIENTS,
    label_of,
    own_rows,
    split_of,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.endpoint import OutcomeCounts
    from napari_wsimil.cohort.table import TableRow, TextTable
    from napari_wsimil.cohort.table_import.column_plan import ColumnPlan
    from napari_wsimil.cohort.table_import.outcome import OutcomeColumns
    from napari_wsimil.cohort.table_import.questions import Questions
    from napari_wsimil.cohort.table_import.roles import ColumnRoles
    from napari_wsimil.cohort.table_import.rows import PatientRows
    from napari_wsimil.cohort.table_import.slide_matching import SlideMatches


@dataclass(frozen=True)
class InferredTable:
    """A table with the plans of its columns.

    Attributes
    ----------
    table
        The table, with notes on how it was read.
    schema
        The known fields; None if there are none.
    cases
        Patients of the study.
    slides_own
        Whether slides have a label and outcome of their own.
    roles
        The columns that are no clinical fields.
    columns
        Plans of the columns, in the order of the table.
    questions
        Questions about the columns.
    """

    table: TextTable
    schema: ClinicalSchema | None
    cases: tuple[Patient, ...]
    slides_own: bool
    roles: ColumnRoles
    columns: tuple[ColumnPlan, ...]
    questions: Questions


@dataclass(frozen=True)
class ImportPlan:
    """The changes that importing a table will make.

    Attributes
    ----------
    inferred
        The table, and what is known of it and of the study.
    answers
        Answers given so far, by question key.
    questions
        All questions; `open` are those that still need an answer.
    columns
        Plans of the columns, in the order of the table.
    schema
        The fields the records will have; no inputs but those of the schema that was given.
    roles
        The columns that are no clinical fields.
    merged
        Rows by patient: how many are identical, which disagree.
    matches
        Slides by patient, patients without a slide, slides of nobody.
    outcome
        The columns of time and event, if any.
    notes
        Notes on the table, in sentences.
    """

    inferred: InferredTable
    answers: Mapping[str, str]
    questions: Questions
    columns: tuple[ColumnPlan, ...]
    schema: ClinicalSchema
    roles: ColumnRoles
    merged: PatientRows
    matches: SlideMatches
    outcome: OutcomeColumns | None
    notes: tuple[str, ...]

    @property
    def table(self) -> TextTable:
        """The table."""
        return self.inferred.table

    @property
    def open(self) -> Questions:
        """The questions that still need an answer."""
        return tuple(q for q in self.questions if not q.answer(self.answers))

    @property
    def fields(self) -> tuple[ColumnPlan, ...]:
        """The columns that become fields."""
        return tuple(column for column in self.columns if column.field is not None)

    def patients(self, *, as_cases: bool = True) -> tuple[Patient, ...]:
        """Return the patients with their slides and records.

        Parameters
        ----------
        as_cases
            Whether they have the names of their cases in the study; else those of the table.

        Raises
        ------
        RecordError
            If a question is open.
        """
        if self.open:
            keys = ", ".join(repr(question.key) for question in self.open)
            raise RecordError(f"{self.table.path.name}: first answer {keys}")
        case_names = self.matches.cases if as_cases else {}
        patients = map(self._patient, self._included)
        return tuple(replace(one, name=case_names.get(one.name, one.name)) for one in patients)

    @property
    def is_apart(self) -> bool:
        """Whether slides of the table have a label and outcome of their own."""
        return self.inferred.slides_own and self.roles.slide is not None

    @cached_property
    def timed(self) -> tuple[Patient, ...]:
        """Patients who are not left out, with slides and outcomes only.

        Empty without an outcome, and until the value of the event is known.
        """
        is_known = self.outcome is not None and bool(self.outcome.event.events)
        return tuple(map(self._timed, self._included)) if is_known else ()

    @property
    def outcome_counts(self) -> OutcomeCounts:
        """Counts of outcomes of patients, or of slides that have their own."""
        return count_outcomes(self.timed, by_slide=self.is_apart)

    @property
    def _included(self) -> tuple[str, ...]:
        """The names of the patients who are not left out."""
        leaves_out = self.answers.get("conflicts") == NO_PATIENTS
        left_out = {one.patient for one in self.merged.conflicts} if leaves_out else set()
        return tuple(name for name in self.merged.rows if name not in left_out)

    def _timed(self, name: str) -> Patient:
        one, rows = TimeToEvent(), self._own_rows(name)
        if self.outcome is not None and rows:
            one = time_to_event(self.outcome, rows)
        slides = self.matches.slides.get(name, ())
        return Patient(name, slides, time=one.time, event=one.event, no_outcome=one.problem)

    def _own_rows(self, name: str) -> Sequence[TableRow]:
        """Return the rows that state label and outcome of a patient."""
        rows = self.merged.rows[name]
        return own_rows(rows, self.roles) if self.is_apart else rows

    def _patient(self, name: str) -> Patient:
        rows = self.merged.rows[name]
        values = {c.field.name: value_of(c, rows) for c in self.columns if c.field is not None}
        record = {f.name: values.get(f.name, Absent.MISSING) for f in self.schema.fields}
        label = label_of(self._own_rows(name), self.roles)
        split = split_of(rows, self.roles, self.columns)
        return replace(self._timed(name), label=label, split=split, record=Record(record))
