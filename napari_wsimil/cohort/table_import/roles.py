"""Roles: which columns of a table name patients, slides, classes, places and parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.table_import.cell_parsing import says
from napari_wsimil.cohort.table_import.headers import PATIENT, SLIDE, plain
from napari_wsimil.cohort.table_import.questions import Question
from napari_wsimil.cohort.table_import.type_inference import MOST_CATEGORIES

if TYPE_CHECKING:
    from collections import Counter
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
