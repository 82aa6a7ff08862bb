"""Cohort: the patients of a manifest as cases with features on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from napari_wsimil.bags.exchange import open_bag
from napari_wsimil.learning.cases import Case
from napari_wsimil.learning.folds import Fold, folds
from napari_wsimil.study.manifest import Split
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.study.manifest import Manifest, Patient, SlideRow

#: Cohorts whose features take more bytes than this are read anew whenever they are needed.
IN_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class BagFiles(Sequence["Bag"]):
    """The bags of one patient, each read from its file whenever it is asked for."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Bag: ...
    @overload
    def __getitem__(self, index: slice) -> BagFiles: ...
    def __getitem__(self, index: int | slice) -> Bag | BagFiles:
        if isinstance(index, slice):
            return BagFiles(self.paths[index])
        return open_bag(self.paths[index])


def feature_path(slide: SlideRow, folder: Path | None) -> Path:
    """Return where the features of a slide are: as the manifest says, else `<slide>.h5`.

    Raises
    ------
    RecordError
        If the manifest does not say and no folder is given.
    """
    if slide.feature_path is not None:
        return slide.feature_path
    if folder is None:
        raise RecordError(f"slide {slide.slide!r} has no feature_path: name a folder of features")
    return folder / f"{slide.slide}.h5"


def split_manifest(manifest: Manifest, count: int = 5, fold: int = 0, seed: int = 0) -> Fold:
    """Return who trains, chooses and tests, by patients' names.

    Where the manifest splits its patients that is taken; otherwise fold number `fold` of
    `count`, stratified by class. Patients without a label are left out.

    Raises
    ------
    RecordError
        If only part of the labeled patients have a split, or none trains.
    ValueError
        If there are too few patients for the folds, or no such fold.
    """
    labeled = [patient for patient in manifest.patients if patient.label is not None]
    splits = {patient.split for patient in labeled}
    if splits <= {None}:
        if not 0 <= fold < count:
            raise ValueError(f"fold {fold} is none of 0 to {count - 1}")
        return folds(targets_of(labeled, manifest.classes), count, seed=seed)[fold]
    if None in splits:
        lacking = next(patient.name for patient in labeled if patient.split is None)
        raise RecordError(f"{manifest.path}: patient {lacking!r} has a label and no split")
    train, validation, test = (
        tuple(p.name for p in labeled if p.split is split) for split in Split
    )
    if not train:
        raise RecordError(f"{manifest.path}: no labeled patient has the split 'train'")
    return Fold(train, validation, test)


def targets_of(patients: Sequence[Patient], classes: Sequence[str]) -> dict[str, int]:
    """Return the class of each patient, counted from 0 in the order of `classes`.

    Raises
    ------
    RecordError
        If a patient has no label or one that is no class.
    """
    for patient in patients:
        if patient.label not in classes:
            raise RecordError(
                f"patient {patient.name!r} has the label {patient.label!r}, "
                f"which is none of {', '.join(classes)}"
            )
    return {patient.name: classes.index(patient.label or "") for patient in patients}


def cases_of(
    patients: Sequence[Patient], classes: Sequence[str], folder: Path | None
) -> tuple[Case, ...]:
    """Return one case per patient, features read from their files.

    Parameters
    ----------
    patients
        Labeled patients.
    classes
        Names in the order of the logits.
    folder
        Where features are that the manifest does not place.

    Raises
    ------
    RecordError
        If a label is no class, or a slide has no features.
    ValueError
        If a feature file is not valid.
    """
    targets = targets_of(patients, classes)
    paths = {p.name: tuple(feature_path(s, folder) for s in p.slides) for p in patients}
    size = sum(_size(path) for of_patient in paths.values() for path in of_patient)
    return tuple(
        Case(name, _bags(BagFiles(of_patient), size), targets[name])
        for name, of_patient in paths.items()
    )


def _bags(files: BagFiles, size: int) -> Sequence[Bag]:
    return tuple(files) if size <= IN_MEMORY else files


def _size(path: Path) -> int:
    if not path.is_file():
        raise RecordError(f"there are no features at {path}: extract them first")
    return path.stat().st_size
