"""Scenarios: named sets of what-if changes, stored as YAML."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.schema import ClinicalSchema, Record

_PARTS = ("name", "schema", "changes")


@dataclass(frozen=True)
class Scenario:
    """Named set of changes of a record.

    Attributes
    ----------
    name
        Name to display.
    schema
        Name of the schema of the changed fields.
    changes
        New values as text by field name; "missing" removes a value.
    """

    name: str
    schema: str
    changes: Mapping[str, str]

    def apply(self, schema: ClinicalSchema, record: Record) -> Record:
        """Return a record with the changes applied.

        Raises
        ------
        RecordError
            If the scenario belongs to another schema, a field does not exist, or a value is
            invalid.
        """
        if schema.name != self.schema:
            raise RecordError(
                f"scenario {self.name!r} belongs to schema {self.schema!r}, "
                f"these records to {schema.name!r}"
            )
        try:
            return schema.apply(record, self.changes)
        except RecordError as error:
            raise RecordError(f"scenario {self.name!r}: {error}") from error


def read_scenario(path: str | Path) -> Scenario:
    """Read a scenario from a YAML file.

    The file has `name`, `schema`, and `changes` by field.

    Raises
    ------
    RecordError
        If the file is not a scenario; the message names file and problem.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise RecordError(f"{path} is not a YAML file: {problem}") from error
    if not isinstance(content, dict) or set(content) != set(_PARTS):
        raise RecordError(f"{path} is not a scenario: it must have exactly {', '.join(_PARTS)}")
    name, schema, changes = (content[part] for part in _PARTS)
    if not (isinstance(name, str) and isinstance(schema, str)):
        raise RecordError(f"{path}: name and schema must be texts")
    if not isinstance(changes, dict) or not changes:
        raise RecordError(f"{path}: changes must name a field and its value, such as ldh: 210")
    return Scenario(name, schema, {str(n): _text(path, n, value) for n, value in changes.items()})


def write_scenario(scenario: Scenario, path: str | Path) -> None:
    """Write a scenario as a YAML file."""
    content = {part: getattr(scenario, part) for part in _PARTS}
    content["changes"] = dict(scenario.changes)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def _text(path: Path, name: object, value: object) -> str:
    """Return a YAML value as text for a field."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | str):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise RecordError(f"{path}: {name}: {value!r} is not a text, number, boolean or date")
