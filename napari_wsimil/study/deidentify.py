"""Deidentification of a study's patients for a shared copy."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.field import Field, Value
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow


@dataclass(frozen=True)
class Disguised:
    """Deidentified patients.

    Attributes
    ----------
    schema
        Schema with days instead of dates, without headers of source tables.
    patients
        Patients in random order with new names and without files.
    patients_key, slides_key
        New names by old names.
    dates
        Names of the fields that were dates.
    """

    schema: ClinicalSchema
    patients: tuple[Patient, ...]
    patients_key: Mapping[str, str]
    slides_key: Mapping[str, str]
    dates: tuple[str, ...]


def disguised(manifest: Manifest) -> Disguised:
    """Return patients with new names and days instead of dates.

    The order is random. A date becomes the number of days since the patient's first date;
    labels, splits and times stay.
    """
    own = manifest.schema or ClinicalSchema(name="none", fields=())
    fields = tuple(map(_dateless, own.fields))
    schema = own.model_copy(update={"fields": fields, "description": ""})
    order = list(manifest.patients)
    secrets.SystemRandom().shuffle(order)
    patients: list[Patient] = []
    names: dict[str, str] = {}
    slides: dict[str, str] = {}
    for number, patient in enumerate(order, 1):
        names[patient.name] = f"P{number:04d}"
        patients.append(_renamed(patient, names[patient.name]))
        new = (row.slide for row in patients[-1].slides)
        slides |= dict(zip((row.slide for row in patient.slides), new, strict=True))
    dates = tuple(field.name for field in own.fields if field.kind is Kind.DATE)
    return Disguised(schema, tuple(patients), names, slides, dates)


def with_features(manifest: Manifest, key: Mapping[str, str]) -> dict[str, SlideRow]:
    """Return the slides with features, by new name."""
    rows = (row for patient in manifest.patients for row in patient.slides)
    return {key[row.slide]: row for row in rows if row.feature_path is not None}


def _dateless(field: Field) -> Field:
    plain = field.model_copy(update={"columns": ()})
    if field.kind is not Kind.DATE:
        return plain
    description = f"{field.description} (days since the patient's first date)".strip()
    days = {"kind": Kind.NUMBER, "unit": "days", "description": description}
    return plain.model_copy(update=days)


def _renamed(patient: Patient, name: str) -> Patient:
    slides = tuple(
        replace(row, slide=f"{name}-{number}", slide_path=None, feature_path=None, feature_facts="")
        for number, row in enumerate(patient.slides, 1)
    )
    record = None if patient.record is None else _in_days(patient.record)
    return replace(patient, name=name, slides=slides, record=record)


def _in_days(record: Record) -> Record:
    days = [value for value in record.values.values() if isinstance(value, date)]
    first = min(days, default=None)

    def days_since_first(value: Value) -> Value:
        return float((value - first).days) if isinstance(value, date) and first else value

    return Record({name: days_since_first(value) for name, value in record.values.items()})
