"""Text of cells: absence, identifiers as shown, escaped formulas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from napari_wsimil.clinical.field import MARKERS, Absent

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Excel keeps this many digits of a number; float64 keeps as many of every number.
DIGITS = 15

#: Digits of a number that the format "General" shows in full.
_GENERAL_DIGITS = 11

_ERROR = re.compile(r"#(REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)")

_GENERAL = ("General", "@", "")

_ISO_DATE = re.compile(r"yyyy\\?-mm\\?-dd(;@)?", re.IGNORECASE)

#: Digits of a number format, and characters around them that are shown as they are.
_PARTS = re.compile(r'(?P<digit>[0#])|"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|(?P<literal>[-+ ()$:])')

#: Beginning of a formula in some spreadsheet, after apostrophes that already guard it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")

#: How the GDC writes that a property has no value: no guarded text.
_GDC_EMPTY = "'--"

#: Words for absence in public sources, casefolded, beside our own.
SOURCE_WORDS: Mapping[str, Absent] = {
    "'--": Absent.MISSING,  # GDC: the property has no value
    "--": Absent.MISSING,
    "-": Absent.MISSING,
    ".": Absent.MISSING,
    "nan": Absent.MISSING,
    "null": Absent.MISSING,
    "not available": Absent.MISSING,
    "[not available]": Absent.MISSING,  # TCGA Biotab, cBioPortal
    "not submitted": Absent.MISSING,
    "[not submitted]": Absent.MISSING,
    "not reported": Absent.UNKNOWN,  # GDC
    "[not reported]": Absent.UNKNOWN,
    "unk": Absent.UNKNOWN,
    "[unknown]": Absent.UNKNOWN,
    "not evaluated": Absent.UNKNOWN,
    "[not evaluated]": Absent.UNKNOWN,
    "[discrepancy]": Absent.UNKNOWN,
    "[not applicable]": Absent.NOT_APPLICABLE,
}

#: Words for both "not available" and "not applicable", casefolded.
AMBIGUOUS = ("na", "n/a", "n.a.", "#n/a", "[na]")

#: Words of programs for no name, casefolded, beside the words for absence.
_NO_NAMES = ("none", "<na>", "nat", "#n/a", "(null)", "(blank)")


@dataclass(frozen=True)
class CellText:
    """A cell that is no plain text, as an identifier.

    Attributes
    ----------
    place
        The cell: "A2", or "row 2".
    text
        The text it shows; the stored value where that is in doubt; empty where digits are lost.
    doubt
        Why this may not be the identifier, continuing "A2 …"; empty if it is.
    """

    place: str
    text: str
    doubt: str = ""


def text_in_cell(place: str, value: Any, number_format: str) -> CellText | None:
    """Return a spreadsheet's number or date as identifier, or None."""
    if isinstance(value, bool):
        return CellText(place, str(value).upper())
    if isinstance(value, datetime | date | time | timedelta):
        return _date(place, value, number_format)
    if isinstance(value, int | float):
        return _number(place, value, number_format.split(";")[0])
    return text_of_error(place, value) if isinstance(value, str) else None


def text_of_error(place: str, text: str) -> CellText | None:
    """Return the cell of a failed formula, or None."""
    return CellText(place, "", f"is the error {text}") if _ERROR.fullmatch(text) else None


def text_of_float(place: str, value: float, digits: int) -> CellText | None:
    """Return a float as identifier, None if unchanged.

    Parameters
    ----------
    place
        The cell.
    value
        The number; NaN is an empty cell.
    digits
        How many digits the file's type keeps of every number.
    """
    if value != value:
        return None
    if abs(value) >= 10**digits:
        reason = f"is {value:g}, a floating-point number, which keeps {digits} digits"
        return CellText(place, "", reason)
    if value.is_integer():
        return None
    return CellText(place, str(value), f"is {value}, a number with decimals")


def _date(place: str, value: date | time | timedelta, number_format: str) -> CellText:
    text = str(value)
    if isinstance(value, datetime) and not (value.hour or value.minute or value.second):
        text = value.date().isoformat()
    if _ISO_DATE.fullmatch(number_format):
        return CellText(place, text)
    return CellText(place, text, f"is a date or time ({text}), shown as {number_format!r}")


def _number(place: str, value: float, number_format: str) -> CellText:
    if value != int(value):
        return CellText(place, str(value), f"is {value}, a number with decimals")
    whole = int(value)
    if len(str(abs(whole))) > DIGITS:
        reason = f"is the number {whole}, of which Excel keeps {DIGITS} digits"
        return CellText(place, "", reason)
    if number_format in _GENERAL and len(str(abs(whole))) > _GENERAL_DIGITS:
        return CellText(place, str(whole), f"is the number {whole}, shown as {whole:.5E}")
    if number_format in _GENERAL:
        return CellText(place, str(whole))
    text = _formatted(whole, number_format)
    if text is None:
        return CellText(place, str(whole), f"is the number {whole}, shown as {number_format!r}")
    return CellText(place, text)


def _formatted(value: int, number_format: str) -> str | None:
    """Return a whole number in its number format, or None."""
    parts = list(_PARTS.finditer(number_format))
    digits = sum(part["digit"] is not None for part in parts)
    if value < 0 or (value == 0 and "0" not in number_format) or not digits:
        return None
    if sum(len(part[0]) for part in parts) != len(number_format):
        return None
    left = str(value).rjust(digits)
    text = [left[: len(left) - digits]] if len(left) > digits else []
    left = left[-digits:]
    place, is_padded = 0, False
    for part in parts:
        if part["digit"] is None:
            text.append(part["quoted"] or part["escaped"] or part["literal"] or "")
            continue
        is_padded = is_padded or part["digit"] == "0"
        sign = left[place]
        text.append(sign if sign != " " else "0" if is_padded else "")
        place += 1
    return _with_digits_first(text, parts, len(str(value)) > digits)


def _with_digits_first(text: list[str], parts: list[re.Match[str]], is_longer: bool) -> str:
    """Return the text, surplus digits before the first digit."""
    if not is_longer:
        return "".join(text)
    beyond, shown = text[0], text[1:]
    first = next(i for i, part in enumerate(parts) if part["digit"] is not None)
    return "".join((*shown[:first], beyond, *shown[first:]))


def escape_formula(text: str) -> str:
    """Return the text with an apostrophe before a formula.

    Numbers are left as they are. `unescape_formula` returns the text.
    """
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def unescape_formula(text: str) -> str:
    """Return the text that `escape_formula` was given."""
    guarded = text.startswith("'") and _FORMULA.match(text) and text != _GDC_EMPTY
    return text[1:] if guarded else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def absence(cell: str) -> Absent | None:
    """Return the kind of absence in a cell, or None."""
    word = cell.casefold()
    return MARKERS.get(word, SOURCE_WORDS.get(word))


def has_value(cell: str) -> bool:
    """Return whether a cell has a value, not an absence."""
    return absence(cell) is None and cell.casefold() not in AMBIGUOUS


def may_be_nobody(cell: str) -> bool:
    """Return whether a name may be none: NA, nan, None."""
    return not has_value(cell) or cell.casefold() in _NO_NAMES
