"""Patient: predict a patient from all slides, and open one of them with its features."""

from __future__ import annotations

import html
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.explain.patient import driver, slide_shares
from napari_wsimil.explain.predict import predict_patient
from napari_wsimil.progress import Progress
from napari_wsimil.study.create_study import open_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.bag_files import BagFiles
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.training.subpatch_provider import closer_for
from napari_wsimil.workflows.load_features import blank_job, features_job
from napari_wsimil.workflows.progress import sentence
from napari_wsimil.workflows.slides import open_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.cohort.manifest import Patient, SlideRow
    from napari_wsimil.explain.predict import PatientPrediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.workflows.load_features import Laid

#: The files of a slide, and what to do about one that cannot be read.
_IMAGE = ("image", "Put a whole copy of the file where the study says, and open the case again.")
_FEATURES = ("features file", "Make or link its features again, and open the case again.")


@dataclass(frozen=True, eq=False)
class AskedPatient:
    """A patient with the prediction for all slides together.

    Attributes
    ----------
    patient
        With the slides of the prediction alone.
    prediction
        Of the patient.
    failed
        Reasons by slide, of slides that could not be read.
    """

    patient: Patient
    prediction: PatientPrediction
    failed: Mapping[str, str] = field(default_factory=dict)


def patient_job(
    patient: Patient,
    model: LoadedModel,
    record: Record | None,
    features: Path | str | None = None,
    weights: Path | str | None = None,
    *,
    skip_unreadable: bool = False,
) -> Work[AskedPatient]:
    """Predict a patient under a record, with the features of all slides in files.

    Parameters
    ----------
    features, weights
        Folder of features and encoder weights, for slides whose rows do not name theirs.
    skip_unreadable
        Leave out slides that cannot be read, unless none can.

    Raises
    ------
    ValueError
        If a slide has no features, or features of another encoder.
    """
    features = None if features is None else Path(features)
    weights = None if weights is None else Path(weights)
    files = BagFiles(patient.slides, features, closer=closer_for(type(model.model), weights))
    bags: list[Bag] = []
    failed: dict[str, str] = {}
    for done, row in enumerate(patient.slides):
        yield Progress(done, len(files), "reading features")
        try:
            bags.append(files[done])
        except (ValueError, OSError) as error:
            if not skip_unreadable:
                raise
            failed[row.slide] = sentence(error)
    if failed and not bags:
        raise ValueError("; ".join(failed.values()))
    yield Progress(len(files), len(files), "asking the model of all slides")
    prediction = predict_patient(model.model, model.card, patient.name, bags, record)
    kept = tuple(row for row in patient.slides if row.slide not in failed)
    return AskedPatient(replace(patient, slides=kept), prediction, failed)


def patients_with_slides(cohort: Path | str, card: Card) -> tuple[list[Patient], Unit]:
    """Return the patients of a manifest or study with slides, and the unit of predictions.

    Raises
    ------
    ValueError
        If the records are not those that the model reads.
    """
    cohort = Path(cohort)
    if cohort.is_dir():
        with open_study(cohort) as study:
            if card.record is not None:
                card.record.check(study.schema)
            patients, unit = study.manifest().patients, study.unit
    else:
        schema = card.record.clinical if card.record else None
        patients, unit = read_cohort(cohort, schema).patients, Unit.PATIENT
    return [patient for patient in patients if patient.slides], unit


def patient_named(cohort: Path | str, name: str, card: Card) -> tuple[Patient, Unit]:
    """Return a patient of a manifest or study, and the unit of predictions.

    Raises
    ------
    ValueError
        As `patients_with_slides`, and if there is no such patient.
    """
    cohort = Path(cohort)
    if cohort.is_dir():
        with open_study(cohort) as study:
            if card.record is not None:
                card.record.check(study.schema)
            return study.patient(name), study.unit
    manifest = read_cohort(cohort, card.record.clinical if card.record else None)
    for patient in manifest.patients:
        if patient.name == name:
            return patient, Unit.PATIENT
    raise ValueError(f"{cohort} has no patient {name!r}")


def row_job(row: SlideRow) -> Work[tuple[Slide, Laid | None]]:
    """Return a slide of a patient, and the features laid on it if there are some.

    Without an image the features lie on a blank slide.

    Raises
    ------
    ValueError
        If there is neither, one cannot be read, or the features are not of the slide. It says
        which of the files, what is wrong and what to do; files are called as the slide is in
        the study, since their own names can name a patient.
    """
    if row.slide_path is None:
        if row.feature_path is None:
            raise ValueError(f"slide {row.slide!r} has neither an image nor features")
        with _told(row, _FEATURES):
            alone = yield from blank_job(row.feature_path, row.feature_facts)
        return alone.slide, alone
    with _told(row, _IMAGE):
        slide = yield from open_job(row.slide_path, row.mpp)
    with ExitStack() as undo, _told(row, _FEATURES):
        undo.callback(slide.close)
        laid = None
        if row.feature_path is not None:
            laid = yield from features_job(row.feature_path, slide, row.feature_facts)
        undo.pop_all()
    return slide, laid


@contextmanager
def _told(row: SlideRow, file: tuple[str, str]) -> Iterator[None]:
    """Say of what goes wrong of which file it is, and what to do, without the file's name."""
    kind, advice = file
    try:
        yield
    except (ValueError, OSError) as error:
        words = row.unnamed(str(error)).rstrip(".")  # the chain would tell the names
        raise ValueError(f"The {kind} of {row.slide} cannot be shown: {words}. {advice}") from None


def pooled_words(asked: AskedPatient, unit: Unit) -> str:
    """Return what the slides say together, and which drove it, in two sentences."""
    found = asked.prediction
    if unit is Unit.SLIDE:
        return "The study's predictions are of single slides: nothing is pooled."
    chances = zip(found.card.outcomes, found.probabilities.tolist(), strict=True)
    told = ", ".join(f"{html.escape(name)} {chance:.1%}" for name, chance in chances)
    most = driver(found)
    if most is None:
        return f"<b>Patient</b>: {told}. No one slide drives this."
    slide = html.escape(asked.patient.slides[most].slide)
    return f"<b>Patient</b>: {told}. Driven most by <b>{slide}</b>."


def slide_rows(asked: AskedPatient, unit: Unit) -> list[tuple[str, str, str]]:
    """Return name, answer alone and what it changes of each slide, as words for a table.

    Both are of the class that is most probable for the patient; for survival of the first
    time.
    """
    found = asked.prediction
    top = 0 if found.card.survival is not None else int(found.probabilities.argmax())
    rows = []
    for row, share in zip(asked.patient.slides, slide_shares(found), strict=True):
        shown = int(share.own.argmax()) if unit is Unit.SLIDE else top
        alone = f"{found.card.outcomes[shown]} {share.own[shown]:.1%}"
        pooled = share.change is not None and unit is Unit.PATIENT
        change = f"{100 * share.change[top]:+.1f} points" if pooled else ""  # type: ignore[index]
        rows.append((row.slide, alone, change))
    return rows
