"""Answer work: what a model says of a study's patients becomes their predictions; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.explain.predict import PatientPrediction
from napari_wsimil.features.bag import features_digest
from napari_wsimil.progress import Progress, Work
from napari_wsimil.study.create_study import Unit, open_study
from napari_wsimil.study.predictions import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.training.evaluate import Assessment


@dataclass(frozen=True)
class Subject:
    """Who a model is asked about.

    Attributes
    ----------
    patient, slide
        Names in the study; the slide's is empty where it is not known.
    record
        SHA-256 of the patient's own record when the model was asked, in hex.
    """

    patient: str
    slide: str
    record: str


def subject_in(folder: Path | str, source: Path | str) -> Subject:
    """Return whose slide, or file of features, lies at a path, as a study knows it.

    Raises
    ------
    ValueError
        If it is nobody's.
    """
    folder = Path(folder)
    source = Path(source)
    with open_study(folder) as study:
        for patient in study.manifest().patients:
            for row in patient.slides:
                if row.lies_at(source):
                    record = "" if patient.record is None else patient.record.digest()
                    return Subject(patient.name, row.slide, record)
    raise ValueError(f"{folder} has no slide {source.stem!r}")


def records_in(folder: Path | str) -> dict[str, str]:
    """Return SHA-256 of each patient's record in a study, by name."""
    with open_study(folder) as study:
        patients = study.manifest().patients
    return {one.name: one.record.digest() for one in patients if one.record is not None}


def keep_answer(
    study: Study, found: Prediction | PatientPrediction, subject: Subject
) -> tuple[Answer, ...]:
    """Keep what a model says of a patient under their own record; return what was kept.

    What a study predicts is kept: of a patient, what is said of all slides together; or of
    each slide, what is said of it alone. Of anything else nothing is.

    Raises
    ------
    RecordError
        If the study has no such patient.
    StudyError
        If it cannot be written.
    """
    names = [row.slide for row in study.patient(subject.patient).slides]
    if isinstance(found, PatientPrediction):
        slides, asked = found.slides, names
    else:
        slides, asked = (found,), [subject.slide]
    if study.unit is Unit.SLIDE:
        pairs = zip(asked, slides, strict=True)
        answers = [_answer(one, subject, name, [one.bag]) for name, one in pairs if name in names]
    elif len(slides) == len(names):
        answers = [_answer(found, subject, "", [one.bag for one in slides])]
    else:
        answers = []
    study.predictions.keep(answers)
    return tuple(answers)


def keep_assessed(
    study: Study, card: Card, found: Assessment, records: Mapping[str, str]
) -> Work[None]:
    """Yield after every patient whose features were hashed; keep what a model says of all.

    Parameters
    ----------
    records
        SHA-256 of the patients' records when the model was asked, by name.

    Raises
    ------
    StudyError
        If the study cannot be written.
    """
    answers = []
    for done, case in enumerate(found.cases):
        yield Progress(done, len(found.cases), "hashing features")
        answers.append(
            Answer(
                patient=case.person,
                slide=case.patient if case.of else "",
                model=card.weights,
                features=features_digest(case.bags),
                record="" if card.record is None else records.get(case.person, ""),
                probabilities=found.patients[case.patient],
                risk=found.risks.get(case.patient),
            )
        )
    study.predictions.keep(answers)


def _answer(
    found: Prediction | PatientPrediction, subject: Subject, slide: str, bags: Sequence[Bag]
) -> Answer:
    card = found.card
    return Answer(
        patient=subject.patient,
        slide=slide,
        model=card.weights,
        features=features_digest(bags),
        record="" if card.record is None else subject.record,
        probabilities=dict(zip(card.outcomes, found.probabilities.tolist(), strict=True)),
        risk=found.scalars.get("risk") if card.survival is not None else None,
    )
