"""Stages of an import: infer columns, apply answers.

A table is imported in three steps:

1. `infer(table, schema)` returns how each column is read, and the questions that are open;
2. `apply_answers(inferred, answers)` returns the plan under some answers. It may be called
   as often as answers change, and the plan shows further questions that an answer raised;
3. `study.import_table.write_plan(study, plan, why)` writes the plan's patients.

The first two are pure: same input, same result, nothing written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.cell_text import has_value
from napari_wsimil.cohort.headers import names_time
from napari_wsimil.cohort.manifest_file import COLUMNS
from napari_wsimil.cohort.table import other_sheets
from napari_wsimil.cohort.table_import.column_plan import (
    ColumnPlan,
    meaning_of_na,
    na_question,
    plan_column,
)
from napari_wsimil.cohort.table_import.outcome import find_outcome
from napari_wsimil.cohort.table_import.plan import ImportPlan, InferredTable
from napari_wsimil.cohort.table_import.questions import (
    ColumnCells,
    ImportAnswers,
    ImportQuestion,
    Questions,
)
from napari_wsimil.cohort.table_import.roles import column_roles, with_identifiers
from napari_wsimil.cohort.table_import.rows import (
    DISAGREE,
    FIRST_ROW,
    NO_COLUMNS,
    NO_PATIENTS,
    merge_rows,
    notes_on,
    rows_by_patient,
    slides_by_patient,
    without_varying,
)
from napari_wsimil.cohort.table_import.slide_matching import match_slides

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.clinical.field import Field, Value
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.cohort.table import TableRow, TextTable
    from napari_wsimil.cohort.table_import.outcome import OutcomeColumns
    from napari_wsimil.cohort.table_import.roles import ColumnRoles
    from napari_wsimil.cohort.table_import.rows import PatientRows

#: How often values must repeat, on average, before they can be said to go with classes.
_REPEATED = 5


def infer(
    table: TextTable,
    schema: ClinicalSchema | None = None,
    *,
    cases: Sequence[Patient] = (),
    slides_own: bool = False,
) -> InferredTable:
    """Infer the columns of a table, and the open questions.

    Parameters
    ----------
    table
        The table, as `open_table` returns it.
    schema
        Known fields: of the study, or of a schema that ships. Their columns are read as the
        fields say; for other columns fields are drafted.
    cases
        Patients of the study; their slides are matched to the table's patients.
    slides_own
        Whether slides have a label and outcome of their own, as in a study with predictions
        of slides. A patient then has those of the rows without a slide.
    """
    roles, columns, questions = _infer(table, schema, ImportAnswers())
    return InferredTable(table, schema, tuple(cases), slides_own, roles, columns, questions)


def apply_answers(
    inferred: InferredTable, answers: Mapping[str, str] | None = None, *, strict: bool = True
) -> ImportPlan:
    """Return the plan of the import under these answers.

    Parameters
    ----------
    inferred
        The table, as `infer` returns it.
    answers
        Answers by question key; a question without one is open, or has its default.
    strict
        Whether an answer that does not fit is an error; else it is left out.

    Raises
    ------
    RecordError
        If an answer does not fit, or a patient's or slide's name cannot be one; the message
        names file, row, column and value.
    """
    given = {key: answer for key, answer in (answers or {}).items() if answer or strict}
    try:
        return _plan(inferred, ImportAnswers(given, strict))
    except RecordError as error:
        table = inferred.table
        raise RecordError(f"{error}{other_sheets(table.sheet, table.sheets)}") from error


def _infer(
    table: TextTable, schema: ClinicalSchema | None, answers: ImportAnswers
) -> tuple[ColumnRoles, tuple[ColumnPlan, ...], Questions]:
    """Return roles and plans of the columns, and their questions."""
    counts = {c: Counter(row.cells[c] for row in table.rows) for c in table.columns}
    roles, role_questions = column_roles(table, counts, answers)
    total: Counter[str] = Counter()
    for header in table.columns:
        total.update(counts[header] if not roles.why(header) else {})
    na_questions = na_question(total)
    na = meaning_of_na(na_questions, answers)
    known = _known_fields(table, schema)
    is_timed = any(map(names_time, table.columns))
    columns = []
    for header in table.columns:
        if why := roles.why(header):
            columns.append(ColumnPlan(header, why=why))
            continue
        cells = ColumnCells(header, counts[header], answers, is_timed)
        heading = table.headings.get(header)
        columns.append(plan_column(cells, na, known_field=known.get(header), heading=heading))
    further = (question for column in columns for question in column.questions)
    return roles, tuple(columns), (*role_questions, *na_questions, *further)


def _plan(inferred: InferredTable, answers: ImportAnswers) -> ImportPlan:
    table, roles, columns = inferred.table, inferred.roles, inferred.columns
    questions = inferred.questions
    if answers.by_key:
        roles, columns, questions = _infer(table, inferred.schema, answers)
    columns = _mark_leaks(columns, table.rows, roles.label)
    identified, identifier_questions = with_identifiers(table, roles, answers)
    rows, nameless = rows_by_patient(identified, roles)
    is_apart = inferred.slides_own and roles.slide is not None
    outcome, outcome_questions = find_outcome(columns, answers)
    merged = merge_rows(rows, columns, roles, outcome, slides_own=is_apart)
    conflict_questions = _conflict_question(merged)
    columns = _without_conflicts(columns, merged, conflict_questions, answers)
    if is_apart:
        columns = without_varying(columns, rows, outcome)
    dropped = {column.header for column in columns if column.why == DISAGREE}
    roles = replace(roles, label=None if roles.label in dropped else roles.label)
    columns = tuple(_mark_outcome(_renamed(column, outcome), outcome) for column in columns)
    slides = slides_by_patient(rows, columns, roles, outcome, slides_own=is_apart)
    questions += identifier_questions + outcome_questions + conflict_questions
    answers.check(questions)
    return ImportPlan(
        inferred,
        answers.to_questions(questions),
        questions,
        columns,
        _schema(table, columns, inferred.schema),
        roles,
        merged,
        match_slides(slides, inferred.cases),
        outcome,
        (*table.notes, *notes_on(rows, nameless)),
    )


def _known_fields(table: TextTable, schema: ClinicalSchema | None) -> dict[str, Field]:
    """Return a schema's fields by header; own names first."""
    headers = {header.casefold(): header for header in reversed(table.columns)}
    fields: dict[str, Field] = {}
    for field in schema.fields if schema else ():
        names = (name.casefold() for name in (field.name, *field.columns))
        header = next((headers[name] for name in names if name in headers), None)
        if header is not None:
            fields.setdefault(header, field)
    return fields


