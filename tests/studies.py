"""What the tests of studies share: a schema, patients, and programs beside this one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from cohorts import CLASSES, SPLITS, make_bag

from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record
from napari_wsimil.cohort.manifest import Patient, SlideRow, Split
from napari_wsimil.features.store import save_bag
from napari_wsimil.study.create_study import Study, Unit, create_study
from napari_wsimil.study.orm import VERSION
from napari_wsimil.study.records import CHANGES

if TYPE_CHECKING:
    from napari_wsimil.clinical.field import Value
    from napari_wsimil.study.audit_entry import Entry

SCHEMA = ClinicalSchema(
    name="trial",
    fields=(
        Field(name="ldh", kind=Kind.NUMBER, group="blood", unit="U/L", hard=(0, 9000)),
        Field(name="fever", kind=Kind.BOOLEAN, group="interview"),
        Field(name="site", kind=Kind.CATEGORY, group="interview", values=("left", "right")),
        Field(name="biopsy", kind=Kind.DATE, group="interview"),
    ),
    inputs=("ldh", "fever"),
)


def record(**values: Value) -> Record:
    """Return a record; what is not given is missing."""
    return Record({field.name: values.get(field.name, Absent.MISSING) for field in SCHEMA.fields})


def first_patient(folder: Path) -> Patient:
    """Return a patient of whom everything is known, with one slide outside of `folder`."""
    slide = SlideRow(
        "a", folder.parent / "slides" / "a.svs", folder / "features" / "a.h5", mpp=0.25
    )
    values = {"ldh": 0.1 + 0.2, "fever": Absent.UNKNOWN, "site": Absent.NOT_APPLICABLE}
    known = record(**values, biopsy=date(2020, 2, 29))
    return Patient("P1", (slide,), "tumor", Split.TRAIN, 12.5, True, known)


def small_study(folder: Path, who: str = "ada") -> Study:
    """Return a new study of two patients."""
    study = create_study(folder, SCHEMA, name="trial", who=who)
    second = Patient("P2", (SlideRow("b"), SlideRow("c")), record=record(ldh=180.0))
    study.add([first_patient(folder), second], "first import")
    return study


def planted_study(folder: Path, unit: Unit = Unit.PATIENT) -> Study:
    """Return a new study of twelve patients with planted bags, a split and records."""
    study = create_study(folder, SCHEMA, unit=unit, who="ada")
    patients = []
    for k in range(12):
        path = folder / "features" / f"s{k}.h5"
        save_bag(path, make_bag(k))
        known = record(ldh=100.0 + k, fever=k % 2 == 0)
        row = SlideRow(f"s{k}", feature_path=path)
        patients.append(Patient(f"P{k}", (row,), CLASSES[k % 2], Split(SPLITS[k]), record=known))
    study.add(patients, "import")
    return study


def record_history(study: Study, patient: str) -> tuple[Entry, ...]:
    """Return the entries that changed a patient's record, oldest first."""
    return tuple(e for e in study.ledger.entries(patient) if e.act in CHANGES)


def as_version_1(folder: Path) -> None:
    """Make a closed study one that the first version of the tables wrote."""
    as_version_2(folder)
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as connection:
        for table in ("run_patients", "runs", "predictions", "reviews"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")


def as_version_2(folder: Path) -> None:
    """Make a closed study one in which slides have nothing of their own."""
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as connection:
        for column in ("label", "split", "time", "event"):
            connection.execute(f"ALTER TABLE slides DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 2")


def as_wal(folder: Path) -> sqlite3.Connection:
    """Give a closed study a write-ahead log, and return the connection that keeps it."""
    connection = sqlite3.connect(folder / "study.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("UPDATE records SET cells = replace(cells, '180', '200')")
    return connection


def damage(folder: Path, table: str) -> None:
    """Overwrite the first page of a table of a study with junk."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(query, (table,)).fetchone()
    content = bytearray((folder / "study.db").read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"junk" * 1024
    (folder / "study.db").write_bytes(content)


def of_a_later_version(folder: Path) -> None:
    """Make a closed study one that this program may only read."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def beside(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program of Python beside this one, with pipes to it."""
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join((str(root), str(root / "tests")))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
