"""Roles: which columns of a table name patients, slides, classes, places and parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.study.headers import PATIENT, SLIDE, plain
from napari_wsimil.study.questions import Question
from napari_wsimil.study.readings import MOST_CATEGORIES

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from napari_wsimil.study.questions import Asked
    from napari_wsimil.study.tables import Table

#: The answer that no column has a role.
NO_COLUMN = "none"

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
    """

    patient: str | None
    slide: str | None
    label: str | None
    own: tuple[str, ...]

    def why(self, header: str) -> str:
        """Return what a column is, empty if it may be a field."""
        named = {self.patient: "the patients", self.slide: "the slides", self.label: "the classes"}
        return named.get(header) or (OWN[header] if header in self.own else "")


def roles_of(table: Table, counts: Mapping[str, Counter[str]], asked: Asked) -> Roles:
    """Return the columns of a table that are no clinical fields, having asked which they are."""
    patient = asked.ask(_question("patient", "names the patients", table.columns, table, PATIENT))
    slides = (NO_COLUMN, *table.columns)
    slide = asked.ask(_question("slide", "names the slides", slides, table, SLIDE))
    few = (c for c in table.columns if 2 <= len(counts[c]) <= MOST_CATEGORIES + 4)
    label = asked.ask(_question("label", "has the classes", (NO_COLUMN, *few), table, ("label",)))
    return Roles(
        patient or None,
        None if slide == NO_COLUMN else slide,
        None if label == NO_COLUMN else label,
        tuple(header for header in OWN if header in table.columns),
    )


def _question(
    key: str, what: str, options: tuple[str, ...], table: Table, names: tuple[str, ...]
) -> Question:
    found = [c for name in names for c in options if c == name.replace(" ", "_")]
    found += [c for name in names for c in options if plain(c) == name]
    default = found[0] if found else NO_COLUMN if NO_COLUMN in options else ""
    text = f"Which of the {len(table.columns)} columns {what}?"
    return Question(key, text, tuple(options), default)
