"""Facts of a study, for the verbs that print them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_wsimil.clinical.field import Absent
from napari_wsimil.cohort.endpoint import NOT_STATED
from napari_wsimil.cohort.manifest import count_outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.cohort.endpoint import Endpoint
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
    from napari_wsimil.study.audit_log import Ledger
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.predictions import Answer, Review
    from napari_wsimil.study.training_runs import Run


def study_facts(study: Study) -> dict[str, Any]:
    """Return the content of a study, without identifying values."""
    manifest = study.manifest()
    slides = [slide for patient in manifest.patients for slide in patient.slides]
    images = [slide.slide_path for slide in slides if slide.slide_path is not None]
    data = [slide.feature_path for slide in slides if slide.feature_path is not None]
    by_slide = study.unit == "slide"
    cases = [c for p in manifest.patients for c in (p.slide_cases if by_slide else (p,))]
    labels = [case.label or "unlabeled" for case in cases]
    splits = [case.split or "none" for case in cases]
    return {
        "kind": "study",
        "name": study.name,
        "unit": study.unit.value,
        "schema": study.schema.name,
        "fields": len(study.schema.fields),
        "patients": len(manifest.patients),
        "slides": len(slides),
        "images": {"known": len(images), "there": sum(path.exists() for path in images)},
        "features": {"known": len(data), "there": sum(path.exists() for path in data)},
        "labels": _counted(labels),
        "splits": _counted(splits),
        **(_by_slide_facts(manifest) if by_slide else {}),
        "endpoint": endpoint_facts(manifest.endpoint),
        **count_outcomes(manifest.patients, by_slide=by_slide).to_dict(),
        "models_trained": len(study.runs.read()),
        "predictions": len(study.predictions.read()),
        "reviews": len(study.reviews.read()),
        **chain_facts(study.ledger),
    }


def backup_facts(folder: Path) -> dict[str, Any]:
    """Return the backups of a study by file name, newest first."""
    from napari_wsimil.study.backups import list_backups

    return {
        backup.path.name: {
            "when": f"{backup.when:%Y-%m-%d %H:%M:%S} UTC",
            "reason": backup.reason.value,
            "bytes": backup.path.stat().st_size,
        }
        for backup in list_backups(folder)
    }


def endpoint_facts(endpoint: Endpoint) -> dict[str, str]:
    """Return kind, unit and origin of survival times.

    Each is "not stated" if unknown.
    """
    return {part: text or NOT_STATED for part, text in asdict(endpoint).items()}


def patient_facts(study: Study, name: str) -> dict[str, Any]:
    """Return the facts of a patient, without identifying values."""
    patient, links = study.patient(name), study.links()
    facts: dict[str, Any] = {
        "patient": patient.name,
        "label": patient.label or "",
        "split": patient.split.value if patient.split else "",
        "time": patient.time,
        "event": patient.event,
        "no_outcome": patient.no_outcome,
        "record": texts_of(study.schema, patient.record) if patient.record else {},
        "slides": {},
        "reviews": [review_facts(review) for review in study.reviews.read(name)],
    }
    for slide, case in zip(patient.slides, patient.slide_cases, strict=True):
        link = links.get(slide.slide)
        encoder = {"encoder": link.encoder or None, "verified": link.verified} if link else {}
        own = _own_facts(slide, case) if study.unit == "slide" else {}
        facts["slides"][slide.slide] = own | encoder
    return facts


def _by_slide_facts(manifest: Manifest) -> dict[str, Any]:
    """Return the numbers of slide labels and of patient labels."""
    slides = [(slide, p) for p in manifest.patients for slide in p.slides]
    own = sum(slide.label is not None for slide, _ in slides)
    inherited = sum(slide.label is None and p.label is not None for slide, p in slides)
    return {"labels_of": {"slides": own, "patients, for slides without their own": inherited}}


def _own_facts(slide: SlideRow, case: Patient) -> dict[str, Any]:
    """Return label, split and outcome of a slide.

    A label inherited from the patient is marked.
    """
    inherited = slide.label is None and case.label is not None
    return {
        "label": f"{case.label} (of the patient)" if inherited else case.label or "",
        "split": case.split.value if case.split else "",
        "time": case.time,
        "event": case.event,
        "no_outcome": case.no_outcome,
    }


def naming_facts(study: Study, name: str | None, key: Path | None) -> dict[str, Any]:
    """Return identifying values of a study, or of a patient.

    For a patient these are the outside name and the files, for a study the roots.
    """
    from napari_wsimil.study.pseudonyms import default_key, read_key

    if name is None:
        return {"roots": study.roots}
    names = read_key(key or default_key(study.identity), study.folder).identifiers()
    slides = study.patient(name).slides
    return {
        "identifier": names.get(name),
        "slide_identifiers": {row.slide: names.get(row.slide) for row in slides},
        "images": {row.slide: row.slide_path for row in slides},
        "features": {row.slide: row.feature_path for row in slides},
    }


def run_facts(study: Study) -> dict[str, Any]:
    """Return the models trained on a study, by number.

    Their folders are omitted.
    """
    return {str(number): _run_facts(run) for number, run in enumerate(study.runs.read(), 1)}


def _run_facts(run: Run) -> dict[str, Any]:
    return {
        "trained": f"{run.when:%Y-%m-%d %H:%M} UTC",
        "who": run.who,
        "method": run.method,
        "file": run.name,
        "sha256": run.model,
        "patients": run.patients,
        "figures": dict(run.figures),
        **({"reasons": dict(run.reasons)} if run.reasons else {}),
    }


def run_words(run: Run) -> str:
    """Return a short description of a run's model."""
    return f"{run.name} ({run.method} of {run.when:%Y-%m-%d}, SHA-256 {run.model})"


def prediction_facts(study: Study, patient: str | None) -> dict[str, Any]:
    """Return the latest predictions by number, oldest first.

    They are of one patient, or of all.
    """
    return {
        str(n): _prediction_facts(one) for n, one in enumerate(study.predictions.read(patient), 1)
    }


def _prediction_facts(prediction: Answer) -> dict[str, Any]:
    slide = {"slide": prediction.slide} if prediction.slide else {}
    risk = {} if prediction.risk is None else {"risk": prediction.risk}
    return {
        "patient": prediction.patient,
        **slide,
        "said": prediction.words,
        "probabilities": dict(prediction.probabilities),
        **risk,
        "when": f"{prediction.when:%Y-%m-%d %H:%M} UTC",
        "model": prediction.model,
        "features": prediction.features,
        "record": prediction.record,
    }


def review_facts(review: Review) -> dict[str, Any]:
    """Return the facts of a review of a prediction."""
    slide = {"slide": review.slide} if review.slide else {}
    return {
        "patient": review.patient,
        **slide,
        "said": review.said,
        "verdict": review.verdict.value,
        "why": review.why,
        "who": review.who,
        "when": f"{review.when:%Y-%m-%d %H:%M} UTC",
        "model": review.model,
    }


def texts_of(schema: ClinicalSchema, record: Record) -> dict[str, str]:
    """Return a record as text by field, with "missing"."""
    return {name: text or Absent.MISSING.value for name, text in schema.format(record).items()}


def _counted(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}


def chain_facts(ledger: Ledger) -> dict[str, str]:
    """Return the state of the audit log's chain."""
    return {"ledger": ledger.check() or "its chain holds"}
