"""Import plan: the changes that importing a table will make."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.schema import ClinicalSchema, Record
from napari_wsimil.cohort.endpoint import Tally, TimeToEvent
from napari_wsimil.cohort.manifest import Patient, tally_of
from napari_wsimil.cohort.manifest_file import COLUMNS
from napari_wsimil.cohort.table_import.column_plan import Column, ask_of_na, draft
from napari_wsimil.cohort.table_import.outcome import Outcome, as_outcome, outcome_of, time_to_event
from napari_wsimil.cohort.table_import.questions import Asked, Question
from napari_wsimil.cohort.table_import.roles import Roles, roles_of, with_identifiers
from napari_wsimil.cohort.table_import.rows import (
    DISAGREE,
    Merged,
    by_patient,
    label_of,
    marked,
    merged_rows,
    notes_on,
    slide_name,
    slides_of,
    split_stated,
    value_of,
    with_own,
    without_varying,
)
from napari_wsimil.cohort.table_import.slide_matching import Links, link

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.clinical.field import Field
    from napari_wsimil.cohort.table import Table, TableRow

#: Answers to what becomes of patients whose rows disagree.
FIRST_ROW, NO_COLUMNS, NO_PATIENTS = (
    "the first row counts",
    "leave those columns out",
    "leave those patients out",
)


@dataclass(frozen=True)
class ImportPlan:
    """What import makes of a table.

    Attributes
    ----------
    table
        The table, with notes on how it was read.
    answers
        What was answered so far.
    questions
        Everything that was asked; those that must be answered yet are `open`.
    columns
        What each column becomes, in the order of the table.
    schema
        The fields the records will have; no inputs but those of the schema that was given.
    merged
        Rows by patient: how many are identical, which disagree.
    links
        Slides by patient, patients without a slide, slides of nobody.
    outcome
        The columns of time and event, if any.
    notes
        What else import says, in sentences.
    given, cases, slides_own
        As `plan_import` was given them.
    """

    table: Table
    answers: Mapping[str, str]
    questions: tuple[Question, ...]
    columns: tuple[Column, ...]
    schema: ClinicalSchema
    roles: Roles
    merged: Merged
    links: Links
    outcome: Outcome | None
    notes: tuple[str, ...]
    given: ClinicalSchema | None = None
    cases: tuple[Patient, ...] = ()
    slides_own: bool = False

    @property
    def open(self) -> tuple[Question, ...]:
        """The questions a person must answer yet."""
        return tuple(q for q in self.questions if not q.answer(self.answers))

    @property
    def fields(self) -> tuple[Column, ...]:
        """The columns that become fields."""
        return tuple(column for column in self.columns if column.field is not None)

    def answered(self, answers: Mapping[str, str]) -> ImportPlan:
        """Return the plan with further answers by the keys of questions.

        Raises
        ------
        RecordError
            If an answer is none of its question's, or was not asked for.
        """
        merged = {**self.answers, **answers}
        return plan_import(
            self.table, merged, schema=self.given, cases=self.cases, slides_own=self.slides_own
        )

    def revised(self, answers: Mapping[str, str]) -> ImportPlan:
        """Return the plan with these answers alone; what does not fit any more is dropped."""
        given = {key: answer for key, answer in answers.items() if answer}
        asked = Asked(given, self.table.columns, strict=False)
        return _plan(self.table, asked, self.given, self.cases, slides_own=self.slides_own)

    def patients(self, *, as_cases: bool = True) -> tuple[Patient, ...]:
        """Return the patients with their slides and records.

        Parameters
        ----------
        as_cases
            Whether they are called as their cases in the study are; else as in the table.

        Raises
        ------
        RecordError
            If a question is open.
        """
        if self.open:
            keys = ", ".join(repr(question.key) for question in self.open)
            raise RecordError(f"{self.table.path.name}: first answer {keys}")
        called = self.links.cases if as_cases else {}
        patients = map(self._patient, self._taken)
        return tuple(replace(one, name=called.get(one.name, one.name)) for one in patients)

    @property
    def is_apart(self) -> bool:
        """Whether slides have a label and outcome of their own."""
        return self.slides_own and self.roles.slide is not None

    @cached_property
    def timed(self) -> tuple[Patient, ...]:
        """Patients who are not left out, with slides and outcomes, and no more of them.

        Empty without an outcome, and until it is known in which value the event happened.
        """
        return tuple(map(self._timed, self._taken)) if _is_known(self.outcome) else ()

    @property
    def tally(self) -> Tally:
        """How many patients have an outcome, how many an event, and why others have none.

        Counts of slides where they have outcomes of their own.
        """
        return tally_of(self.timed, by_slide=self.is_apart)

    @property
    def _taken(self) -> tuple[str, ...]:
        """The names of the patients who are not left out."""
        leaves_out = self.answers.get("conflicts") == NO_PATIENTS
        left_out = {one.patient for one in self.merged.conflicts} if leaves_out else set()
        return tuple(name for name in self.merged.rows if name not in left_out)

    def _own_rows(self, name: str) -> Sequence[TableRow]:
        """Return the rows that state label and outcome of a patient."""
        rows = self.merged.rows[name]
        return [row for row in rows if not slide_name(row, self.roles)] if self.is_apart else rows

    def _timed(self, name: str) -> Patient:
        one, rows = TimeToEvent(), self._own_rows(name)
        if self.outcome is not None and rows:
            one = time_to_event(self.outcome, rows)
        slides = self.links.slides.get(name, ())
        return Patient(name, slides, time=one.time, event=one.event, no_outcome=one.problem)

    def _patient(self, name: str) -> Patient:
        rows = self.merged.rows[name]
        values = {column.header: value_of(column, rows) for column in self.fields}
        by_name = {c.field.name: values[c.header] for c in self.fields if c.field is not None}
        record = {f.name: by_name.get(f.name, Absent.MISSING) for f in self.schema.fields}
        label = label_of(self._own_rows(name), self.roles)
        split = split_stated(rows, self.roles, self.columns)
        return replace(self._timed(name), label=label, split=split, record=Record(record))


def plan_import(
    table: Table,
    answers: Mapping[str, str] | None = None,
    *,
    schema: ClinicalSchema | None = None,
    cases: Sequence[Patient] = (),
    slides_own: bool = False,
) -> ImportPlan:
    """Return what the import of a table will do. Nothing is written.

    Parameters
    ----------
    table
        The table, as `open_table` returns it.
    answers
        By the keys of questions. Without one the plan has the question.
    schema
        Fields that are known: of the study, or of a schema that ships. Columns of them are
        read as they say; of other columns fields are drafted.
    cases
        Those of the study; their slides are linked to the table's patients, who are called
        as their cases are.
    slides_own
        Whether slides have a label and outcome of their own, as in a study whose predictions
        are of slides. A patient then has those of the rows that name no slide.

    Raises
    ------
    RecordError
        If an answer is none of its question's, or a patient's or slide's name cannot be
        one; the message names file, row, column and value.
    """
    asked = Asked(answers or {}, table.columns)
    plan = _plan(table, asked, schema, cases, slides_own=slides_own)
    asked.check()
    return plan


def _plan(
    table: Table,
    asked: Asked,
    schema: ClinicalSchema | None,
    cases: Sequence[Patient],
    *,
    slides_own: bool,
) -> ImportPlan:
    counts = {c: Counter(row.cells[c] for row in table.rows) for c in table.columns}
    roles = roles_of(table, counts, asked)
    total: Counter[str] = Counter()
    for header in table.columns:
        total.update(counts[header] if not roles.why(header) else {})
    ask_of_na(total, asked)
    known = _known_fields(table, schema)
    columns = tuple(_column(table, c, counts[c], roles, known, asked) for c in table.columns)
    columns = marked(columns, table.rows, roles.label)
    rows, nameless = by_patient(with_identifiers(table, roles, asked), roles)
    apart = slides_own and roles.slide is not None
    outcome = outcome_of(columns, asked)
    merged = merged_rows(rows, columns, roles, outcome, slides_own=apart)
    columns = _resolved(columns, merged, asked)
    if apart:
        columns = without_varying(columns, rows, outcome)
    dropped = {column.header for column in columns if column.why == DISAGREE}
    roles = replace(roles, label=None if roles.label in dropped else roles.label)
    columns = tuple(as_outcome(_named(column, outcome), outcome) for column in columns)
    named = {name: slides_of(some, roles) for name, some in rows.items()}
    if apart:
        split = {n: split_stated(some, roles, columns) for n, some in rows.items()}
        named = {n: with_own(s, split[n], rows[n], roles, outcome) for n, s in named.items()}
    links = link(named, cases)
    return ImportPlan(
        table,
        asked.given,
        tuple(asked.questions),
        columns,
        _schema(table, columns, schema),
        roles,
        merged,
        links,
        outcome,
        (*table.notes, *notes_on(rows, nameless)),
        schema,
        tuple(cases),
        slides_own,
    )


def _column(
    table: Table,
    header: str,
    counts: Counter[str],
    roles: Roles,
    known: Mapping[str, Field],
    asked: Asked,
) -> Column:
    if why := roles.why(header):
        return Column(header, why=why)
    heading = table.headings.get(header)
    return draft(header, counts, asked, known_field=known.get(header), heading=heading)


def _known_fields(table: Table, schema: ClinicalSchema | None) -> dict[str, Field]:
    """Return the fields of a schema by the columns of a table; the field's own name goes first."""
    headers = {header.casefold(): header for header in reversed(table.columns)}
    found: dict[str, Field] = {}
    for field in schema.fields if schema else ():
        names = (name.casefold() for name in (field.name, *field.columns))
        header = next((headers[name] for name in names if name in headers), None)
        if header is not None:
            found.setdefault(header, field)
    return found


