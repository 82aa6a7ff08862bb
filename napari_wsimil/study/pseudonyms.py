"""Pseudonyms of patients and slides, and their key file.

The key is a separate file outside the study, readable only for its owner. A study without its
key therefore has no identifiers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow

_KIND = "napari-wsimil key of pseudonyms"


def default_key(identity: str) -> Path:
    """Return the default path of a study's key."""
    return user_data_path("napari-wsimil") / "keys" / f"{identity}.json"


@dataclass(frozen=True)
class Key:
    """Key from identifiers to pseudonyms; see `read_key`.

    Attributes
    ----------
    path
        Path of the file.
    patients, slides
        Pseudonyms by identifier.
    """

    path: Path
    patients: Mapping[str, str] = field(default_factory=dict)
    slides: Mapping[str, str] = field(default_factory=dict)

    def identifiers(self) -> dict[str, str]:
        """Return identifiers of patients and slides by pseudonym."""
        both = {**self.patients, **self.slides}
        return {pseudonym: identifier for identifier, pseudonym in both.items()}

    def save(self) -> None:
        """Write the file atomically, private to its owner.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"kind": _KIND, "patients": self.patients, "slides": self.slides}
        with atomic_write(self.path, private=True) as part:
            part.write_text(json.dumps(content, indent=1))

    def without(self, pseudonyms: Iterable[str]) -> Key:
        """Return the key without some pseudonyms."""
        removed = set(pseudonyms)
        remaining = (
            {name: pseudonym for name, pseudonym in of.items() if pseudonym not in removed}
            for of in (self.patients, self.slides)
        )
        return Key(self.path, *remaining)

    def disguised(
        self, patients: Sequence[Patient], known: Manifest, forgotten: Iterable[str] = ()
    ) -> tuple[tuple[Patient, ...], Key]:
        """Return patients with pseudonyms, and the extended, unsaved key.

        A slide with a file name known to the study keeps its pseudonym, and so does its patient;
        new patients are named P0001 and so on. Save the key before adding the patients.

        Parameters
        ----------
        patients
            Patients with identifiers.
        known
            Present patients of the study.
        forgotten
            Names of erased patients, which are not used again.
        """
        names = _Pseudonyms(self, known, forgotten)
        return tuple(names.patient(patient) for patient in patients), names.key


def read_key(path: Path | str, study: Path | str) -> Key:
    """Return the key in a file, empty if missing.

    Raises
    ------
    RecordError
        If the file is in the study's folder, or is no key.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    study = Path(study)
    refuse_inside(path, study)
    if not path.exists():
        return Key(path)
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != _KIND:
            raise ValueError(f"its kind is {content['kind']!r}")
        return Key(path, dict(content["patients"]), dict(content["slides"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is no key of pseudonyms: {error}") from error


def refuse_inside(path: Path | str, study: Path | str) -> None:
    """Raise RecordError if a key is inside its study's folder."""
    if Path(path).resolve().is_relative_to(Path(study).resolve()):
        raise RecordError(f"{path}: choose a path for the key outside of the study {study}.")


class _Pseudonyms:
    """Pseudonyms while they are assigned."""

    def __init__(self, key: Key, known: Manifest, forgotten: Iterable[str]) -> None:
        self.key = Key(key.path, dict(key.patients), dict(key.slides))
        self._patients, self._slides = dict(key.patients), dict(key.slides)
        rows = [(patient.name, row) for patient in known.patients for row in patient.slides]
        self._owner = {row.slide: name for name, row in rows}
        self._files = {row.slide_path.name: row.slide for _, row in rows if row.slide_path}
        names = (patient.name for patient in known.patients)
        self._used = {*names, *self._owner, *forgotten}

    def patient(self, patient: Patient) -> Patient:
        name = self._patients.get(patient.name) or self._by_slide(patient) or self._free("P{:04d}")
        self._patients[patient.name] = name
        slides = tuple(self._slide(row, name) for row in patient.slides)
        self.key = Key(self.key.path, self._patients, self._slides)
        return replace(patient, name=name, slides=slides)

    def _by_slide(self, patient: Patient) -> str | None:
        """Return the study's patient that has one of the slides."""
        owners = (self._owner.get(self._known(row) or "") for row in patient.slides)
        return next(filter(None, owners), None)

    def _slide(self, row: SlideRow, patient: str) -> SlideRow:
        name = self._known(row) or self._free(patient + "-{}")
        self._slides[row.slide] = name
        return replace(row, slide=name)

    def _known(self, row: SlideRow) -> str | None:
        if row.slide in self._slides:
            return self._slides[row.slide]
        return self._files.get(row.slide_path.name) if row.slide_path else None

    def _free(self, form: str) -> str:
        used = self._used | set(self._patients.values()) | set(self._slides.values())
        number = 1
        while form.format(number) in used:
            number += 1
        return form.format(number)
