"""Cohort: the patients of a manifest as cases with features on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.cohort.class_folder import read_folder
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table import read_table
from napari_wsimil.features.bag_facts import facts_of
from napari_wsimil.features.case import Case
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import open_confirmed
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.progress import Progress
from napari_wsimil.slides.reading import READER_VERSION
from napari_wsimil.slides.slide import SlideError, open_slide
from napari_wsimil.study.create_study import is_study, open_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.feature_check import report_features, slide_features
from napari_wsimil.training.options import reads_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
    from napari_wsimil.features.bag import Bag, ClinicalTokens
    from napari_wsimil.features.bag_facts import BagFacts
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.reading import Reading
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.training.feature_check import FeatureReport, SlideFeatures
    from napari_wsimil.training.tasks import Outcome, Task

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


def open_cohort(path: Path | str, schema: ClinicalSchema | Path | str | None = None) -> Manifest:
    """Return the cases of a manifest, a study or a folder of bags, as predictions are of them.

    In a study of slides each slide is a case, with the record of its patient, whom `of` names;
    where it has no label, split or outcome of its own it has the patient's. A patient without
    slides is no case then.

    Parameters
    ----------
    schema
        Of the records, or its file, as `read_cohort` takes it.

    Raises
    ------
    RecordError
        As `read_cohort`.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if path.is_dir() and not is_study(path):
        return read_folder(path)
    if isinstance(schema, Path | str):
        schema = read_schema(schema)
    if not is_study(path):
        return read_cohort(path, schema)
    cohort, unit = _of_study(path, schema)
    if unit is Unit.PATIENT:
        return cohort
    slides = (case for patient in cohort.patients for case in patient.slide_cases)
    return replace(cohort, patients=tuple(slides))


def as_read(config: RunConfig, cohort: Manifest) -> Manifest:
    """Return the cohort of a run; a study's without records where the model reads none."""
    needless = is_study(config.cohort) and not reads_records(config.model)
    return replace(cohort, schema=None) if needless else cohort


def cohort_of(config: RunConfig) -> Manifest:
    """Return the cohort of a run, read from disk."""
    return as_read(config, open_cohort(config.cohort, config.record_schema))


def read_cohort(path: Path | str, schema: ClinicalSchema | None) -> Manifest:
    """Return the patients of a manifest or a study, records with every input of a schema.

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
        return _of_study(path, schema)[0]
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


def _of_study(folder: Path, schema: ClinicalSchema | None) -> tuple[Manifest, Unit]:
    """Return the cohort of a study, its records as a schema reads them, and its unit."""
    with open_study(folder) as study:
        cohort, own, unit = study.manifest(), study.schema, study.unit
    if schema is None:
        return cohort, unit
    RecordFormat(clinical=schema, statistics={}).check(own)
    patients = tuple(_read_anew(one, own, schema) for one in cohort.patients)
    return replace(cohort, patients=patients, schema=schema), unit


def _read_anew(patient: Patient, own: ClinicalSchema, schema: ClinicalSchema) -> Patient:
    if patient.record is None:
        return patient
    try:
        return replace(patient, record=schema.parse(own.format(patient.record)))
    except RecordError as error:
        raise RecordError(f"patient {patient.name!r}, {error}") from error


def read_cases(
    patients: Sequence[Patient],
    outcome: Outcome,
    folder: Path | str | None,
    record: RecordFormat | None = None,
    closer: Closer | None = None,
    unread: dict[str, str] | None = None,
) -> Work[tuple[Case, ...]]:
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
        yield Progress(done, len(patients), "read features")
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


def survey_cohort(manifest: Manifest, folder: Path | str | None, task: Task) -> Work[FeatureReport]:
    """Yield after every patient; return problems and remarks on its features.

    The patients are those a task is learned of. Every file is read once and none is kept.
    """
    folder = None if folder is None else Path(folder)
    patients = [patient for patient in manifest.patients if task.known_of(patient)]
    rows: list[SlideFeatures] = []
    failed: list[str] = []
    for done, patient in enumerate(patients, 1):
        _, facts, errors = read_bags(BagFiles(patient.slides, folder), keep=False)
        failed += map(str, errors)
        if not errors:
            rows += slide_features(patient, facts)
        yield Progress(done, len(patients), "check features")
    report = report_features(rows)
    if not failed:
        return report
    listed = f"features that cannot be read ({len(failed)}): {'; '.join(failed)}"
    return replace(report, problem="; ".join(filter(None, (listed, report.problem))))


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
