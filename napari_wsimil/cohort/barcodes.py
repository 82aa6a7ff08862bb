"""TCGA barcodes: the patient's part in the names of slides, files and patients."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.cohort.manifest import SlideRow

#: Project, tissue source site and participant: TCGA-A1-A0SK.
_PARTICIPANT = re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?=$|[^A-Za-z0-9])", re.IGNORECASE)


def participant(name: str) -> str:
    """Return the participant of a TCGA barcode, "TCGA-A1-A0SK"; empty if it is none."""
    match = _PARTICIPANT.match(name)
    return match[0].upper() if match else ""


def participant_of(patient: str, slide: SlideRow) -> str:
    """Return the participant in the name of a slide, its files or its patient, in this order."""
    stems = (path.stem for path in (slide.slide_path, slide.feature_path) if path is not None)
    return next(filter(None, map(participant, (slide.slide, *stems, patient))), "")


def one_patient_twice(
    patients: Iterable[str], slides: Mapping[str, Sequence[SlideRow]]
) -> tuple[str, ...]:
    """Return "A, B" for patients of several names with one TCGA barcode.

    Parameters
    ----------
    patients
        Their names.
    slides
        By the names of patients.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for patient in dict.fromkeys(patients):
        barcodes = {participant_of(patient, slide) for slide in slides.get(patient, ())}
        for barcode in (barcodes | {participant(patient)}) - {""}:
            names[barcode].append(patient)
    return tuple(", ".join(some) for some in names.values() if len(some) > 1)
