"""What the verbs of a study say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.study.field import Absent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
        "journal": study.journal,
        **chain_facts(study.ledger.check()),
    }


def patient_facts(study: Study, name: str) -> dict[str, Any]:
    """Return what is known of a patient, without what can name them."""
    patient, links = study.patient(name), study.links()
    known: dict[str, Any] = {
        "patient": patient.name,
        "label": patient.label or "",
        "split": patient.split.value if patient.split else "",
        "time": patient.time,
        "event": patient.event,
        "record": texts_of(study.schema, patient.record) if patient.record else {},
        "slides": {},
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


def texts_of(schema: ClinicalSchema, record: Record) -> dict[str, str]:
    """Return the texts of a record by field, with a word for what is missing."""
    return {name: text or Absent.MISSING.value for name, text in schema.format(record).items()}


def _counted(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}


def chain_facts(broken: str) -> dict[str, str]:
    """Return whether the chain of a ledger holds, of what `check` said of it."""
    return {"ledger": broken or "its chain holds"}
