"""Synthetic cohorts: patients with slides, records, outcomes and a manifest."""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_wsimil.files import atomic_write
from napari_wsimil.progress import Progress
from napari_wsimil.synthetic.clinical import GROUPS, VARIABLES, draw_record, leaning
from napari_wsimil.synthetic.recipe import (
    KINDS,
    SlideRecipe,
    check_range,
    check_shares,
    check_whole,
)
from napari_wsimil.synthetic.slide import write_phantom

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterator, Mapping

    from napari_wsimil.progress import Work

Task = Literal["three-class", "binary"]

_COLUMNS = ("patient_id", "slide_id", "slide_path", "label", "time", "event", "split")
_MONTHS = {"A": 18.0, "B": 60.0, "C": 120.0, "positive": 24.0, "negative": 120.0}


@dataclass(frozen=True)
class CohortRecipe:
    """Recipe of a synthetic cohort.

    The same recipe gives the same cohort.

    In task "three-class" the label is a kind of lesion: A, B or C. An unambiguous patient has
    only this kind, and an uninformative record. An ambiguous patient has kinds A and B, and
    the record decides: A if `leaning` is above 0, else B. In task "binary" the label is
    "positive" for patients with lesions of kind A, else "negative".

    Attributes
    ----------
    patients
        Number of patients.
    slides
        Lowest and highest number of slides of a patient.
    task
        "three-class" or "binary".
    seed
        Seed of all random draws.
    ambiguous
        Share of ambiguous patients, for "three-class".
    lesion_share
        Lowest and highest share of tissue for one kind of lesion.
    missing
        Share of patients without a group of variables, by group.
    prefix
        Start of the patients' names. Models identify training patients by name, so cohorts
        that are used together need different prefixes.
    validation, test
        Shares of patients; the rest is the training set.
    slide
        Common settings of all slides; its lesions and seed are ignored.
    """

    patients: int = 24
    slides: tuple[int, int] = (1, 2)
    task: Task = "three-class"
    seed: int = 0
    ambiguous: float = 0.4
    lesion_share: tuple[float, float] = (0.04, 0.12)
    missing: Mapping[str, float] = field(default_factory=dict)
    prefix: str = "P"
    validation: float = 0.2
    test: float = 0.2
    slide: SlideRecipe = field(default_factory=lambda: SlideRecipe(width=3072, height=3072))

    def __post_init__(self) -> None:
        check_whole("seed", self.seed)
        check_whole("patients", self.patients)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_range("patients", self.patients, 1, 100_000)
        if self.task not in get_args(Task):
            raise ValueError(f"task must be one of {', '.join(get_args(Task))}, not {self.task!r}")
        self._check_pair("slides", self.slides, 1, 100)
        for bound in self.slides:
            check_whole("slides", bound)
        self._check_pair("lesion_share", self.lesion_share, 0.001, 0.3)
        for name in ("ambiguous", "validation", "test"):
            check_range(name, getattr(self, name), 0, 1)
        check_range("validation + test", self.validation + self.test, 0, 1)
        check_shares("missing", self.missing, GROUPS)
        if not isinstance(self.prefix, str) or not self.prefix.isalpha():
            raise ValueError(f"prefix must be letters, not {self.prefix!r}")

    @staticmethod
    def _check_pair(name: str, pair: tuple[float, float], low: float, high: float) -> None:
        if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] > pair[1]:
            raise ValueError(f"{name} must be a lowest and a highest number, not {pair!r}")
        for value in pair:
            check_range(name, value, low, high)


@dataclass(frozen=True)
class _Patient:
    name: str
    label: str
    kinds: tuple[str, ...]
    record: dict[str, float]
    missing: frozenset[str]
    slides: tuple[SlideRecipe, ...]
    time: float
    event: int
    split: str


def load_recipe(path: str | os.PathLike[str]) -> CohortRecipe:
    """Read a cohort recipe from a TOML file.

    Its table `slide` contains the common settings of all slides.

    Raises
    ------
    ValueError
        If the file is not TOML, or has an unknown setting or an invalid value.
    """
    path = Path(path)
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        slide = SlideRecipe(**_check_settings(settings.pop("slide", {}), SlideRecipe))
        return CohortRecipe(slide=slide, **_check_settings(settings, CohortRecipe))
    except (ValueError, TypeError) as error:
        raise ValueError(f"recipe {path}: {error}") from error


