"""TCGA barcodes: the patient's part in the names of slides, files and patients."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.study.manifest import SlideRow

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
