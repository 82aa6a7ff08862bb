"""Cohort: the patients of a manifest as cases with features on disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table import read_table
from napari_wsimil.features.bag_facts import facts_of
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import open_confirmed
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.slides.reading import READER_VERSION
from napari_wsimil.slides.slide import SlideError, open_slide
from napari_wsimil.study.create_study import is_study, open_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.cases import Case
from napari_wsimil.training.evaluation import Step
from napari_wsimil.training.gaps import check_training
from napari_wsimil.training.splits import Fold, folds
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
    from napari_wsimil.features.bag import Bag, ClinicalTokens
    from napari_wsimil.features.bag_facts import BagFacts
    from napari_wsimil.slides.reading import Reading
    from napari_wsimil.training.tasks import Outcome

#: Gives the bag of a slide its finer features.
Closer: TypeAlias = "Callable[[SlideRow, Bag], Bag]"

#: Cohorts whose features take more bytes than this are read anew whenever they are needed.
IN_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class BagFiles(Sequence["Bag"]):
    """The bags of one patient, each read from its file whenever it is asked for.

    Attributes
    ----------
    slides, folder
        What is read, see `feature_path`.
    clinical
        The patient's tokens, which every bag is given.
    closer
        Gives a slide's bag its finer features, for models that need them.
    """

    slides: tuple[SlideRow, ...]
    folder: Path | None = None
    clinical: ClinicalTokens | None = None
    closer: Closer | None = None

    def __len__(self) -> int:
        return len(self.slides)

    @overload
    def __getitem__(self, index: int) -> Bag: ...
    @overload
    def __getitem__(self, index: slice) -> BagFiles: ...
    def __getitem__(self, index: int | slice) -> Bag | BagFiles:
        if isinstance(index, slice):
            return replace(self, slides=self.slides[index])
        slide = self.slides[index]
        bag = replace(bag_of_slide(slide, self.folder), clinical=self.clinical)
        return bag if self.closer is None else self.closer(slide, bag)


def bag_of_slide(slide: SlideRow, folder: Path | str | None) -> Bag:
    """Return the features of a slide of a cohort, with what was confirmed of their file.

    Raises
    ------
    RecordError, ValueError
        As `feature_path` and `open_bag`.
    """
    folder = None if folder is None else Path(folder)
    said = Confirmed.parse(slide.feature_facts)
    if said.mpp is None and slide.mpp is not None:
        said = replace(said, mpp=slide.mpp)
    bag = open_confirmed(feature_path(slide, folder), said)
    unsure = bag.reading.changed(READER_VERSION) is None
    if not unsure or slide.slide_path is None:
        return bag
    return replace(bag, reading=_with_changes(bag.reading, slide.slide_path))


@lru_cache(maxsize=4096)
def _with_changes(reading: Reading, slide: Path) -> Reading:
    """Return a reading with the changes of its slide, or as it is where that does not open."""
    try:
        with open_slide(slide) as opened:
            return reading.of(opened.reading)
    except SlideError:
        return reading  # its caveat says that nobody knows


def feature_path(slide: SlideRow, folder: Path | str | None) -> Path:
    """Return where the features of a slide are: as the manifest says, else `<slide>.h5`.

    Raises
    ------
    RecordError
        If the manifest does not say and no folder is given.
    """
    folder = None if folder is None else Path(folder)
    if slide.feature_path is not None:
        return slide.feature_path
    if folder is None:
        raise RecordError(f"slide {slide.slide!r} has no feature_path: name a folder of features")
    return folder / f"{slide.slide}.h5"


def read_cohort(path: Path | str, schema: ClinicalSchema | None) -> Manifest:
    """Return a manifest, or that of a study, whose records hold every input of a schema.

    Parameters
    ----------
    path
        A manifest (.csv) or the folder of a study.
    schema
        If none is given the records are not read of a manifest, and as they are of a study.

    Raises
    ------
    RecordError
        As `read_manifest`, and if the table lacks the column of an input: that would pass
        for missing in every patient. Of a study, if its schema has an input otherwise, or a
        value that this one does not take.
    """
    path = Path(path)
    if is_study(path):
        return _of_study(path, schema)
    manifest = read_manifest(path, schema)
    columns = set(read_table(path).columns) if schema else set()
    inputs = [f for group in schema.groups for f in schema.inputs_of(group)] if schema else []
    lacking = [field.name for field in inputs if not columns & {field.name, *field.columns}]
    if lacking:
        raise RecordError(
            f"{path} has no column for {', '.join(lacking)}, which the model reads: these are "
            "records of another schema, or lack columns (they may be empty)"
        )
    return manifest


def as_predicted(path: Path | str, cohort: Manifest) -> Manifest:
    """Return a cohort whose cases are what predictions are of: in some studies each slide.

    A slide has the record of its patient, whom `of` names, and where it has no label, split or
    outcome of its own the patient's; a patient without slides is no case then.
    """
    path = Path(path)
    if not is_study(path):
        return cohort
    with open_study(path) as study:
        unit = study.unit
    if unit is Unit.PATIENT:
        return cohort
    slides = (case for patient in cohort.patients for case in patient.slide_cases)
    return replace(cohort, patients=tuple(slides))


def _of_study(folder: Path, schema: ClinicalSchema | None) -> Manifest:
    """Return the cohort of a study, its records as another schema reads them."""
    with open_study(folder) as study:
        found, own = study.manifest(), study.schema
    if schema is None:
        return found
    RecordFormat(clinical=schema, statistics={}).check(own)
    return replace(
        found, patients=tuple(_read_anew(one, own, schema) for one in found.patients), schema=schema
    )


def _read_anew(patient: Patient, own: ClinicalSchema, schema: ClinicalSchema) -> Patient:
    if patient.record is None:
        return patient
    try:
        return replace(patient, record=schema.parse(own.format(patient.record)))
    except RecordError as error:
        raise RecordError(f"patient {patient.name!r}, {error}") from error


def split_manifest(
    manifest: Manifest,
    count: int = 5,
    fold: int = 0,
    seed: int = 0,
    task: Task = Task.CLASSIFICATION,
    keys: Mapping[str, str] | None = None,
) -> Fold:
    """Return who trains, chooses and tests, by the names of patients, or of slides as cases.

    Where the manifest splits its patients that is taken; otherwise fold number `fold` of
    `count`, stratified by class or event. Patients of whom the manifest does not say what
    the task asks are left out. All slides of a patient are in the same part. Folds hang on
    `keys` of persons, as `arranged` returns them, else on their names.

    Raises
    ------
    RecordError
        If only part of these patients have a split, slides of one patient are in several, or
        none trains.
    ValueError
        If there are too few patients for the folds, no such fold, or the training patients
        are of one class or without any event.
    """
    _check_parts(manifest)
    found = _split(manifest, count, fold, seed, task, keys or {})
    check_training(found, manifest, task)
    return found


def _split(
    manifest: Manifest, count: int, fold: int, seed: int, task: Task, keys: Mapping[str, str]
) -> Fold:
    known = [patient for patient in manifest.patients if task.known_of(patient)]
    splits = {patient.split for patient in known}
    if splits <= {None}:
        if not 0 <= fold < count:
            raise ValueError(f"fold {fold} is none of 0 to {count - 1}")
        strata = _strata(known, task)
        # sorted as folds sorts its patients: by key, and by name where keys are equal
        called = {f"{keys.get(person, '')}\0{person}": person for person in strata}
        targets = {key: strata[person] for key, person in called.items()}
        found = folds(targets, count, seed=seed)[fold]
        parts = (found.train, found.validation, found.test)
        return _cases_of(Fold(*(tuple(called[key] for key in part) for part in parts)), known)
    if None in splits:
        lacking = next(patient.name for patient in known if patient.split is None)
        raise RecordError(f"{manifest.path}: patient {lacking!r} has a {task.column} and no split")
    train, validation, test = (tuple(p.name for p in known if p.split is split) for split in Split)
    if not train:
        raise RecordError(f"{manifest.path}: no patient with a {task.column} has the split 'train'")
    return Fold(train, validation, test)


def _cases_of(fold: Fold, patients: Sequence[Patient]) -> Fold:
    """Return a fold of persons as one of their cases."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for patient in patients:
        names[patient.person].append(patient.name)
    parts = (fold.train, fold.validation, fold.test)
    return Fold(*(tuple(name for person in part for name in names[person]) for part in parts))


