"""Schema file: a clinical schema as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from napari_wsimil.study.schema import validated
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from napari_wsimil.study.schema import ClinicalSchema


def read_schema(path: str | Path) -> ClinicalSchema:
    """Return the schema in a YAML file.

    Raises
    ------
    RecordError
        If the file is no valid schema; the message names the file and what is wrong.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise RecordError(f"{path} is not a YAML file: {said}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} is no schema: it has no name and no fields")
    return validated(content, str(path))


def write_schema(schema: ClinicalSchema, path: str | Path) -> None:
    """Write a schema as a YAML file that `read_schema` reads as the same."""
    Path(path).write_text(schema_text(schema), encoding="utf-8")


def schema_text(schema: ClinicalSchema) -> str:
    """Return a schema as YAML, without what it has by default."""
    plain = schema.model_dump(mode="json", exclude_defaults=True)
    text: str = yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    return text