def _check_settings(
    settings: dict[str, Any], kind: type[SlideRecipe | CohortRecipe]
) -> dict[str, Any]:
    """Check the names of settings; return lists as tuples."""
    names = {f.name for f in fields(kind)}
    for name in settings:
        if name not in names:
            raise ValueError(f"unknown setting {name!r}; known are {', '.join(sorted(names))}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def write_cohort(recipe: CohortRecipe, folder: str | os.PathLike[str]) -> Work[Path]:
    """Write slides, ground truth and `manifest.csv`; return its path.

    The manifest has one row per slide, with the path relative to the manifest. Empty cells are
    missing values. `time` is in months; `event` is 1 if the event occurred.
    """
    yield from write_slides(recipe, folder)
    return write_patients(recipe, folder)


def write_slides(
    recipe: CohortRecipe, folder: str | os.PathLike[str], only: Container[str] | None = None
) -> Work[None]:
    """Write slides of a cohort and their ground truth.

    Parameters
    ----------
    only
        Names of the slides to write; all if None.
    """
    folder = Path(folder)
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    wanted = [
        (folder / _slide_path(patient, number), slide)
        for patient in _patients(recipe)
        for number, slide in enumerate(patient.slides, 1)
        if only is None or _slide_name(patient, number) in only
    ]
    for done, (path, slide) in enumerate(wanted):
        for step in write_phantom(path, slide):
            yield Progress(done * step.total + step.done, len(wanted) * step.total)


def write_patients(recipe: CohortRecipe, folder: str | os.PathLike[str]) -> Path:
    """Write `manifest.csv` atomically; return its path.

    The slides need not exist.
    """
    manifest = Path(folder) / "manifest.csv"
    with atomic_write(manifest) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*_COLUMNS, *(v.name for v in VARIABLES)])
        writer.writeheader()
        writer.writerows(row for patient in _patients(recipe) for row in _rows(patient))
    return manifest


def _slide_name(patient: _Patient, number: int) -> str:
    return f"{patient.name}-S{number}"


def _slide_path(patient: _Patient, number: int) -> str:
    return f"slides/{_slide_name(patient, number)}.tiff"


def _rows(patient: _Patient) -> Iterator[dict[str, object]]:
    """Yield the manifest rows of a patient, one per slide."""
    present = [v for v in VARIABLES if v.group not in patient.missing]
    for number in range(1, len(patient.slides) + 1):
        yield {
            "patient_id": patient.name,
            "slide_id": _slide_name(patient, number),
            "slide_path": _slide_path(patient, number),
            "label": patient.label,
            "time": patient.time,
            "event": patient.event,
            "split": patient.split,
            **{v.name: f"{patient.record[v.name]:.{v.decimals}f}" for v in present},
        }


def _patients(recipe: CohortRecipe) -> Iterator[_Patient]:
    """Yield patients with balanced classes, ambiguity and splits."""
    rng = np.random.default_rng([recipe.seed, 3])
    splits = _splits(recipe, rng)
    ambiguous = rng.permutation(np.arange(recipe.patients) < recipe.ambiguous * recipe.patients)
    for number in range(recipe.patients):
        record = draw_record(rng)
        label, kinds = _diagnosis(recipe, number, bool(ambiguous[number]), record)
        time, event = _outcome(rng, label)
        yield _Patient(
            name=f"{recipe.prefix}{number + 1:03d}",
            label=label,
            kinds=kinds,
            record=record,
            missing=frozenset(g for g in GROUPS if rng.random() < recipe.missing.get(g, 0)),
            slides=tuple(_slides(recipe, rng, kinds)),
            time=time,
            event=event,
            split=splits[number],
        )


def _splits(recipe: CohortRecipe, rng: np.random.Generator) -> list[str]:
    test, validation = (round(s * recipe.patients) for s in (recipe.test, recipe.validation))
    names = ["test"] * test + ["validation"] * validation
    names += ["train"] * (recipe.patients - len(names))
    return [names[i] for i in rng.permutation(recipe.patients)]


def _diagnosis(
    recipe: CohortRecipe, number: int, ambiguous: bool, record: Mapping[str, float]
) -> tuple[str, tuple[str, ...]]:
    """Return a patient's label and kinds of lesion."""
    if recipe.task == "binary":
        return ("positive", ("A",)) if number % 2 else ("negative", ())
    if ambiguous:
        return ("A" if leaning(record) > 0 else "B"), ("A", "B")
    kind = KINDS[number % len(KINDS)]
    return kind, (kind,)


def _outcome(rng: np.random.Generator, label: str) -> tuple[float, int]:
    """Draw months to event or censoring, and the event indicator."""
    event, censoring = rng.exponential(_MONTHS[label]), rng.uniform(12, 96)
    return round(max(0.1, min(event, censoring)), 1), int(event <= censoring)


def _slides(
    recipe: CohortRecipe, rng: np.random.Generator, kinds: tuple[str, ...]
) -> Iterator[SlideRecipe]:
    fewest, most = recipe.slides
    for _ in range(rng.integers(fewest, most + 1)):
        lesions = {kind: float(rng.uniform(*recipe.lesion_share)) for kind in kinds}
        yield replace(recipe.slide, lesions=lesions, seed=int(rng.integers(2**31)))