def _renamed(column: ColumnPlan, outcome: OutcomeColumns | None) -> ColumnPlan:
    """Return the column, its field not named as a manifest's."""
    if column.field is None or column.field.name not in COLUMNS:
        return column
    if outcome is not None and column.header in {c.header for c in outcome.columns}:
        return replace(column, field=None, why="the outcome")
    name = f"{column.field.name} (clinical)"
    return replace(column, field=column.field.model_copy(update={"name": name}))


def _conflict_question(merged: PatientRows) -> Questions:
    """Return the question on rows that disagree."""
    if not merged.conflicts:
        return ()
    by_column = Counter(conflict.column for conflict in merged.conflicts)
    patients = len({conflict.patient for conflict in merged.conflicts})
    text = f"Rows of {patients} patients disagree in {len(by_column)} columns. Which are used?"
    options = (FIRST_ROW, NO_COLUMNS, NO_PATIENTS)
    return (ImportQuestion("conflicts", text, options, "", dict(by_column)),)


def _without_conflicts(
    columns: Sequence[ColumnPlan],
    merged: PatientRows,
    questions: Questions,
    answers: ImportAnswers,
) -> tuple[ColumnPlan, ...]:
    """Return the columns, without fields that the answer leaves out."""
    if NO_COLUMNS not in map(answers.to, questions):
        return tuple(columns)
    varying = {conflict.column for conflict in merged.conflicts}
    return tuple(
        replace(c, field=None, why=DISAGREE) if c.header in varying else c for c in columns
    )


def _schema(
    table: TextTable, columns: Sequence[ColumnPlan], given: ClinicalSchema | None
) -> ClinicalSchema:
    known = given.fields if given else ()
    names = {field.name for field in known}
    new_fields = tuple(c.field for c in columns if c.field and c.field.name not in names)
    if given is not None and known:
        return given.model_copy(update={"fields": (*known, *new_fields)})
    # Not the file's name, which can name a patient: the schema goes wherever the study goes.
    text = f"drafted from a table of {len(table.rows)} rows and {len(table.columns)} columns"
    return ClinicalSchema(name="drafted", description=text, fields=new_fields, inferred=True)


def _mark_leaks(
    columns: Sequence[ColumnPlan], rows: Sequence[TableRow], label: str | None
) -> tuple[ColumnPlan, ...]:
    """Mark columns as outcome that give the label away.

    Each value of such a column goes with one class: the column defines the class or follows
    from it, and a model that sees it learns nothing else.
    """
    if label is None:
        return tuple(columns)
    return tuple(_mark_leak(column, rows, label) for column in columns)


def _mark_leak(column: ColumnPlan, rows: Sequence[TableRow], label: str) -> ColumnPlan:
    known = column.field
    if known is None or known.outcome or known.kind in (Kind.NUMBER, Kind.DATE):
        return column
    classes: dict[Value, set[str]] = {}
    for row in rows:
        value = column.values[row.cells[column.header]]
        if not isinstance(value, Absent) and has_value(row.cells[label]):
            classes.setdefault(value, set()).add(row.cells[label])
    named = {name for names in classes.values() for name in names}
    repeats = len(classes) * _REPEATED <= len(rows)
    if not repeats or len(named) < 2 or any(len(names) > 1 for names in classes.values()):
        return column
    remark = f"each of its values occurs in one class of {label!r} only: it gives the label away"
    given_away = known.model_copy(update={"outcome": True})
    return replace(column, field=given_away, remarks=(*column.remarks, remark))


def _mark_outcome(column: ColumnPlan, outcome: OutcomeColumns | None) -> ColumnPlan:
    """Return the column, marked if the outcome uses it."""
    headers = {c.header for c in outcome.columns} if outcome else set()
    if column.field is None or column.header not in headers or column.field.outcome:
        return column
    return replace(column, field=column.field.model_copy(update={"outcome": True}))
