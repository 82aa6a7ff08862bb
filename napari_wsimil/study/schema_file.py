"""Schema file: a clinical schema as YAML."""

from __future__ import annotations

from pathlib import Path

import yaml

from napari_wsimil.study.schema import ClinicalSchema, validated
from napari_wsimil.study.tables import RecordError

#: Where the schemas lie that come with the program.
SHIPPED = Path(__file__).parents[1] / "resources" / "schemas"

#: The schema of a study that has no records yet.
NO_FIELDS = ClinicalSchema(name="none", description="no clinical fields yet", fields=())


def named_schema(name: str) -> ClinicalSchema:
    """Return a schema that comes with the program, by its name, or the one in a file.

    Raises
    ------
    RecordError
        If there is none of this name, or the file is no valid schema.
    OSError
        If the file cannot be read.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if name not in shipped and not Path(name).exists():
        raise RecordError(f"schema {name!r} is no file and none of {', '.join(shipped)}")
    return read_schema(shipped.get(name, Path(name)))


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