def _named(column: Column, outcome: Outcome | None) -> Column:
    """Return the column, its field not called as a column that manifests have of their own."""
    if column.field is None or column.field.name not in COLUMNS:
        return column
    if outcome is not None and column.header in {c.header for c in outcome.columns}:
        return replace(column, field=None, why="the outcome")
    name = f"{column.field.name} (clinical)"
    return replace(column, field=column.field.model_copy(update={"name": name}))


def _resolved(columns: tuple[Column, ...], merged: Merged, asked: Asked) -> tuple[Column, ...]:
    """Return the columns that stay, having asked about rows that disagree."""
    if not merged.conflicts:
        return columns
    by_column = Counter(conflict.column for conflict in merged.conflicts)
    patients = len({conflict.patient for conflict in merged.conflicts})
    text = f"Rows of {patients} patients disagree in {len(by_column)} columns: what counts?"
    options = (FIRST_ROW, NO_COLUMNS, NO_PATIENTS)
    answer = asked.ask(Question("conflicts", text, options, "", dict(by_column)))
    if answer != NO_COLUMNS:
        return columns
    return tuple(
        replace(c, field=None, why=DISAGREE) if c.header in by_column else c for c in columns
    )


def _is_known(outcome: Outcome | None) -> bool:
    """Return whether there is an outcome, and it is known in which value the event happened."""
    return outcome is not None and bool(outcome.event.happened)


def _schema(
    table: Table, columns: Sequence[Column], given: ClinicalSchema | None
) -> ClinicalSchema:
    known = given.fields if given else ()
    names = {field.name for field in known}
    drafted = tuple(c.field for c in columns if c.field and c.field.name not in names)
    if given is not None and known:
        return given.model_copy(update={"fields": (*known, *drafted)})
    # Not the file's name, which can name a patient: the schema goes wherever the study goes.
    told = f"drafted from a table of {len(table.rows)} rows and {len(table.columns)} columns"
    return ClinicalSchema(name="drafted", description=told, fields=drafted, inferred=True)
