"""Schema rows: a clinical schema as rows of words that people edit, and back; no Qt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import validated
from napari_wsimil.cohort.table import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.clinical.schema import ClinicalSchema

#: What the columns of a row are.
TITLES = (
    "field",
    "kind",
    "group",
    "unit",
    "possible",
    "plausible",
    "normal",
    "values",
    "input",
    "outcome",
    "description",
)

#: What a field may be to a model, and whether it follows the outcome.
INPUTS = ("no", "yes", "forced")
OUTCOMES = ("no", "yes")
KINDS = {("flag" if kind is Kind.BOOLEAN else kind.value): kind for kind in Kind}

_WORDS = {kind: word for word, kind in KINDS.items()}
_RANGE = re.compile(r"\s*(\S+)\s+to\s+(\S+)\s*")


def rows_of(schema: ClinicalSchema) -> list[list[str]]:
    """Return a row of words per field, under `TITLES`."""
    return [_row(field, schema) for field in schema.fields]


def new_row(name: str) -> list[str]:
    """Return the row of a new field: a number of a group of its own."""
    return [name, _WORDS[Kind.NUMBER], "clinical", "", "", "", "", "", "no", "no", ""]


def schema_of(
    rows: Sequence[Sequence[str]], rules: Sequence[str], before: ClinicalSchema
) -> ClinicalSchema:
    """Return the schema that rows of words state.

    Parameters
    ----------
    rows
        Under `TITLES`.
    rules
        One each, such as "lymphocytes <= leukocytes".
    before
        What the rows were made of: its name and its fields' other headers stay.

    Raises
    ------
    RecordError
        If they state none; the message names field and what is wrong.
    """
    known = before.by_name
    fields = [_field(row, known.get(row[0].strip())) for row in rows]
    words = {row[0].strip(): row[TITLES.index("input")] for row in rows}
    content = before.model_dump() | {
        "fields": [field.model_dump() for field in fields],
        "inputs": [name for name, word in words.items() if word != INPUTS[0]],
        "forced": [name for name, word in words.items() if word == INPUTS[2]],
        "rules": [rule.strip() for rule in rules if rule.strip()],
        "inferred": False,
    }
    return validated(content, "schema")


def _row(field: Field, schema: ClinicalSchema) -> list[str]:
    forced = field.name in schema.forced
    used = INPUTS[2] if forced else INPUTS[field.name in schema.inputs]
    ranges = [_range_text(limits) for limits in (field.hard, field.plausible, field.normal)]
    return [
        field.name,
        _WORDS[field.kind],
        field.group,
        field.unit,
        *ranges,
        " | ".join(field.values),
        used,
        OUTCOMES[field.outcome],
        field.description,
    ]


def _field(row: Sequence[str], before: Field | None) -> Field:
    said = {title: text.strip() for title, text in zip(TITLES, row, strict=True)}
    name = said["field"]
    if not name:
        raise RecordError("a field has no name")
    try:
        return Field(
            name=name,
            kind=KINDS[said["kind"]],
            group=said["group"] or "clinical",
            unit=said["unit"],
            hard=_range(name, "possible", said["possible"]),
            plausible=_range(name, "plausible", said["plausible"]),
            normal=_range(name, "normal", said["normal"]),
            values=tuple(v.strip() for v in said["values"].split("|") if v.strip()),
            description=said["description"],
            columns=() if before is None else before.columns,
            outcome=said["outcome"] == OUTCOMES[1],
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RecordError(reason) from error


def _range_text(limits: tuple[float, float] | None) -> str:
    return "" if limits is None else f"{limits[0]:g} to {limits[1]:g}"


def _range(name: str, what: str, text: str) -> tuple[float, float] | None:
    if not text:
        return None
    match = _RANGE.fullmatch(text)
    try:
        if match is not None:
            return float(match[1]), float(match[2])
    except ValueError:
        pass
    raise RecordError(f"field {name!r}: {what} {text!r} is not LOW to HIGH, such as 0 to 120")
