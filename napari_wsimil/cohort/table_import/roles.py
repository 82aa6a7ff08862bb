"""Column roles: patients, slides, classes and splits; identifiers."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import MARKERS
from napari_wsimil.cohort.cell_text import CellText, may_be_nobody, says, text_of_error
from napari_wsimil.cohort.headers import PATIENT, SLIDE, plain
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.table import TableRow
from napari_wsimil.cohort.table_import.questions import Question
from napari_wsimil.cohort.table_import.type_inference import MOST_CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.cohort.table import Table
    from napari_wsimil.cohort.table_import.questions import Asked

#: The answer that no column has a role.
NO_COLUMN = "none"

#: Names of columns that part a cohort, as `plain` has them, and their words.
_TRAIN = ("train", "is train", "training", "in train")

_SPLIT = ("split", "set", "subset", "partition", "dataset split", "data split", *_TRAIN)

_TRUTH = {"1.0": "1", "0.0": "0", "true": "1", "false": "0", "yes": "1", "no": "0"}

_WORDS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "testing": Split.TEST,
}

#: Columns of a manifest that are read as they are.
OWN = {
    "slide_path": "where slides are",
    "feature_path": "where features are",
    "mpp_override": "µm per pixel, as stated",
    "feature_facts": "what was confirmed of features",
    "split": "the parts of the cohort",
}

#: Answers to what becomes of identifiers that are in doubt.
AS_STORED, PASS_OVER, WITHOUT_DECIMALS = (
    "as stored",
    "pass these rows over",
    "without the decimals",
)

#: Answers to what "NA" as an identifier is.
NAME, NOBODY = "a name", "no name"

_SCIENTIFIC = re.compile(r"[+-]?\d+([.,]\d+)?E[+-]?\d+", re.IGNORECASE)

_DECIMALS = re.compile(r"(\d+)\.0+")

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"

_DAY = re.compile(rf"\d{{1,4}}-({_MONTHS})|({_MONTHS})-\d{{1,4}}", re.IGNORECASE)

#: Cells that a question names beside the first.
_PLACES = 5


@dataclass(frozen=True)
class Roles:
    """Headers of the columns that are no clinical fields; None where a table has none.

    Attributes
    ----------
    patient
        Names of the patients; None until a person said which.
    slide
        Names of the slides.
    label
        The classes.
    own
        Columns of a manifest: see `OWN`.
    split
        Another column of the parts of the cohort.
    parts
        The part that each of its cells is.
    """

    patient: str | None
    slide: str | None
    label: str | None
    own: tuple[str, ...]
    split: str | None = None
    parts: Mapping[str, Split] = field(default_factory=dict)

    def why(self, header: str) -> str:
        """Return what a column is, empty if it may be a field."""
        named = {self.patient: "the patients", self.slide: "the slides", self.label: "the classes"}
        named |= {self.split: OWN["split"]}
        return named.get(header) or (OWN[header] if header in self.own else "")


def roles_of(table: Table, counts: Mapping[str, Counter[str]], asked: Asked) -> Roles:
    """Return the columns of a table that are no clinical fields, having asked which they are."""
    patient = asked.ask(_question("patient", "names the patients", table.columns, table, PATIENT))
    slides = (NO_COLUMN, *table.columns)
    slide = asked.ask(_question("slide", "names the slides", slides, table, SLIDE))
    few = (c for c in table.columns if 2 <= len(counts[c]) <= MOST_CATEGORIES + 4)
    label = asked.ask(_question("label", "has the classes", (NO_COLUMN, *few), table, ("label",)))
    others = (patient, slide, label, *OWN)
    split, parts = _split([c for c in table.columns if c not in others], counts, asked)
    return Roles(
        patient or None,
        None if slide == NO_COLUMN else slide,
        None if label == NO_COLUMN else label,
        tuple(header for header in OWN if header in table.columns),
        None if "split" in table.columns else split,
        parts,
    )


def _split(
    columns: Sequence[str], counts: Mapping[str, Counter[str]], asked: Asked
) -> tuple[str | None, dict[str, Split]]:
    """Ask for a column that splits the cohort; return it and the parts of its cells."""
    for header in columns:
        cells = {c: _TRUTH.get(c.casefold(), c.casefold()) for c in counts[header] if says(c)}
        options = _split_options(header, set(cells.values()))
        if not options:
            continue
        text = f"Does {header!r} part the cohort for training?"
        shown = {cell: counts[header][cell] for cell in cells}
        question = Question("split", text, (*options, NO_COLUMN), "", shown, header)
        parts = options.get(asked.ask(question))
        return (None, {}) if parts is None else (header, {c: parts[w] for c, w in cells.items()})
    return None, {}


def _split_options(header: str, words: set[str]) -> dict[str, dict[str, Split]]:
    """Return the parts that a column may state, by answer; empty if it states none."""
    if len(words) < 2:
        return {}
    if plain(header) in _TRAIN and words == {"0", "1"}:
        return {
            f"train where 1, {other} where 0": {"1": Split.TRAIN, "0": other}
            for other in (Split.TEST, Split.VALIDATION)
        }
    if plain(header) in _SPLIT and words <= set(_WORDS):
        return {"as it says": {word: _WORDS[word] for word in words}}
    return {}


def _question(
    key: str, what: str, options: tuple[str, ...], table: Table, names: tuple[str, ...]
) -> Question:
    found = [c for name in names for c in options if c == name.replace(" ", "_")]
    found += [c for name in names for c in options if plain(c) == name]
    default = found[0] if found else NO_COLUMN if NO_COLUMN in options else ""
    text = f"Which of the {len(table.columns)} columns {what}?"
    return Question(key, text, tuple(options), default)


def with_identifiers(table: Table, roles: Roles, asked: Asked) -> Table:
    """Return a table whose cells that name patients and slides are as the file shows them.

    What cannot be known is asked: numbers of which digits are lost, dates, numbers in a
    format that says otherwise, and "NA". A cell that is passed over becomes empty.
    """
    for header in dict.fromkeys(filter(None, (roles.patient, roles.slide))):
        cells = _identified(table, header, asked)
        rows = (
            TableRow(row.path, row.line, {**row.cells, header: cells.get(row.line, "")})
            for row in table.rows
        )
        table = replace(table, rows=tuple(rows))
    return table


def _identified(table: Table, header: str, asked: Asked) -> dict[int, str]:
    """Return the identifiers in a column by line."""
    known = table.cell_texts.get(header, {})
    texts = {r.line: known.get(r.line) or _text_of_row(r, header) for r in table.rows}
    lost = {line: cell for line, cell in texts.items() if cell.doubt and not cell.text}
    doubtful = {line: cell for line, cell in texts.items() if cell.doubt and cell.text}
    cells = {line: cell.text for line, cell in texts.items()}
    if lost:
        _ask(header, "lost", lost, (PASS_OVER,), asked)
    if doubtful:
        answer = _ask(header, "doubtful", doubtful, (AS_STORED, PASS_OVER), asked)
        cells |= dict.fromkeys(doubtful if answer == PASS_OVER else (), "")
    return _without_decimals(header, _without_nobody(header, cells, asked), asked)


def _text_of_row(row: TableRow, header: str) -> CellText:
    text = row.cells[header]
    if _SCIENTIFIC.fullmatch(text):
        return CellText(
            f"row {row.line}", text, f"is {text}, perhaps a number that lost its digits"
        )
    if _DAY.fullmatch(text):
        return CellText(f"row {row.line}", text, f"is {text}, perhaps a name that became a date")
    return text_of_error(f"row {row.line}", text) or CellText(f"row {row.line}", text)


def _ask(
    header: str, kind: str, cells: Mapping[int, CellText], options: tuple[str, ...], asked: Asked
) -> str:
    first, *others = cells.values()
    also = f"; also {', '.join(c.place for c in others[:_PLACES])}" if others else ""
    more = ", …" if len(others) > _PLACES else ""
    text = (
        f"{len(cells)} identifiers in {header!r} are {kind}: {first.place} {first.doubt}{also}"
        f"{more}. Format the column as text, enter them again and import that, or choose:"
    )
    counts = dict(Counter(cell.text for cell in cells.values() if cell.text))
    return asked.ask(Question(f"{header}: {kind} identifiers", text, options, "", counts, header))


def _without_nobody(header: str, cells: dict[int, str], asked: Asked) -> dict[int, str]:
    """Return identifiers, having asked whether words such as NA are one."""
    words = Counter(c for c in cells.values() if may_be_nobody(c) and c.casefold() not in MARKERS)
    if not words:
        return cells
    text = f"{header!r} has {', '.join(words)}: is that a name, or does such a row name none?"
    can_be_names = not any("/" in word or not word.strip(".") for word in words)
    options = (NOBODY, NAME) if can_be_names else (NOBODY,)
    question = Question(f"{header}: NA", text, options, "", dict(words), header)
    if asked.ask(question) == NAME:
        return cells
    return {line: "" if cell in words else cell for line, cell in cells.items()}


def _without_decimals(header: str, cells: dict[int, str], asked: Asked) -> dict[int, str]:
    """Return identifiers, having asked whether 1001.0 is 1001, as after a detour by pandas."""
    decimals = Counter(cell for cell in cells.values() if _DECIMALS.fullmatch(cell))
    if not decimals:
        return cells
    first = next(iter(decimals))
    text = f"{header!r} has identifiers such as {first}: are the decimals part of them?"
    options = (WITHOUT_DECIMALS, AS_STORED)
    question = Question(f"{header}: decimals", text, options, "", dict(decimals), header)
    if asked.ask(question) != WITHOUT_DECIMALS:
        return cells
    return {line: _DECIMALS.sub(r"\1", c) if c in decimals else c for line, c in cells.items()}


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    signs = (c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")
    dashed = "".join("-" if unicodedata.category(c) == "Pd" else c for c in signs)
    return re.sub(r"(?<!\d)0+(?=\d)", "", dashed)


def lookalikes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return names that differ in case, blanks, dashes, leading zeros or code points alone."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_folded(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
