"""Inert text: what a spreadsheet would run as a formula, written so that it does not."""

from __future__ import annotations

import re

#: What begins a formula in some spreadsheet, after any apostrophes that already guard it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")

#: How the GDC writes that a property has no value: no guarded text.
_GDC_EMPTY = "'--"


def inert(text: str) -> str:
    """Return the text with an apostrophe before what a spreadsheet would run.

    Numbers are left as they are. `bare` gives the text back.
    """
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def bare(text: str) -> str:
    """Return the text that `inert` was given."""
    guarded = text.startswith("'") and _FORMULA.match(text) and text != _GDC_EMPTY
    return text[1:] if guarded else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
