"""Error of tables, schemas and records."""


class RecordError(ValueError):
    """A table, schema or record is invalid.

    The message names file, row, column and value.
    """