def _check_parts(manifest: Manifest) -> None:
    """Raise RecordError if slides of one patient are in different parts of the cohort."""
    parts: defaultdict[str, set[Split]] = defaultdict(set)
    for patient in manifest.patients:
        parts[patient.person] |= {*patient.parts}
    if parted := [person for person, some in parts.items() if len(some) > 1]:
        raise RecordError(
            f"{manifest.path}: {len(parted)} of {len(parts)} patients have slides in more than "
            f"one split, such as {parted[0]!r}: a test would know these patients. Give all "
            "slides of a patient one split"
        )


def _strata(patients: Sequence[Patient], task: Task) -> dict[str, int]:
    """Return the stratum of each person: of several classes the one that fewest persons have."""
    labels: defaultdict[str, set[int]] = defaultdict(set)
    classes = sorted({patient.label or "" for patient in patients})
    for patient in patients:
        happened = int(bool(patient.event))
        is_class = task is Task.CLASSIFICATION
        labels[patient.person].add(classes.index(patient.label or "") if is_class else happened)
    if task is not Task.CLASSIFICATION:
        return {person: max(some) for person, some in labels.items()}
    counts = Counter(label for some in labels.values() for label in some)
    return {
        person: min(some, key=lambda label: (counts[label], label))
        for person, some in labels.items()
    }


