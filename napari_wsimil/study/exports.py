"""Exports: a cohort as a table in the files people have."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import openpyxl
import pyarrow
import pyarrow.parquet

from napari_wsimil.study.field import Absent, Field, Kind
from napari_wsimil.study.headers import DAYS
from napari_wsimil.study.inert import inert
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.study.field import Value
    from napari_wsimil.study.manifest import Manifest, Patient, SlideRow

#: The columns beside clinical fields.
COLUMNS = ("patient_id", "slide_id", "mpp_override", "split", "label", "time", "event")

#: cBioPortal's words for absence.
_CBIOPORTAL_WORDS = {
    Absent.MISSING: "[Not Available]",
    Absent.UNKNOWN: "[Unknown]",
    Absent.NOT_APPLICABLE: "[Not Applicable]",
}
_CBIOPORTAL_TYPES = {Kind.NUMBER: "NUMBER", Kind.BOOLEAN: "BOOLEAN"}

_Rows: TypeAlias = Iterator[tuple[str, ...]]


def write_cohort_table(
    manifest: Manifest, path: str | Path, *, time_unit: str = "", cbioportal: bool = False
) -> None:
    """Write a cohort as CSV, TSV, XLSX or Parquet, by the ending, or for cBioPortal.

    Each slide has a row (a patient without one, too), and no paths. Missing is an empty
    cell; unknown and not applicable are written so. Text that a spreadsheet would run gets
    an apostrophe, which import takes off again. For cBioPortal each patient has a row, and
    absence its words, and slides are left out.

    Parameters
    ----------
    manifest
        The cohort.
    path
        The file, which is overwritten.
    time_unit
        Unit of the patients' times: days, weeks, months or years. cBioPortal needs it.
    cbioportal
        Whether to write cBioPortal's file of patients (`data_clinical_patient.txt`).

    Raises
    ------
    RecordError
        If the ending is none of these, or a cohort with times has no unit for cBioPortal.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    if cbioportal:
        _write_cbioportal(manifest, path, time_unit)
        return
    if path.suffix.lower() not in _WRITERS:
        known = ", ".join(sorted(_WRITERS))
        raise RecordError(f"{path.name}: a cohort is written as {known}, or for cBioPortal")
    fields = manifest.schema.fields if manifest.schema else ()
    _WRITERS[path.suffix.lower()](path, fields, list(_rows(manifest, fields)))


def _rows(manifest: Manifest, fields: Sequence[Field]) -> _Rows:
    for patient in manifest.patients:
        for slide in patient.slides or (None,):
            values = (f.format(_value(patient, f)) for f in fields)
            yield (*_own(patient, slide), *values)


def _own(patient: Patient, slide: SlideRow | None) -> tuple[str, ...]:
    return (
        patient.name,
        slide.slide if slide else "",
        "" if slide is None or slide.mpp is None else repr(slide.mpp),
        patient.split or "",
        patient.label or "",
        "" if patient.time is None else repr(patient.time),
        "" if patient.event is None else str(int(patient.event)),
    )


def _value(patient: Patient, field: Field) -> Value:
    return patient.record[field.name] if patient.record else Absent.MISSING


def _header(fields: Sequence[Field]) -> tuple[str, ...]:
    return (*COLUMNS, *(field.name for field in fields))


def _write_text(path: Path, fields: Sequence[Field], rows: Sequence[tuple[str, ...]]) -> None:
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(map(inert, _header(fields)))
        writer.writerows([inert(cell) for cell in row] for row in rows)


def _write_spreadsheet(
    path: Path, fields: Sequence[Field], rows: Sequence[tuple[str, ...]]
) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("patients")
    sheet.append([inert(name) for name in _header(fields)])
    numeric = _numeric(fields)
    for row in rows:
        sheet.append([_cell(t, number=i in numeric) for i, t in enumerate(row)])
    book.save(path)


def _cell(text: str, *, number: bool) -> float | str | None:
    if number and text:
        try:
            return float(text)
        except ValueError:  # a word for absence
            return text
    return inert(text) or None


def _write_parquet(path: Path, fields: Sequence[Field], rows: Sequence[tuple[str, ...]]) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * len(_header(fields))
    numeric = _numeric(fields)
    arrays = [_array(cells, number=i in numeric) for i, cells in enumerate(columns)]
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(_header(fields))), path)


def _array(cells: Sequence[str], *, number: bool) -> pyarrow.Array:
    """Return numbers where there are none but numbers and gaps, else text."""
    absent = {Absent.UNKNOWN.value, Absent.NOT_APPLICABLE.value}
    if number and not absent & set(cells):
        return pyarrow.array([float(cell) if cell else None for cell in cells], pyarrow.float64())
    return pyarrow.array([cell or None for cell in cells], pyarrow.string())


def _numeric(fields: Sequence[Field]) -> set[int]:
    own = {COLUMNS.index(name) for name in ("mpp_override", "time", "event")}
    return own | {len(COLUMNS) + i for i, f in enumerate(fields) if f.kind is Kind.NUMBER}


def _write_cbioportal(manifest: Manifest, path: Path, time_unit: str) -> None:
    timed = any(patient.time is not None for patient in manifest.patients)
    if timed and time_unit not in DAYS:
        raise RecordError(
            f"time unit {time_unit!r} is none of {', '.join(DAYS)}: cBioPortal's OS_MONTHS "
            "are months"
        )
    fields = manifest.schema.fields if manifest.schema else ()
    columns = [("Patient", "Pseudonym", "STRING", "1", "PATIENT_ID")]
    columns += [("Class", "Class of the patient", "STRING", "1", "LABEL")]
    columns += [_column(field) for field in fields]
    if timed:
        columns += [("Overall survival", "Whether the event happened", "STRING", "1", "OS_STATUS")]
        columns += [("Overall survival (months)", "Time", "NUMBER", "1", "OS_MONTHS")]
    factor = DAYS[time_unit] / DAYS["months"] if timed else 1.0
    above = ["#" + "\t".join(column[i] for column in columns) for i in range(4)]
    header = "\t".join(column[4] for column in columns)
    rows = [_patient_row(p, fields, factor if timed else None) for p in manifest.patients]
    path.write_text("\n".join([*above, header, *rows]) + "\n", encoding="utf-8")


def _column(field: Field) -> tuple[str, str, str, str, str]:
    name = re.sub(r"[^A-Z0-9]+", "_", field.name.upper()).strip("_")
    description = " ".join((field.description or field.name).split())
    return field.name, description, _CBIOPORTAL_TYPES.get(field.kind, "STRING"), "1", name


def _patient_row(patient: Patient, fields: Sequence[Field], factor: float | None) -> str:
    cells = [patient.name, patient.label or "[Not Available]"]
    for field in fields:
        value = _value(patient, field)
        cells.append(_CBIOPORTAL_WORDS[value] if isinstance(value, Absent) else field.format(value))
    if factor is not None and patient.time is not None:
        cells += ["1:DECEASED" if patient.event else "0:LIVING", f"{patient.time * factor:.6g}"]
    elif factor is not None:
        cells += ["[Not Available]"] * 2
    if any(re.search(r"[\t\r\n]", cell) for cell in cells):
        raise RecordError(f"patient {patient.name!r}: cBioPortal's cells take no tabs and lines")
    return "\t".join(map(inert, cells))


_WRITERS: Mapping[str, Callable[[Path, Sequence[Field], Sequence[tuple[str, ...]]], None]] = {
    ".csv": _write_text,
    ".tsv": _write_text,
    ".xlsx": _write_spreadsheet,
    ".parquet": _write_parquet,
}
