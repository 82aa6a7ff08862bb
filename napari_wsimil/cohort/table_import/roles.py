"""Column roles: patients, slides, classes and splits; identifiers."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from napari_wsimil.clinical.field import MARKERS
from napari_wsimil.cohort.cell_text import CellText, has_value, may_be_nobody, text_of_error
from napari_wsimil.cohort.headers import PATIENT, SLIDE, plain
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.table import TableRow
from napari_wsimil.cohort.table_import.questions import NO_COLUMN, ImportQuestion, Questions
from napari_wsimil.cohort.table_import.type_inference import MOST_CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.cohort.table import TextTable
    from napari_wsimil.cohort.table_import.questions import ImportAnswers

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
    "slide_path": "slide files",
    "feature_path": "feature files",
    "mpp_override": "µm per pixel",
    "feature_facts": "confirmed facts on features",
    "split": "the split",
}

#: Answers on doubtful identifiers.
AS_STORED, PASS_OVER, WITHOUT_DECIMALS = (
    "as stored",
    "pass these rows over",
    "without the decimals",
)

#: Answers on "NA" as an identifier.
NAME, NOBODY = "a name", "no name"

_SCIENTIFIC = re.compile(r"[+-]?\d+([.,]\d+)?E[+-]?\d+", re.IGNORECASE)

_DECIMALS = re.compile(r"(\d+)\.0+")

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"

_DAY = re.compile(rf"\d{{1,4}}-({_MONTHS})|({_MONTHS})-\d{{1,4}}", re.IGNORECASE)

#: Cells that a question names beside the first.
_PLACES = 5


#: Options by answer: which part of the cohort each cell is.
_SplitOptions: TypeAlias = dict[str, dict[str, Split]]


@dataclass(frozen=True)
class ColumnRoles:
    """Headers of the columns that are no clinical fields.

    Attributes
    ----------
    patient
        Names of the patients; None until a person chose a column.
    slide
        Names of the slides.
    label
        The classes.
    own
        Columns of a manifest: see `OWN`.
    split
        Another column with the parts of the cohort.
    parts
        Part of the cohort by cell of that column.
    """

    patient: str | None
    slide: str | None
    label: str | None
    own: tuple[str, ...]
    split: str | None = None
    parts: Mapping[str, Split] = field(default_factory=dict)

    def why(self, header: str) -> str:
        """Return the role of a column, empty for a field."""
        named = {self.patient: "the patients", self.slide: "the slides", self.label: "the classes"}
        named |= {self.split: OWN["split"]}
        return named.get(header) or (OWN[header] if header in self.own else "")


def column_roles(
    table: TextTable, counts: Mapping[str, Counter[str]], answers: ImportAnswers
) -> tuple[ColumnRoles, Questions]:
    """Return the columns that are no clinical fields.

    Parameters
    ----------
    table
        The table.
    counts
        Rows by cell, for each column.
    answers
        Answers given so far.
    """
    few = (c for c in table.columns if 2 <= len(counts[c]) <= MOST_CATEGORIES + 4)
    questions = (
        _role_question("patient", "names the patients", table.columns, table, PATIENT),
        _role_question("slide", "names the slides", (NO_COLUMN, *table.columns), table, SLIDE),
        _role_question("label", "has the classes", (NO_COLUMN, *few), table, ("label",)),
    )
    patient, slide, label = map(answers.to, questions)
    others = (patient, slide, label, *OWN)
    options, split_questions = _split_question(
        [c for c in table.columns if c not in others], counts
    )
    chosen = [options[answers.to(q)] for q in split_questions if answers.to(q) in options]
    is_split = bool(chosen) and "split" not in table.columns
    roles = ColumnRoles(
        patient or None,
        None if slide == NO_COLUMN else slide,
        None if label == NO_COLUMN else label,
        tuple(header for header in OWN if header in table.columns),
        split_questions[0].column if is_split else None,
        chosen[0] if chosen else {},
    )
    return roles, (*questions, *split_questions)


def _split_question(
    columns: Sequence[str], counts: Mapping[str, Counter[str]]
) -> tuple[_SplitOptions, Questions]:
    """Return the question on a split column, and its options."""
    for header in columns:
        cells = {c: _TRUTH.get(c.casefold(), c.casefold()) for c in counts[header] if has_value(c)}
        options = _split_options(header, set(cells.values()))
        if options:
            text = f"Is {header!r} the split into training, validation and test set?"
            rows = {cell: counts[header][cell] for cell in cells}
            question = ImportQuestion("split", text, (*options, NO_COLUMN), "", rows, header)
            by_cell = {
                answer: {cell: parts[word] for cell, word in cells.items()}
                for answer, parts in options.items()
            }
            return by_cell, (question,)
    return {}, ()


def _split_options(header: str, words: set[str]) -> _SplitOptions:
    """Return a column's possible splits, by answer and word."""
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


