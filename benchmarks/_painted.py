"""A cohort of painted slides and records, encoded, as cases with the truth of every patch."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.schema import Record, read_schema
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.features.case import Case
from napari_wsimil.features.store import is_finished, load_bag
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.progress import finish
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.synthetic.clinical import DECIDING, VARIABLES
from napari_wsimil.synthetic.cohort import load_recipe, write_patients, write_slides
from napari_wsimil.synthetic.ground_truth import load_truth, patch_truth
from napari_wsimil.synthetic.recipe import KINDS
from napari_wsimil.training.splits import Fold
from napari_wsimil.workflows.demo import RESOURCES, SCHEMA
from napari_wsimil.workflows.pipeline import PatchSettings, encode_slide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.features.bag import Bag

RECIPE = RESOURCES / "demo_training_records.toml"
CLEAR = 2.0  # how far a pointed record points along the deciding weights
LESION = 0.5  # share of a patch that is lesion from which it counts as that
_BY_NAME = {variable.name: variable for variable in VARIABLES}
_NORM = float(np.linalg.norm(list(DECIDING.values())))


@dataclass(frozen=True, eq=False)
class Painted:
    """A patient with one painted slide; see `planted_records.Recorded`."""

    case: Case
    lesions: NDArray[np.int64]
    ambiguous: bool
    record: Record
    format: RecordFormat | None = None

    @property
    def bag(self) -> Bag:
        """Return its only bag."""
        return self.case.bags[0]

    @property
    def editable(self) -> bool:
        """Return whether the record has the group that decides."""
        return not isinstance(self.record["ldh"], Absent)

    def tokenized(self, known: RecordFormat) -> Painted:
        """Return the patient with the record's tokens."""
        bag = replace(self.bag, clinical=known.tokens(self.record))
        return replace(self, case=replace(self.case, bags=(bag,)), format=known)

    def pointed(self, lesion: int) -> Bag:
        """Return the bag with its record moved until it points clearly to lesion 0 or 1."""
        assert self.format is not None
        weights = {name: w / _NORM for name, w in DECIDING.items()}
        scores = {name: _BY_NAME[name].score(float(self.record[name])) for name in weights}
        step = (CLEAR if lesion == 0 else -CLEAR) - sum(w * scores[n] for n, w in weights.items())
        moved = {n: _BY_NAME[n].value(scores[n] + w * step) for n, w in weights.items()}
        record = Record({**self.record.values, **moved})
        return replace(self.bag, clinical=self.format.tokens(record))


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients, whose records are not tokens yet, and the split of the cohort's manifest."""

    cases: tuple[Painted, ...]
    split: Fold

    def tokenized(self, train: Sequence[str]) -> tuple[str, tuple[Painted, ...]]:
        """Return the widths of the groups and the cases, by the statistics of some patients."""
        names = set(train)
        records = [one.record for one in self.cases if one.case.patient in names]
        known = RecordFormat.fit(read_schema(SCHEMA), records)
        return known.groups, tuple(one.tokenized(known) for one in self.cases)


@lru_cache(maxsize=1)
def painted(quick: bool) -> Cohort:
    """Return the cohort, painted and encoded on the first call and kept among temporary files."""
    recipe = load_recipe(RECIPE)
    if quick:
        recipe = replace(recipe, patients=40)
    name = f"napari-wsimil-painted-{recipe.patients}-{recipe.seed}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(exist_ok=True)
    with _alone(folder):
        manifest = write_patients(recipe, folder)
        there = {path.stem for path in folder.glob("features/*.h5") if is_finished(path)}
        names = {slide.slide for p in read_manifest(manifest).patients for slide in p.slides}
        finish(write_slides(recipe, folder, names - there))
        for name in sorted(names - there):
            _encode(folder, name)
    patients = read_manifest(manifest, read_schema(SCHEMA)).patients
    parts = (tuple(p.name for p in patients if p.split is split) for split in Split)
    return Cohort(tuple(_case(folder, one) for one in patients), Fold(*parts))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let another worker wait until this one has made the cohort."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _encode(folder: Path, name: str) -> None:
    path = folder / "slides" / f"{name}.tiff"
    target = folder / "features" / f"{name}.h5"
    with open_slide(path) as slide:
        finish(encode_slide(slide, PatchSettings("stain-texture"), target=target))
    os.remove(path)  # the features and the truth are all that is needed


def _case(folder: Path, patient: Patient) -> Painted:
    assert patient.label is not None
    assert patient.record is not None
    (slide,) = patient.slides
    bag = load_bag(folder / "features" / f"{slide.slide}.h5")
    truth = load_truth(folder / "slides" / f"{slide.slide}.truth.geojson")
    assert bag.grid is not None
    covered = [
        patch_truth(truth, bag.grid, kind) if kind in truth.lesions else np.zeros(len(bag))
        for kind in KINDS
    ]
    shares = np.stack(covered)  # (3, N)
    lesions = np.where(shares.max(axis=0) > LESION, shares.argmax(axis=0), -1)
    case = Case(patient.name, (bag,), KINDS.index(patient.label))
    return Painted(case, lesions, len(truth.lesions) > 1, patient.record)
