"""Cohorts as folders: one subfolder of feature files per class."""

from __future__ import annotations

from pathlib import Path

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow

#: Endings of files of features.
SUFFIXES = (".h5", ".hdf5")

_LAYOUT = "a folder of bags has a subfolder per class, and in each a features file per patient"


def read_folder(path: str | Path) -> Manifest:
    """Return the cohort in a folder of class subfolders.

    A patient is called as the file, without its ending, and has that one slide. Names that
    begin with a dot are passed over.

    Raises
    ------
    RecordError
        If the folder is laid out in another way, or two classes have a file of the same
        name: such a patient could be in training and test.
    OSError
        If the folder cannot be read.
    """
    path = Path(path).absolute()
    patients = [patient for folder in _visible(path) for patient in _class(path, folder)]
    if not patients:
        raise RecordError(f"{path} is empty: {_LAYOUT}")
    first: dict[str, str] = {}
    for patient in patients:
        label = patient.label or ""
        if patient.name in first:
            raise RecordError(
                f"{path}: {patient.name!r} is in class {first[patient.name]} and in {label}: "
                "a patient has one class, and each features file a name of its own"
            )
        first[patient.name] = label
    return Manifest(path, tuple(patients))


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _class(path: Path, folder: Path) -> list[Patient]:
    if not folder.is_dir():
        raise RecordError(f"{path} has the file {folder.name} beside its classes: {_LAYOUT}")
    files = _visible(folder)
    foreign = [file.name for file in files if file.suffix.lower() not in SUFFIXES]
    if foreign or not files:
        problem = (
            f"{foreign[0]}, which is no features file (.h5)" if foreign else "no features file"
        )
        raise RecordError(f"{path}: class {folder.name} has {problem}: {_LAYOUT}")
    return [
        Patient(file.stem, (SlideRow(file.stem, feature_path=file),), folder.name) for file in files
    ]