def _role_question(
    key: str, role: str, options: tuple[str, ...], table: TextTable, names: tuple[str, ...]
) -> ImportQuestion:
    matches = [c for name in names for c in options if c == name.replace(" ", "_")]
    matches += [c for name in names for c in options if plain(c) == name]
    default = matches[0] if matches else NO_COLUMN if NO_COLUMN in options else ""
    text = f"Which of the {len(table.columns)} columns {role}?"
    return ImportQuestion(key, text, tuple(options), default)


def with_identifiers(
    table: TextTable, roles: ColumnRoles, answers: ImportAnswers
) -> tuple[TextTable, Questions]:
    """Return a table with identifiers as the file shows them.

    Doubtful names are questions: numbers with lost digits, dates, numbers in a format that
    shows something else, and "NA". A cell that is skipped becomes empty.
    """
    questions: Questions = ()
    for header in dict.fromkeys(filter(None, (roles.patient, roles.slide))):
        cells, further = _identifiers(table, header, answers)
        rows = (
            TableRow(row.path, row.line, {**row.cells, header: cells.get(row.line, "")})
            for row in table.rows
        )
        table, questions = replace(table, rows=tuple(rows)), questions + further
    return table, questions


def _identifiers(
    table: TextTable, header: str, answers: ImportAnswers
) -> tuple[dict[int, str], Questions]:
    """Return the identifiers in a column by line."""
    known = table.cell_texts.get(header, {})
    texts = {r.line: known.get(r.line) or _text_of_row(r, header) for r in table.rows}
    lost = {line: cell for line, cell in texts.items() if cell.doubt and not cell.text}
    doubtful = {line: cell for line, cell in texts.items() if cell.doubt and cell.text}
    cells = {line: cell.text for line, cell in texts.items()}
    questions = (
        *_doubt_question(header, "lost", lost, (PASS_OVER,)),
        *_doubt_question(header, "doubtful", doubtful, (AS_STORED, PASS_OVER)),
    )
    choices = [answers.to(question) for question in questions]
    if doubtful and choices[-1] == PASS_OVER:
        cells |= dict.fromkeys(doubtful, "")
    nobody = _nobody_question(header, cells)
    if nobody and answers.to(nobody[0]) != NAME:
        cells = {line: "" if c in nobody[0].counts else c for line, c in cells.items()}
    decimals = _decimals_question(header, cells)
    if decimals and answers.to(decimals[0]) == WITHOUT_DECIMALS:
        whole = {cell: _DECIMALS.sub(r"\1", cell) for cell in decimals[0].counts}
        cells = {line: whole.get(cell, cell) for line, cell in cells.items()}
    return cells, (*questions, *nobody, *decimals)


def _text_of_row(row: TableRow, header: str) -> CellText:
    text = row.cells[header]
    if _SCIENTIFIC.fullmatch(text):
        return CellText(f"row {row.line}", text, f"is {text}, possibly a number with lost digits")
    if _DAY.fullmatch(text):
        return CellText(f"row {row.line}", text, f"is {text}, possibly a name turned into a date")
    return text_of_error(f"row {row.line}", text) or CellText(f"row {row.line}", text)


def _doubt_question(
    header: str, kind: str, cells: Mapping[int, CellText], options: tuple[str, ...]
) -> Questions:
    if not cells:
        return ()
    first, *others = cells.values()
    also = f"; also {', '.join(c.place for c in others[:_PLACES])}" if others else ""
    more = ", …" if len(others) > _PLACES else ""
    text = (
        f"{len(cells)} identifiers in {header!r} are {kind}: {first.place} {first.doubt}{also}"
        f"{more}. Format the column as text and correct them, or choose:"
    )
    counts = dict(Counter(cell.text for cell in cells.values() if cell.text))
    key = f"{header}: {kind} identifiers"
    return (ImportQuestion(key, text, options, "", counts, header),)


def _nobody_question(header: str, cells: Mapping[int, str]) -> Questions:
    """Return the question whether words such as NA are identifiers."""
    words = Counter(c for c in cells.values() if may_be_nobody(c) and c.casefold() not in MARKERS)
    if not words:
        return ()
    text = f"{header!r} has {', '.join(words)}. Is this a name, or does the row have no name?"
    can_be_names = not any("/" in word or not word.strip(".") for word in words)
    options = (NOBODY, NAME) if can_be_names else (NOBODY,)
    return (ImportQuestion(f"{header}: NA", text, options, "", dict(words), header),)


def _decimals_question(header: str, cells: Mapping[int, str]) -> Questions:
    """Return the question whether 1001.0 is 1001, as from pandas."""
    decimals = Counter(cell for cell in cells.values() if _DECIMALS.fullmatch(cell))
    if not decimals:
        return ()
    first = next(iter(decimals))
    text = f"{header!r} has identifiers such as {first}. Are the decimals part of them?"
    options = (WITHOUT_DECIMALS, AS_STORED)
    return (ImportQuestion(f"{header}: decimals", text, options, "", dict(decimals), header),)


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    signs = (c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")
    dashed = "".join("-" if unicodedata.category(c) == "Pd" else c for c in signs)
    return re.sub(r"(?<!\d)0+(?=\d)", "", dashed)


def lookalikes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return groups of names that look alike.

    They differ in case, blanks, dashes, leading zeros or code points only.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_folded(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
