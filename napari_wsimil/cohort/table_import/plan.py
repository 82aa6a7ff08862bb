"""Import plan: the changes that importing a table will make."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.clinical.schema import Record
from napari_wsimil.cohort.endpoint import TimeToEvent, outcome_sentences
from napari_wsimil.cohort.manifest import Patient, count_outcomes, outcome_of_patient
from napari_wsimil.cohort.table_import.outcome import time_to_event
from napari_wsimil.cohort.table_import.questions import EVENT_COLUMN, TIME_COLUMN
from napari_wsimil.cohort.table_import.rows import (
    NO_PATIENTS,
    label_of,
    own_rows,
    slide_name,
    split_of,
    value_of,
)
from napari_wsimil.cohort.table_import.slide_matching import shared_barcodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_wsimil.clinical.field import Field
    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.endpoint import OutcomeCounts
    from napari_wsimil.cohort.table import TableRow, TextTable
    from napari_wsimil.cohort.table_import.column_plan import ColumnPlan
    from napari_wsimil.cohort.table_import.outcome import OutcomeColumns
    from napari_wsimil.cohort.table_import.questions import Questions
    from napari_wsimil.cohort.table_import.roles import ColumnRoles
    from napari_wsimil.cohort.table_import.rows import PatientRows
    from napari_wsimil.cohort.table_import.slide_matching import SlideMatches

#: How many names a list has before the rest is counted.
_SHOWN = 12


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
        The table with its columns, and the study's patients.
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
            raise RecordError(f"{self.table.path.name}: answer {keys} first")
        case_names = self.matches.cases if as_cases else {}
        patients = map(self._patient, self._included)
        return tuple(replace(one, name=case_names.get(one.name, one.name)) for one in patients)

    @property
    def is_apart(self) -> bool:
        """Whether slides have a label and outcome of their own."""
        return self.inferred.slides_own and self.roles.slide is not None

    @cached_property
    def timed(self) -> tuple[Patient, ...]:
        """Included patients, with slides and outcomes only.

        Empty without an outcome, and until the value of the event is known.
        """
        is_known = self.outcome is not None and bool(self.outcome.event.events)
        return tuple(map(self._timed, self._included)) if is_known else ()

    @property
    def outcome_counts(self) -> OutcomeCounts:
        """Counts of outcomes of patients, or of slides."""
        return count_outcomes(self.timed, by_slide=self.is_apart)

    @property
    def _included(self) -> tuple[str, ...]:
        """Names of the included patients."""
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
        """Return the rows with a patient's label and outcome."""
        rows = self.merged.rows[name]
        return own_rows(rows, self.roles) if self.is_apart else rows

    def _patient(self, name: str) -> Patient:
        rows = self.merged.rows[name]
        values = {c.field.name: value_of(c, rows) for c in self.columns if c.field is not None}
        record = {f.name: values.get(f.name, Absent.MISSING) for f in self.schema.fields}
        label = label_of(self._own_rows(name), self.roles)
        split = split_of(rows, self.roles, self.columns)
        return replace(self._timed(name), label=label, split=split, record=Record(record))


def summary_lines(plan: ImportPlan) -> Iterator[str]:
    """Yield the plan in lines: patients, slides, columns, questions."""
    table = plan.table
    yield f"{table.path.name}: {len(table.rows)} rows, {len(table.columns)} columns"
    yield from (f"note: {note}" for note in plan.notes)
    yield from who_lines(plan)
    yield from disagreement_lines(plan)
    yield f"{len(plan.fields)} columns become clinical fields"
    yield from (f"  {column_line(column)}" for column in plan.fields)
    others = [column for column in plan.columns if column.field is None]
    yield f"{len(others)} columns are not clinical fields"
    for why in dict.fromkeys(column.why for column in others):
        yield f"  {why}: {', '.join(c.header for c in others if c.why == why)}"
    yield from _questions(plan)


def column_line(column: ColumnPlan) -> str:
    """Return the plan of a column in one line."""
    text = field_words(column.field) if column.field else column.why
    return "; ".join((f"{column.header}: {text}", *understood(column)))


def field_words(field: Field) -> str:
    """Return kind, unit, values, group and role of a field."""
    parts = ["flag" if field.kind is Kind.BOOLEAN else field.kind.value]
    if field.unit:
        parts[0] += f" in {field.unit}"
    if field.plausible:
        parts.append(f"{field.plausible[0]:g} to {field.plausible[1]:g}")
    if field.values:
        sign = " < " if field.kind is Kind.ORDINAL else ", "
        parts.append(sign.join(field.values[:_SHOWN]) + (" …" if field.values[_SHOWN:] else ""))
    parts.append(f"group {field.group}")
    if field.outcome:
        parts.append("known only after the outcome: no model input unless forced")
    return "; ".join(parts)


def understood(column: ColumnPlan) -> tuple[str, ...]:
    """Return the interpretation of a column's absences and odd cells."""
    words = (
        f"{cell!r} is read as {kind.value} ({n} rows)"
        for cell, n in column.absences.items()
        if cell and isinstance(kind := column.values[cell], Absent)
    )
    empty = column.absences.get("")
    return (*((f"{empty} empty",) if empty else ()), *words, *column.remarks)


