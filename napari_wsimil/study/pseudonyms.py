"""Pseudonyms: names of a study's own for patients and slides, and the key to the outside ones.

The key is a file of its own, outside the study, readable for its owner alone: whoever has the
study without the key has no names.
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
    """Return where the key of the study with this identity is kept, among the user's data."""
    return user_data_path("napari-wsimil") / "keys" / f"{identity}.json"


@dataclass(frozen=True)
class Key:
    """Which pseudonyms stand for which identifiers; see `read_key`.

    Attributes
    ----------
    path
        The file.
    patients, slides
        Pseudonyms by identifier.
    """

    path: Path
    patients: Mapping[str, str] = field(default_factory=dict)
    slides: Mapping[str, str] = field(default_factory=dict)

    def identifiers(self) -> dict[str, str]:
        """Return identifiers by pseudonym, of patients and of slides."""
        both = {**self.patients, **self.slides}
        return {pseudonym: identifier for identifier, pseudonym in both.items()}

    def save(self) -> None:
        """Write the file, whole or not at all, for its owner alone.

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
        """Return the key without these pseudonyms."""
        gone = set(pseudonyms)
        kept = (
            {name: pseudonym for name, pseudonym in of.items() if pseudonym not in gone}
            for of in (self.patients, self.slides)
        )
        return Key(self.path, *kept)

    def disguised(
        self, patients: Sequence[Patient], known: Manifest, forgotten: Iterable[str] = ()
    ) -> tuple[tuple[Patient, ...], Key]:
        """Return patients under pseudonyms, and the key that has all of them, not saved yet.

        A slide that is in the study already, by the name of its file, is known again, and its
        patient by it; who is new becomes P0001 and so on. Save the key before adding them.

        Parameters
        ----------
        patients
            Under the identifiers of the outside.
        known
            The study as it is.
        forgotten
            Names of its tombstones, under which nobody comes back.
        """
        work = _Disguise(self, known, forgotten)
        return tuple(work.patient(patient) for patient in patients), work.key


def read_key(path: Path | str, study: Path | str) -> Key:
    """Return the key in a file, empty if there is none yet.

    Raises
    ------
    RecordError
        If the file would lie in the study's folder, or is no key.
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
            raise ValueError("it says that it is something else")
        return Key(path, dict(content["patients"]), dict(content["slides"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is no key of pseudonyms: {error}") from error


def refuse_inside(path: Path | str, study: Path | str) -> None:
    """Raise RecordError if a key would lie in the folder of the study that it opens."""
    if Path(path).resolve().is_relative_to(Path(study).resolve()):
        raise RecordError(f"{path}: a key is kept outside of the study, not in {study}")


class _Disguise:
    """Pseudonyms being given out."""

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
        """Return the study's patient to whom a slide of this one belongs already."""
        known = (self._owner.get(self._known(row) or "") for row in patient.slides)
        return next(filter(None, known), None)

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
