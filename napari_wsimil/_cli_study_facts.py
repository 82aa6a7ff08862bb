"""What the verbs of a study say of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_wsimil.study.endpoint import NOT_STATED, Endpoint
from napari_wsimil.study.field import Absent
from napari_wsimil.study.time_to_event import outcome_of_patient, tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_wsimil.study.ledger import Ledger
    from napari_wsimil.study.predictions import Answer
    from napari_wsimil.study.reviews import Review
    from napari_wsimil.study.runs import Run
    from napari_wsimil.study.schema import ClinicalSchema, Record
    from napari_wsimil.study.study import Study


def study_facts(study: Study) -> dict[str, Any]:
    """Return what is in a study, without what can name patients."""
    manifest = study.manifest()
    slides = [slide for patient in manifest.patients for slide in patient.slides]
    images = [slide.slide_path for slide in slides if slide.slide_path is not None]
    data = [slide.feature_path for slide in slides if slide.feature_path is not None]
    labels = [p.label or "unlabeled" for p in manifest.patients]
    splits = [p.split or "none" for p in manifest.patients]
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
        "endpoint": endpoint_facts(manifest.endpoint),
        **tally(map(outcome_of_patient, manifest.patients)).to_dict(),
        "models_trained": len(study.runs.read()),
        "predictions": len(study.predictions.read()),
        "reviews": len(study.reviews.read()),
        "journal": study.journal,
        **chain_facts(study.ledger),
    }


def endpoint_facts(endpoint: Endpoint | None) -> dict[str, str]:
    """Return name, unit and origin of a study's times; "not stated" where nobody said."""
    known = asdict(endpoint or Endpoint())
    return {part: text or NOT_STATED for part, text in known.items()}


def patient_facts(study: Study, name: str) -> dict[str, Any]:
    """Return what is known of a patient, without what can name them."""
    patient, links = study.patient(name), study.links()
    known: dict[str, Any] = {
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
    for slide in patient.slides:
        link = links.get(slide.slide)
        said: dict[str, Any] = {"encoder": link.encoder, "verified": link.verified} if link else {}
        known["slides"][slide.slide] = said
    return known


def naming_facts(study: Study, name: str | None, key: Path | None) -> dict[str, Any]:
    """Return what can name patients: of one, the outside name and files; else the roots."""
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
    """Return the models that were trained on a study, by their number, without their folders."""
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
    }


def run_words(run: Run) -> str:
    """Return which model a run made, in a few words."""
    return f"{run.name} ({run.method} of {run.when:%Y-%m-%d}, SHA-256 {run.model})"


def prediction_facts(study: Study, patient: str | None) -> dict[str, Any]:
    """Return what models said last of a patient, or of all, by number, oldest first."""
    return {str(n): _answer_facts(one) for n, one in enumerate(study.predictions.read(patient), 1)}


def _answer_facts(answer: Answer) -> dict[str, Any]:
    slide = {"slide": answer.slide} if answer.slide else {}
    risk = {} if answer.risk is None else {"risk": answer.risk}
    return {
        "patient": answer.patient,
        **slide,
        "said": answer.words,
        "probabilities": dict(answer.probabilities),
        **risk,
        "when": f"{answer.when:%Y-%m-%d %H:%M} UTC",
        "model": answer.model,
        "features": answer.features,
        "record": answer.record,
    }


def review_facts(review: Review) -> dict[str, Any]:
    """Return what a person holds of an answer."""
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
    """Return the texts of a record by field, with a word for what is missing."""
    return {name: text or Absent.MISSING.value for name, text in schema.format(record).items()}


def _counted(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}


def chain_facts(ledger: Ledger) -> dict[str, str]:
    """Return whether the chain of a ledger holds, and what it lost before a rescue."""
    cuts = ledger.cuts()
    holds = f"its chain holds, but for entries {cuts}" if cuts else "its chain holds"
    return {"ledger": ledger.check() or holds}
