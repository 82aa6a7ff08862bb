"""ImportPlan: what the import of a table will do, before it does it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from napari_wsimil.study.cells import says
from napari_wsimil.study.draft import Column, ask_of_na, draft
from napari_wsimil.study.duplicates import Merged, merge, stated
from napari_wsimil.study.field import Absent
from napari_wsimil.study.identifiers import with_identifiers
from napari_wsimil.study.linking import Links, link
from napari_wsimil.study.manifest import COLUMNS, Patient
from napari_wsimil.study.outcome import Outcome, as_outcome, marked, outcome_of
from napari_wsimil.study.questions import Asked, Question
from napari_wsimil.study.roles import Roles, roles_of
from napari_wsimil.study.rows import by_patient, notes_on, slides_of, split_of
from napari_wsimil.study.schema import ClinicalSchema, Record
from napari_wsimil.study.tables import RecordError
from napari_wsimil.study.time_to_event import Tally, TimeToEvent, tally, time_to_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.study.field import Field, Value
    from napari_wsimil.study.manifest import SlideRow
    from napari_wsimil.study.tables import Table, TableRow

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
        return plan_import(self.table, merged, schema=self.given, cases=self.cases)

    def revised(self, answers: Mapping[str, str]) -> ImportPlan:
        """Return the plan with these answers alone; what does not fit any more is dropped."""
        known = {key: answer for key, answer in answers.items() if answer}
        asked = Asked(known, self.table.columns, strict=False)
        return _plan(self.table, asked, self.given, self.cases)

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
        left_out = self._left_out()
        called = self.links.cases if as_cases else {}
        return tuple(
            self._patient(
                called.get(name, name),
                self.links.slides.get(name, ()),
                rows,
                self.outcomes.get(name, TimeToEvent()),
            )
            for name, rows in self.merged.rows.items()
            if name not in left_out
        )

    @cached_property
    def outcomes(self) -> Mapping[str, TimeToEvent]:
        """Time and event of each patient who is not left out, or why there is none.

        Empty without an outcome, and until it is known in which value the event happened.
        """
        if self.outcome is None or not self.outcome.event.happened:
            return {}
        left_out = self._left_out()
        patients = ((name, rows) for name, rows in self.merged.rows.items() if name not in left_out)
        return {name: time_to_event(self.outcome, rows) for name, rows in patients}

    @property
    def tally(self) -> Tally:
        """How many patients have an outcome, how many an event, and why others have none."""
        return tally(self.outcomes.values())

    def _left_out(self) -> set[str]:
        if self.answers.get("conflicts") != NO_PATIENTS:
            return set()
        return {conflict.patient for conflict in self.merged.conflicts}

    def _patient(
        self,
        name: str,
        slides: tuple[SlideRow, ...],
        rows: Sequence[TableRow],
        outcome: TimeToEvent,
    ) -> Patient:
        values = {column.header: _value(column, rows) for column in self.fields}
        by_name = {c.field.name: values[c.header] for c in self.fields if c.field is not None}
        record = {f.name: by_name.get(f.name, Absent.MISSING) for f in self.schema.fields}
        return Patient(
            name,
            slides,
            self._label(rows),
            split_of(rows[0], self.roles),
            outcome.time,
            outcome.event,
            Record(record),
            no_outcome=outcome.problem,
        )

    def _label(self, rows: Sequence[TableRow]) -> str | None:
        if self.roles.label is None:
            return None
        cells = (row.cells[self.roles.label] for row in rows)
        return next((cell for cell in cells if says(cell)), None)


def plan_import(
    table: Table,
    answers: Mapping[str, str] | None = None,
    *,
    schema: ClinicalSchema | None = None,
    cases: Sequence[Patient] = (),
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

    Raises
    ------
    RecordError
        If an answer is none of its question's, or a patient's or slide's name cannot be
        one; the message names file, row, column and value.
    """
    asked = Asked(answers or {}, table.columns)
    plan = _plan(table, asked, schema, cases)
    asked.check()
    return plan


def _plan(
    table: Table, asked: Asked, schema: ClinicalSchema | None, cases: Sequence[Patient]
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
    merged = merge(rows, _speaking(columns, roles), [roles.slide] if roles.slide else [])
    columns = _resolved(columns, merged, asked)
    outcome = outcome_of(columns, asked)
    columns = tuple(as_outcome(_named(column, outcome), outcome) for column in columns)
    named = {name: slides_of(some, roles) for name, some in rows.items()}
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


def _speaking(columns: Sequence[Column], roles: Roles) -> list[Column]:
    """Return the columns that say something of a patient: fields, class and split."""
    own = (roles.label, roles.split, "split")
    return [c for c in columns if c.field is not None or c.header in own]


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
    why = "rows of a patient disagree"
    return tuple(replace(c, field=None, why=why) if c.header in by_column else c for c in columns)


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


def _value(column: Column, rows: Sequence[TableRow]) -> Value:
    cells = stated(column, rows)
    return column.values[cells[0]] if cells else Absent.MISSING
