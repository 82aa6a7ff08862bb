"""The error of tables, schemas and records."""


class RecordError(ValueError):
    """A table, schema or record is not valid; the message names file, row, column, value."""
