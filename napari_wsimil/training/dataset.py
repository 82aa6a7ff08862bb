"""Cohorts of patients as cases with features on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.cohort.class_folder import read_folder
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table import read_table
from napari_wsimil.features.bag_facts import facts_of
from napari_wsimil.features.case import Case
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.progress import Progress
from napari_wsimil.study.create_study import is_study, open_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.bag_files import BagFiles, Closer, feature_path, require_file
from napari_wsimil.training.feature_check import report_features, slide_features
from napari_wsimil.training.options import reads_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
    from napari_wsimil.features.bag import Bag, ClinicalTokens
    from napari_wsimil.features.bag_facts import BagFacts
    from napari_wsimil.progress import Work
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.training.feature_check import FeatureReport, SlideFeatures
    from napari_wsimil.training.tasks import Outcome, Task

#: Largest cohort in bytes that stays in memory; a larger one is read again for every use.
IN_MEMORY = 4 * 2**30


def open_cohort(path: Path | str, schema: ClinicalSchema | Path | str | None = None) -> Manifest:
    """Read the cases of a manifest, study or folder.

    A case is the unit of prediction: a patient, or a slide if the study's unit is the slide.
    A slide case has the record of its patient, and `of` is the patient's name; a label, split
    or outcome that the slide lacks is the patient's. Patients without slides are no cases then.

    Parameters
    ----------
    schema
        Schema of the records, or its file, see `read_cohort`.

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
    """Return a run's cohort without records unused by its model."""
    needless = is_study(config.cohort) and not reads_records(config.model)
    return replace(cohort, schema=None) if needless else cohort


def cohort_of(config: RunConfig) -> Manifest:
    """Return the cohort of a run, read from disk."""
    return as_read(config, open_cohort(config.cohort, config.record_schema))


def read_cohort(path: Path | str, schema: ClinicalSchema | None) -> Manifest:
    """Return the patients of a manifest or a study.

    If a schema is given, every record has all of its inputs.

    Parameters
    ----------
    path
        A manifest (.csv) or the folder of a study.
    schema
        Schema of the records. Without it, the records of a manifest are not read, and those
        of a study follow the study's own schema.

    Raises
    ------
    RecordError
        As `read_manifest`, and if the table has no column for an input, since the input would
        then count as missing in every patient. For a study: if its schema defines an input
        differently, or a value is invalid under `schema`.
    """
    path = Path(path)
    if is_study(path):
        return _of_study(path, schema)[0]
    manifest = read_manifest(path, schema)
    columns = set(read_table(path).columns) if schema else set()
    inputs = [f for group in schema.groups for f in schema.inputs_of(group)] if schema else []
    missing = [field.name for field in inputs if not columns & {field.name, *field.columns}]
    if missing:
        raise RecordError(
            f"{path} has no column for {', '.join(missing)}, required by the model: use the "
            "model's schema, or add the columns (they may be empty)"
        )
    return manifest


def _of_study(folder: Path, schema: ClinicalSchema | None) -> tuple[Manifest, Unit]:
    """Return a study's cohort, records under `schema`, and its unit."""
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
    """Read one case per patient; yield after every patient.

    Every file is read once, independent of its size, to report damaged ones before training.

    Parameters
    ----------
    patients
        Patients with a known outcome.
    outcome
        Classes or survival outcome of the model.
    folder
        Folder of features that have no path in the manifest.
    record
        Encoding of records as tokens, for models that read records.
    closer
        Adds sub-patch features to the bag of a slide, for models that need them.
    unread
        Filled with a reason per case with unreadable features; such a case is left out.

    Raises
    ------
    RecordError
        If a label is not one of the classes, or a slide has no features.
    ValueError
        If feature files are invalid; names all of them. Not raised if `unread` is given.
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
    """Return bags (only if `keep`), facts and errors of a patient."""
    bags: list[Bag] = []
    facts: list[BagFacts] = []
    errors: list[Exception] = []
    for number in range(len(files)):
        try:
            require_file(feature_path(files.slides[number], files.folder))
            bag = files[number]
        except (ValueError, OSError) as error:
            errors.append(error)
            continue
        facts.append(facts_of(bag))
        if keep:
            bags.append(bag)
    return tuple(bags), facts, errors


def survey_cohort(manifest: Manifest, folder: Path | str | None, task: Task) -> Work[FeatureReport]:
    """Check the features of a cohort; yield after every patient.

    Only patients with an outcome are checked. Files are read once; no bag stays in memory.
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
    listed = f"unreadable features ({len(failed)}): {'; '.join(failed)}"
    return replace(report, problem="; ".join(filter(None, (listed, report.problem))))


def refuse_unread(reasons: Sequence[str]) -> None:
    """Raise RecordError with all `reasons`, if there are any."""
    if len(reasons) == 1:
        raise RecordError(reasons[0])
    if reasons:
        listed = "; ".join(reasons)
        raise RecordError(f"the features of {len(reasons)} cases cannot be read: {listed}")


def _tokens(patient: Patient, record: RecordFormat | None) -> ClinicalTokens | None:
    return None if record is None else record.tokens(patient.record)


def _size(slide: SlideRow, folder: Path | None) -> int:
    """Return the bytes of a slide's features, 0 if absent."""
    if slide.feature_path is None and folder is None:
        return 0
    path = feature_path(slide, folder)
    files = path.rglob("*") if path.is_dir() else filter(Path.exists, (path,))
    return sum(file.stat().st_size for file in files)
