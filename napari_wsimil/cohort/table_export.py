"""Cohorts written as tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import openpyxl
import pyarrow
import pyarrow.parquet
from openpyxl.cell import WriteOnlyCell

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.cohort.cell_text import escape_formula
from napari_wsimil.cohort.endpoint import UNKNOWN, Endpoint, kind_of
from napari_wsimil.cohort.headers import DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openpyxl.cell import Cell
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow

#: The columns before time, event and clinical fields.
COLUMNS = ("patient_id", "slide_id", "mpp_override", "split", "label")

#: cBioPortal's words for absence.
_CBIOPORTAL_WORDS = {
    Absent.MISSING: "[Not Available]",
    Absent.UNKNOWN: "[Unknown]",
    Absent.NOT_APPLICABLE: "[Not Applicable]",
}

_CBIOPORTAL_TYPES = {Kind.NUMBER: "NUMBER", Kind.BOOLEAN: "BOOLEAN"}

_Rows: TypeAlias = Iterator[tuple[str, ...]]


@dataclass(frozen=True)
class _Sheet:
    """Headers and rows as text, and the numeric columns."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[int]


def write_cohort_table(
    manifest: Manifest,
    path: str | Path,
    *,
    time_unit: str = "",
    cbioportal: bool = False,
    outcome: str = "",
) -> tuple[str, ...]:
    """Write a cohort as a table; return notes for readers.

    The ending selects CSV, TSV, XLSX or Parquet.

    Each slide has a row (a patient without one, too), and no paths. Missing is an empty
    cell; unknown and not applicable are written so. Text that a spreadsheet would run gets
    an apostrophe, which import takes off again. For cBioPortal each patient has a row, and
    absence its words, and slides are left out.

    Time and event are called after the cohort's outcome, such as PFS_MONTHS and PFS_STATUS
    (1: it happened, 0: censored). Of an unknown kind they are `time` and `event`, for
    cBioPortal OUTCOME_MONTHS and OUTCOME_STATUS. No time is rounded.

    Parameters
    ----------
    manifest
        The cohort.
    path
        The file, which is overwritten.
    time_unit
        Unit of the patients' times: days, weeks, months or years. cBioPortal needs it where
        the cohort does not state it.
    cbioportal
        Whether to write cBioPortal's file of patients (`data_clinical_patient.txt`).
    outcome
        Kind of the outcome where the cohort does not state it, such as "PFS".

    Raises
    ------
    RecordError
        If the ending is none of these, a cohort with times has no unit for cBioPortal, or
        unit or outcome are not those of the cohort.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    endpoint = _stated(manifest.endpoint, outcome, time_unit)
    timed = any(case.time is not None for p in manifest.patients for case in (p, *p.slide_cases))
    if cbioportal:
        whole, notes = _whole(manifest)
        _write_cbioportal(whole, path, endpoint, timed=timed)
        return (*_notes(endpoint, f"{endpoint.prefix}_MONTHS", timed=timed), *notes)
    if path.suffix.lower() not in _WRITERS:
        known = ", ".join(sorted(_WRITERS))
        raise RecordError(f"{path.name}: a cohort is written as {known}, or for cBioPortal")
    fields = _beside(manifest, endpoint.columns)
    header = (*COLUMNS, *endpoint.columns, *(name for name, _ in fields))
    rows = list(_rows(manifest, [field for _, field in fields]))
    _WRITERS[path.suffix.lower()](path, _Sheet(header, rows, _numeric(fields)))
    return _notes(endpoint, endpoint.columns[0], timed=timed)


def _stated(kept: Endpoint, outcome: str, unit: str) -> Endpoint:
    """Return the endpoint of a cohort, completed by a person."""
    stated = Endpoint(kind_of(outcome), unit)
    if unit and unit not in DAYS:
        raise RecordError(f"time unit {unit!r} is none of {', '.join(DAYS)}")
    for known, given in ((kept.kind, stated.kind), (kept.unit, stated.unit)):
        if known and given and known != given:
            raise RecordError(f"the times are {kept}, not {stated}: leave {given!r} out")
    return kept.completed(stated)


def _whole(manifest: Manifest) -> tuple[Manifest, tuple[str, ...]]:
    """Return a cohort of patients without their slides, and notes."""
    patients, varying = [], 0
    for patient in manifest.patients:
        cases = patient.slide_cases or (patient,)
        labels = {case.label for case in cases}
        outcomes = {(case.time, case.event) for case in cases}
        varying += len(labels) > 1 or len(outcomes) > 1
        label = next(iter(labels)) if len(labels) == 1 else None
        time, event = next(iter(outcomes)) if len(outcomes) == 1 else (None, None)
        patients.append(replace(patient, label=label, time=time, event=event))
    note = (
        f"{varying} patients have slides of several classes or outcomes, and cBioPortal's file "
        "one row per patient: these cells are [Not Available]. Write a .csv for all slides"
    )
    return replace(manifest, patients=tuple(patients)), (note,) if varying else ()


def _notes(endpoint: Endpoint, column: str, *, timed: bool) -> tuple[str, ...]:
    if not timed or endpoint.kind:
        return ()
    return (
        f"the cohort does not state which outcome its times are of: they are called {column}. "
        "Import them in columns named after it, such as PFS_MONTHS and PFS_STATUS, or export "
        "with --outcome PFS",
    )


def _beside(
    manifest: Manifest, columns: tuple[str, str], called: Callable[[str], str] = str
) -> list[tuple[str, Field]]:
    """Return the fields to write, with their headers.

    `called` makes a header of a name.

    A field that is called as the outcome is left out where it states the same of each
    patient, and is written as "NAME (clinical)" where it does not.
    """
    pairs = []
    for field in manifest.schema.fields if manifest.schema else ():
        header = field.name
        if called(field.name) in columns:
            number = columns.index(called(field.name))
            cases = (c for p in manifest.patients for c in (p.slide_cases or (p,)))
            if all(_repeats(case, field, number) for case in cases):
                continue
            header = f"{field.name} (clinical)"
        pairs.append((header, field))
    return pairs


def _repeats(patient: Patient, field: Field, column: int) -> bool:
    value = _value(patient, field)
    stated = (patient.time, patient.event)[column]
    return stated is None if value is Absent.MISSING else value == stated


def _rows(manifest: Manifest, fields: Sequence[Field]) -> _Rows:
    for patient in manifest.patients:
        for case in patient.slide_cases or (patient,):
            values = (f.format(_value(patient, f)) for f in fields)
            yield (*_own(case, case.slides[0] if case.slides else None), *values)


def _own(case: Patient, slide: SlideRow | None) -> tuple[str, ...]:
    return (
        case.person,
        slide.slide if slide else "",
        "" if slide is None or slide.mpp is None else repr(slide.mpp),
        case.split or "",
        case.label or "",
        "" if case.time is None else _exact(case.time),
        "" if case.event is None else str(int(case.event)),
    )


def _value(patient: Patient, field: Field) -> Value:
    return patient.record[field.name] if patient.record else Absent.MISSING


def _exact(number: float) -> str:
    """Return the shortest text for exactly this number."""
    return repr(int(number)) if number.is_integer() else repr(number)


def _write_text(path: Path, sheet: _Sheet) -> None:
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(map(escape_formula, sheet.header))
        writer.writerows([escape_formula(cell) for cell in row] for row in sheet.rows)


def _write_spreadsheet(path: Path, sheet: _Sheet) -> None:
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet("patients")
    page.append([escape_formula(name) for name in sheet.header])
    for row in sheet.rows:
        page.append([_cell(page, t, number=i in sheet.numeric) for i, t in enumerate(row)])
    book.save(path)


def _cell(page: WriteOnlyWorksheet, text: str, *, number: bool) -> float | str | Cell | None:
    if number and text:
        try:
            return _number(page, float(text))
        except ValueError:  # a word for absence
            return text
    return escape_formula(text) or None


def _number(page: WriteOnlyWorksheet, number: float) -> float | Cell:
    """Return a cell with all digits; openpyxl writes sixteen."""
    if float(f"{number:.16g}") == number:
        return number
    cell = WriteOnlyCell(page, repr(number))
    cell.data_type = "n"
    return cell


def _write_parquet(path: Path, sheet: _Sheet) -> None:
    columns = list(zip(*sheet.rows, strict=True)) or [()] * len(sheet.header)
    arrays = [_array(cells, number=i in sheet.numeric) for i, cells in enumerate(columns)]
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(sheet.header)), path)


def _array(cells: Sequence[str], *, number: bool) -> pyarrow.Array:
    """Return numbers if all cells allow it, else text."""
    absent = {Absent.UNKNOWN.value, Absent.NOT_APPLICABLE.value}
    if number and not absent & set(cells):
        return pyarrow.array([float(cell) if cell else None for cell in cells], pyarrow.float64())
    return pyarrow.array([cell or None for cell in cells], pyarrow.string())


def _numeric(fields: Sequence[tuple[str, Field]]) -> frozenset[int]:
    first = len(COLUMNS)
    own = (COLUMNS.index("mpp_override"), first, first + 1)
    return frozenset(own) | {
        first + 2 + i for i, (_, field) in enumerate(fields) if field.kind is Kind.NUMBER
    }


def _write_cbioportal(manifest: Manifest, path: Path, endpoint: Endpoint, *, timed: bool) -> None:
    portal = replace(endpoint, unit="months") if endpoint.kind else Endpoint(UNKNOWN, "months")
    time, event = portal.columns
    if timed and endpoint.unit not in DAYS:
        raise RecordError(
            f"the unit of the times is not known: cBioPortal's {time} are months. "
            f"State it with --time-unit ({', '.join(DAYS)})"
        )
    factor = DAYS[endpoint.unit] / DAYS["months"] if timed else 1.0
    converted = replace(manifest, patients=tuple(_in_months(p, factor) for p in manifest.patients))
    fields = _beside(converted, (time, event) if timed else ("", ""), _portal_name)
    columns = [("Patient", "Pseudonym", "STRING", "1", "PATIENT_ID")]
    columns += [("Class", "Class of the patient", "STRING", "1", "LABEL")]
    columns += [_column(name, field) for name, field in fields]
    if timed:
        title = endpoint.title
        columns += [(f"{title} status", "Whether the event happened", "STRING", "1", event)]
        columns += [(f"{title} (months)", "Time", "NUMBER", "1", time)]
    words = portal.words if timed else None
    above = ["#" + "\t".join(column[i] for column in columns) for i in range(4)]
    header = "\t".join(column[4] for column in columns)
    plain = [field for _, field in fields]
    rows = [_patient_row(patient, plain, words) for patient in converted.patients]
    path.write_text("\n".join([*above, header, *rows]) + "\n", encoding="utf-8")


def _in_months(patient: Patient, factor: float) -> Patient:
    return patient if patient.time is None else replace(patient, time=patient.time * factor)


def _column(header: str, field: Field) -> tuple[str, str, str, str, str]:
    name, description = _portal_name(header), " ".join((field.description or field.name).split())
    return header, description, _CBIOPORTAL_TYPES.get(field.kind, "STRING"), "1", name


def _portal_name(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")


def _patient_row(patient: Patient, fields: Sequence[Field], words: tuple[str, str] | None) -> str:
    cells = [patient.name, patient.label or "[Not Available]"]
    for field in fields:
        value = _value(patient, field)
        cells.append(_CBIOPORTAL_WORDS[value] if isinstance(value, Absent) else field.format(value))
    if words is not None and patient.time is not None:
        cells += [words[0] if patient.event else words[1], _exact(patient.time)]
    elif words is not None:
        cells += ["[Not Available]"] * 2
    if any(re.search(r"[\t\r\n]", cell) for cell in cells):
        raise RecordError(f"patient {patient.name!r}: cBioPortal's cells take no tabs and lines")
    return "\t".join(map(escape_formula, cells))


_WRITERS: Mapping[str, Callable[[Path, _Sheet], None]] = {
    ".csv": _write_text,
    ".tsv": _write_text,
    ".xlsx": _write_spreadsheet,
    ".parquet": _write_parquet,
}
