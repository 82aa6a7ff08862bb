"""Scenarios: named changes of a record, stored as YAML."""

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
    """Named changes of a record.

    Attributes
    ----------
    name
        For people.
    schema
        Name of the schema of the changed fields.
    changes
        By the field's name the text of its new value, "missing" to take the value away.
    """

    name: str
    schema: str
    changes: Mapping[str, str]

    def apply(self, schema: ClinicalSchema, record: Record) -> Record:
        """Return a record of a schema with the changes.

        Raises
        ------
        RecordError
            If the schema is another one, has no such field, or a text states none of its values.
        """
        if schema.name != self.schema:
            raise RecordError(
                f"scenario {self.name!r} changes records of schema {self.schema!r}, "
                f"these are of {schema.name!r}"
            )
        try:
            return schema.apply(record, self.changes)
        except RecordError as error:
            raise RecordError(f"scenario {self.name!r}: {error}") from error


def read_scenario(path: str | Path) -> Scenario:
    """Read a scenario: `name`, `schema`, and `changes` by field.

    Raises
    ------
    RecordError
        If the file is none; the message names file and problem.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise RecordError(f"{path} is not a YAML file: {problem}") from error
    if not isinstance(content, dict) or set(content) != set(_PARTS):
        raise RecordError(f"{path} is no scenario: it must have {', '.join(_PARTS)}, and no more")
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
    raise RecordError(f"{path}: {name}: {value!r} is no value of a field")
