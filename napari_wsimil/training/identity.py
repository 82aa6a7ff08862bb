"""Keys of slides and patients by content, independent of names.

Folds and the order of training cases depend on these keys. The key of a slide is the
fingerprint of its image, which our features files contain. For a features file without
fingerprint the key is a hash of the file's bytes; without features it is computed from the
image. The key of a patient is a hash of the keys of the patient's slides. New names, another
order of rows and another encoder therefore change no fold; only features without fingerprint
do, if they are written again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.class_folder import SUFFIXES
from napari_wsimil.features.hdf5 import open_h5, read_attrs
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.training.bag_files import bag_of_slide, feature_path
from napari_wsimil.training.config import FoldRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
    from napari_wsimil.training.tasks import Task

#: Slides with their keys.
_Keyed: TypeAlias = "list[tuple[str, SlideRow]]"

#: Bytes read at the beginning, middle and end of a file; most files read of a folder.
_BLOCK, _FILES = 2**16, 16

#: Keys by path, modification time and size of the file.
_known: dict[tuple[Path, int, int], str] = {}

#: Files without a readable key.
_failed: set[tuple[Path, int, int]] = set()


def slide_key(slide: SlideRow, folder: Path | str | None) -> str:
    """Return the key of a slide's content, hex digits.

    Each file is read once.

    Raises
    ------
    RecordError
        If the slide has neither features nor an image.
    ValueError, OSError
        If its file cannot be read.
    """
    folder = None if folder is None else Path(folder)
    path, is_image = _source(slide, folder)
    state = _state(path)
    if state not in _known:
        _failed.add(state)
        _known[state] = _fingerprint(path) if is_image else _features_key(path)
        _failed.discard(state)
    return _known[state]


def _key_or_none(slide: SlideRow, folder: Path | None) -> str:
    """Return the key of a slide, empty for unreadable files."""
    with suppress(RecordError, ValueError, OSError):
        return slide_key(slide, folder)
    return ""


def encoder_of(manifest: Manifest, features: Path | str | None) -> str:
    """Return the encoder of the first slide's features.

    Raises the errors of `read_cases`.
    """
    features = None if features is None else Path(features)
    slide = next((slide for patient in manifest.patients for slide in patient.slides), None)
    if slide is None:
        raise RecordError(f"{manifest.path} has no slides")
    path = feature_path(slide, features)
    if not path.exists():
        raise RecordError(f"no features at {path}: extract them first")
    return bag_of_slide(slide, features).encoder


def unread_slides(manifest: Manifest, folder: Path | str | None) -> int:
    """Return the number of slides without a cached key.

    Each of these requires reading a file.
    """
    folder = None if folder is None else Path(folder)
    slides = (slide for patient in manifest.patients for slide in patient.slides)
    return sum(_must_be_read(slide, folder) for slide in slides)


def _must_be_read(slide: SlideRow, folder: Path | None) -> bool:
    with suppress(RecordError, OSError):  # fails later without reading the file
        state = _state(_source(slide, folder)[0])
        return state not in _known and state not in _failed
    return False


def _keys_of_persons(rows: Iterable[tuple[Patient, _Keyed]]) -> dict[str, str]:
    slides: dict[str, list[str]] = {}
    for patient, keyed in rows:
        slides.setdefault(patient.person, []).extend(key for key, _ in keyed)
    return {person: _hash(" ".join(sorted(keys)).encode()) for person, keys in slides.items()}


def arranged(
    manifest: Manifest, rule: FoldRule, task: Task, folder: Path | str | None
) -> tuple[Manifest, dict[str, str]]:
    """Return a cohort ordered by content keys.

    Returns the key of each person too. With fold rule "names" the cohort is unchanged and
    there are no keys. Patients without an outcome for the task come last. Slides with
    unreadable features have an empty key: training reads all features and reports these
    together, by name.
    """
    folder = None if folder is None else Path(folder)
    if rule is FoldRule.NAMES:
        return manifest, {}
    known = [patient for patient in manifest.patients if task.known_of(patient)]
    others = [patient for patient in manifest.patients if not task.known_of(patient)]
    rows = [(patient, _ordered(patient, folder)) for patient in known]
    keys = _keys_of_persons(rows)
    # equal keys mean equal files; only then the name decides
    rows.sort(key=lambda row: (keys[row[0].person], [key for key, _ in row[1]], row[0].name))
    ordered = (replace(patient, slides=tuple(s for _, s in keyed)) for patient, keyed in rows)
    return replace(manifest, patients=(*ordered, *others)), keys


def _ordered(patient: Patient, folder: Path | None) -> _Keyed:
    """Return slides of a patient with keys, sorted by key."""
    keyed = [(_key_or_none(slide, folder), slide) for slide in patient.slides]
    return sorted(keyed, key=lambda pair: (pair[0], pair[1].slide))


def _source(slide: SlideRow, folder: Path | None) -> tuple[Path, bool]:
    """Return the file that determines a slide's key.

    The second value is whether this file is the image.
    """
    image = slide.slide_path if slide.slide_path and slide.slide_path.exists() else None
    if slide.feature_path is None and folder is None and image is not None:
        return image, True
    path = feature_path(slide, folder)
    if path.exists():
        return path, False
    if image is None:
        raise RecordError(f"no features at {path}: extract them first")
    return image, True


def _state(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def _fingerprint(path: Path) -> str:
    with open_slide(path) as slide:
        return slide.fingerprint


def _features_key(path: Path) -> str:
    """Return the key of a features file.

    It is the fingerprint in the file, or else a hash of the file's bytes.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        sample = files[:: max(1, len(files) // _FILES)]
        return _hash(" ".join([str(len(files)), *map(_bytes_key, sample)]).encode())
    if path.suffix.lower() in SUFFIXES:
        with (
            suppress(ValueError, OSError),
            open_h5(path) as file,
        ):  # a damaged file is reported when it is read
            if fingerprint := read_attrs(file).get("slide"):
                return str(fingerprint)
    return _bytes_key(path)


def _bytes_key(path: Path) -> str:
    """Return a hash of a file's size and sampled bytes.

    The bytes are those at the beginning, middle and end.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in sorted({0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
