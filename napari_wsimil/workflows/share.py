"""Share: copy a study without names, and list the data that the copy does not have."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.features.hdf5 import open_h5, read_attrs
from napari_wsimil.features.seal import SEAL
from napari_wsimil.features.store import save_bag
from napari_wsimil.files import atomic_write
from napari_wsimil.progress import Progress
from napari_wsimil.study.audit_entry import Act
from napari_wsimil.study.backups import BACKUPS
from napari_wsimil.study.create_study import DATABASE, create_study
from napari_wsimil.study.deidentify import disguised, with_features
from napari_wsimil.study.file_links import Link
from napari_wsimil.study.pseudonyms import Key, default_key, refuse_inside
from napari_wsimil.training.bag_files import bag_of_slide, feature_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.progress import Work
    from napari_wsimil.study.create_study import Study, Unit
    from napari_wsimil.study.deidentify import Disguised

#: Who stands in the ledger of a copy.
WHO = "whoever shared it"


@dataclass(frozen=True)
class Shared:
    """A copy that was made.

    Attributes
    ----------
    folder, key
        The copy, and the file outside of it that says which old name each new one stands for.
    patients, features
        How many it has.
    removed
        A sentence for each kind of thing that is not in it, or not as it was.
    """

    folder: Path
    key: Path
    patients: int
    features: int
    removed: tuple[str, ...]


def share(study: Study, out: Path | str, key: Path | str | None = None) -> Work[Shared]:
    """Yield after every file of features; return the scrubbed copy of a study.

    The copy has new pseudonyms in a random order, days in place of dates, features written
    anew, and a ledger of its own. Slides, models, maps, exports and backups are not in it, nor
    runs, predictions and reviews. It takes its name when it is whole, and the study's ledger keeps
    where it went.

    Parameters
    ----------
    study
        What is shared.
    out
        The folder of the copy, which must not be there.
    key
        The file for the key, outside of both; among the user's data if None.

    Raises
    ------
    RecordError
        If the copy is there already, or the key would lie in it.
    StudyError
        If the study cannot be read, or its ledger not written: a copy that cannot be noted
        is not made.
    ValueError
        If features cannot be read.
    """
    out = Path(out)
    key = None if key is None else Path(key)
    out = Path(os.path.abspath(out))
    _check(study, out, key)
    manifest = study.manifest()
    given = disguised(manifest)
    with atomic_write(out) as part:
        work = _copied(part, out.name, study.unit, given, manifest)
        identity, attributes, count = yield from work
        kept = Key(key or default_key(identity), given.patients_key, given.slides_key)
        kept.save()
        shutil.rmtree(part / BACKUPS)
    study.ledger.left(Act.SHARED, out / DATABASE, identifying=False)
    removed = _removed(study, given, manifest, attributes)
    return Shared(out, kept.path, len(given.patients), count, removed)


def _check(study: Study, out: Path, key: Path | None) -> None:
    if study.read_only:
        raise RecordError(
            f"what leaves a study is noted in it, and it cannot be: {study.read_only}"
        )
    if out.exists():
        raise RecordError(f"{out} is there already: name a folder that is not")
    if out.is_relative_to(study.folder):
        raise RecordError(f"{out} is in the study itself: name a folder outside")
    if key is not None:
        refuse_inside(key, out)
        refuse_inside(key, study.folder)


def _copied(
    folder: Path, name: str, unit: Unit, given: Disguised, manifest: Manifest
) -> Work[tuple[str, set[str], int]]:
    """Return identity of the copy, attributes left out of features, and how many files it has."""
    attributes: set[str] = set()
    files = with_features(manifest, given.slides_key)
    with create_study(folder, given.schema, name=name, unit=unit, who=WHO) as copy:
        why, endpoint = "a scrubbed copy of another study", manifest.endpoint.without_header()
        copy.add(given.patients, why, endpoint=endpoint)
        links = []
        for done, (slide, row) in enumerate(files.items(), 1):
            target = folder / "features" / f"{slide}.h5"
            save_scrubbed(target, bag_of_slide(row, None), slide)
            attributes |= set(left_out(feature_path(row, None), target))
            links.append(Link(slide, target))
            yield Progress(done, len(files), "features")
        copy.link(links, "features written anew")
        return copy.identity, attributes, len(files)


def _removed(
    study: Study, given: Disguised, manifest: Manifest, attributes: set[str]
) -> tuple[str, ...]:
    rows = [row for patient in manifest.patients for row in patient.slides]
    images = sum(row.slide_path is not None for row in rows)
    files, runs = _counts(study.folder), study.runs.read()
    answers, reviews = study.predictions.read(), study.reviews.read()
    said: Mapping[str, object] = {
        f"names of {len(manifest.patients)} patients and {len(rows)} slides: new ones": rows,
        f"dates ({', '.join(given.dates)}): days since each patient's first": given.dates,
        f"{images} slides: their headers and labels can name patients": images,
        f"attributes of features ({', '.join(sorted(attributes))})": attributes,
        f"{len(study.ledger.entries())} entries of the ledger: the copy begins its own": True,
        "paths outside the study, the study's name, and who worked on it": True,
        f"models, maps and exports ({files} files)": files,
        f"{len(runs)} runs: which models were trained, by whom, on which patients": runs,
        f"{len(answers)} predictions: what models said of the patients": answers,
        f"{len(reviews)} reviews: what people hold of that": reviews,
    }
    return tuple(sentence for sentence, there in said.items() if there)


def _counts(folder: Path) -> int:
    tops = (folder / name for name in ("models", "maps", "exports"))
    return sum(path.is_file() for top in tops for path in top.rglob("*"))


def save_scrubbed(target: Path | str, bag: Bag, name: str) -> None:
    """Write features, places and encoder of a bag to an HDF5 file that calls the slide `name`.

    The slide's fingerprint, which would lead to its file, is not written.
    """
    target = Path(target)
    if bag.grid is not None:
        save_bag(target, replace(bag, slide=""), name)
        return
    with h5py.File(target, "w") as file:
        file.create_dataset("features", data=bag.features.numpy())
        file["features"].attrs.update(encoder=bag.encoder, name=name)


def left_out(source: Path | str, target: Path | str) -> tuple[str, ...]:
    """Return the names of attributes of an HDF5 file that another has not, or not as they were."""
    source = Path(source)
    target = Path(target)
    gone = _attributes(source) - _attributes(target)
    return tuple(sorted({attribute for attribute, _ in gone}))


def _attributes(path: Path) -> set[tuple[str, str]]:
    """Return names and values of the attributes of an HDF5 file, of another file none."""
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return set()
    with open_h5(path) as file:
        items = (file, *file.values())
        pairs = (pair for item in items for pair in read_attrs(item).items())
        return {(name, str(value)) for name, value in pairs if name != SEAL}