def read_cases(
    patients: Sequence[Patient],
    outcome: Outcome,
    folder: Path | str | None,
    record: RecordFormat | None = None,
    closer: Closer | None = None,
    unread: dict[str, str] | None = None,
) -> Generator[Step, None, tuple[Case, ...]]:
    """Yield after every patient; return one case each, features read from their files.

    Every file is read once, whatever its size, so that a damaged one is named at once.

    Parameters
    ----------
    patients
        Those of whom the manifest says what is asked.
    outcome
        What a model is asked of them.
    folder
        Where features are that the manifest does not place.
    record
        How their records become tokens, for models that read them.
    closer
        Gives a slide's bag its finer features, for models that need them.
    unread
        Takes the reason for each case whose features cannot be read, which is left out.

    Raises
    ------
    RecordError
        If a label is no class, or a slide has no features.
    ValueError
        If feature files are not valid; names all of them. Not raised where `unread` is given.
    """
    folder = None if folder is None else Path(folder)
    targets = [outcome.target(patient) for patient in patients]
    small = sum(_size(s, folder) for p in patients for s in p.slides) <= IN_MEMORY
    failed: list[Exception] = []
    cases = []
    for done, (p, target) in enumerate(zip(patients, targets, strict=True), 1):
        files = BagFiles(p.slides, folder, _tokens(p, record), closer)
        bags, facts, errors = read_bags(files, small)
        if not errors:
            kept = bags if small else files
            cases.append(Case(p.name, kept, target, p.of, tuple(facts)))
        elif unread is not None:
            unread[p.name] = "; ".join(map(str, errors))
        failed += errors
        yield Step("read features", done, len(patients))
    if unread is None:
        refuse_unread(list(map(str, failed)))
    return tuple(cases)


def read_bags(
    files: BagFiles, keep: bool
) -> tuple[tuple[Bag, ...], list[BagFacts], list[Exception]]:
    """Return the bags of a patient if they are kept, their facts, and why some have none."""
    bags: list[Bag] = []
    facts: list[BagFacts] = []
    errors: list[Exception] = []
    for number in range(len(files)):
        try:
            _require(feature_path(files.slides[number], files.folder))
            bag = files[number]
        except (ValueError, OSError) as error:
            errors.append(error)
            continue
        facts.append(facts_of(bag))
        if keep:
            bags.append(bag)
    return tuple(bags), facts, errors


def refuse_unread(reasons: Sequence[str]) -> None:
    """Raise RecordError with all reasons why features cannot be read, if there are some."""
    if len(reasons) == 1:
        raise RecordError(reasons[0])
    if reasons:
        listed = "; ".join(reasons)
        raise RecordError(f"the features of {len(reasons)} cases cannot be read: {listed}")


def _tokens(patient: Patient, record: RecordFormat | None) -> ClinicalTokens | None:
    return None if record is None else record.tokens(patient.record)


def _require(path: Path) -> None:
    if not path.exists():
        raise RecordError(f"there are no features at {path}: extract them first")


def _size(slide: SlideRow, folder: Path | None) -> int:
    """Return the bytes of a slide's features on disk, 0 where there are none."""
    if slide.feature_path is None and folder is None:
        return 0
    path = feature_path(slide, folder)
    files = path.rglob("*") if path.is_dir() else filter(Path.exists, (path,))
    return sum(file.stat().st_size for file in files)