def who_lines(plan: ImportPlan) -> Iterator[str]:
    """Yield patients and slides, matched and unmatched."""
    matches = plan.matches
    linked = sum(len(slides) for slides in matches.slides.values())
    yield f"{len(plan.merged.rows)} patients, {len(matches.slides)} of them with {linked} slides"
    cases = tuple(f"{name} is {case}" for name, case in matches.cases.items())
    yield from _list("patients with another name in the study", cases)
    several = tuple(f"{name}: {', '.join(names)}" for name, names in matches.scattered.items())
    yield from _list("patients that match several cases of the study, skipped", several, "; ")
    yield from _list("patients without a slide", matches.without)
    yield from _list("slides of the study without a patient in the table", matches.of_nobody)
    yield from _list("slides claimed by several patients, skipped", matches.contested)
    if plan.is_apart:
        yield _classes_of_slides(plan)
    yield from barcode_lines(plan)
    yield from outcome_lines(plan)


def _classes_of_slides(plan: ImportPlan) -> str:
    rows = [slide for slides in plan.matches.slides.values() for slide in slides]
    counts = Counter(slide.label for slide in rows if slide.label is not None)
    classes = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
    without = len(rows) - counts.total()
    return f"classes of slides: {classes or 'none'}; {without} slides without their own class"


def outcome_lines(plan: ImportPlan) -> Iterator[str]:
    """Yield the outcome, its counts, and cases without one."""
    outcome = plan.outcome
    if outcome is None and any(question.key.startswith("outcome") for question in plan.open):
        yield "the outcome is an open question"
        return
    if outcome is None:
        yield (
            f"no outcome is imported; if the table has one, answer {TIME_COLUMN!r} and "
            f"{EVENT_COLUMN!r}"
        )
        return
    times = " / ".join(column.header for column in outcome.times)
    start = f" from {outcome.start.header}" if outcome.start else ""
    yield f"outcome: {times}{start} with {outcome.event.header} ({outcome.endpoint})"
    if not outcome.event.events:
        yield f"outcomes are counted once {f'{outcome.event.header}: event'!r} is answered"
        return
    yield from outcome_sentences(plan.outcome_counts)
    reasons: dict[str, list[str]] = {}
    for case, place in _cases(plan):
        if problem := outcome_of_patient(case).problem:
            reasons.setdefault(problem, []).append(place)
    for reason in sorted(reasons, key=lambda reason: -len(reasons[reason])):
        yield from _list(f"without an outcome, {reason}", reasons[reason])


def _cases(plan: ImportPlan) -> Iterator[tuple[Patient, str]]:
    """Yield the counted cases, and their names and first rows."""
    for patient in plan.timed:
        rows = plan.merged.rows[patient.name]
        lines = {slide_name(row, plan.roles): row.line for row in reversed(rows)}
        if not plan.is_apart:
            yield patient, f"{patient.name} (row {rows[0].line})"
            continue
        for case in patient.slide_cases:
            line = lines.get(case.name)
            yield case, f"{case.name} (row {line})" if line else f"{case.name} (not in the table)"
        if patient.no_outcome:
            yield patient, f"patient {patient.name} (row {lines['']})"


def barcode_lines(plan: ImportPlan) -> Iterator[str]:
    """Yield patients that share a TCGA barcode."""
    known = {case.name: case.slides for case in plan.inferred.cases}
    same = set(plan.matches.cases.values())
    names = [*plan.merged.rows, *(name for name in known if name not in same)]
    twice = shared_barcodes(names, {**known, **plan.matches.slides})
    title = "patients that share a TCGA barcode, possibly one patient under several names"
    yield from _list(title, twice, "; ")


def disagreement_lines(plan: ImportPlan) -> Iterator[str]:
    """Yield repeated rows, and rows of one patient that disagree."""
    merged = plan.merged
    if merged.identical:
        yield f"{merged.identical} duplicate rows are imported once"
    lines = (f"{c.patient}, {c.column}: {' | '.join(c.stated)}" for c in merged.conflicts)
    yield from _list("rows of one patient disagree", tuple(lines), "; ")


def _questions(plan: ImportPlan) -> Iterator[str]:
    others = [q for q in plan.questions if not q.is_use and q not in plan.open]
    if others:
        yield "answered or assumed; correct them if needed:"
    yield from (f"  {q.key}={q.answer(plan.answers)}" for q in others)
    if not plan.open:
        yield "no open questions"
        return
    yield f"{len(plan.open)} open questions:"
    yield from (f"  {question.line}" for question in plan.open)


def _list(title: str, names: Iterable[str], between: str = ", ") -> Iterator[str]:
    names = tuple(names)
    if names:
        more = f"{between}…" if len(names) > _SHOWN else ""
        yield f"{title} ({len(names)}): {between.join(names[:_SHOWN])}{more}"
