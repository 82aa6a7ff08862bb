"""Open study: patients, records, schema, files, runs and predictions."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml
from sqlalchemy import select

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import ClinicalSchema, schema_text, validated
from napari_wsimil.cohort.endpoint import Endpoint
from napari_wsimil.cohort.manifest import Manifest, Patient
from napari_wsimil.study.add_patients import Added, Addition
from napari_wsimil.study.audit_entry import Act, append, drafted, per_field
from napari_wsimil.study.audit_log import Ledger
from napari_wsimil.study.backups import Reason
from napari_wsimil.study.erase import Forgotten, erase, is_forgotten
from napari_wsimil.study.file_links import (
    OWN,
    Link,
    Linked,
    placed,
    read_links,
    roots_of,
    write_links,
)
from napari_wsimil.study.health import DamagedStudyError, Health
from napari_wsimil.study.orm import Fact, Root, StoredPatient
from napari_wsimil.study.outcome_facts import (
    keep_endpoint,
    keep_reasons,
    read_outcome_facts,
)
from napari_wsimil.study.patients import patient_of, rows_of
from napari_wsimil.study.predictions import Predictions, Reviews
from napari_wsimil.study.records import Records, held
from napari_wsimil.study.training_runs import Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.study.database import Database


class Unit(StrEnum):
    """Unit of prediction: patient with all slides, or slide."""

    PATIENT = "patient"
    SLIDE = "slide"


class Study:
    """Open study, also a context manager; see `open_study`.

    Attributes
    ----------
    folder
        Folder of the study; it may be moved while the study is closed.
    name, unit, identity
        Name, unit of prediction, and 32 hex digits that never change.
    read_only
        Sentence on the reason why it cannot be changed; empty if it can.
    is_damaged
        Whether the database is damaged; `restore_study` restores a backup.
    records, ledger
        Records of the patients, and the audit log.
    runs, predictions, reviews
        Models trained on the study, their latest predictions, and people's verdicts on these.
    """

    def __init__(self, folder: Path | str, database: Database, who: str) -> None:
        folder = Path(folder)
        self.folder, self._database = folder, database
        self._read: tuple[str, ClinicalSchema] | None = None
        self.read_only = database.read_only
        self.is_damaged = database.health is Health.DAMAGED
        self.ledger = Ledger(database, who)
        self.records = Records(database, self.ledger, self._schema)
        self.runs, self.predictions = Runs(database, folder, who), Predictions(database)
        self.reviews = Reviews(database, who)
        with database.reading() as session:
            facts = {fact.name: fact.value for fact in session.scalars(select(Fact))}
            self._schema(session)
        self.name, self.unit = facts.get("name", folder.name), Unit(facts.get("unit", "patient"))
        self.identity = facts.get("identity", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @property
    def schema(self) -> ClinicalSchema:
        """The present schema of the records."""
        with self._database.reading() as session:
            return self._schema(session)

    @property
    def endpoint(self) -> Endpoint:
        """Endpoint and unit of the patients' times, if known."""
        with self._database.reading() as session:
            return read_outcome_facts(session).endpoint

    @property
    def roots(self) -> dict[str, Path]:
        """Folders outside the study with its files, by name."""
        with self._database.reading() as session:
            return {
                name: path for name, path in roots_of(session, self.folder).items() if name != OWN
            }

    def manifest(self) -> Manifest:
        """Return all patients with slides, records, labels, splits, outcomes.

        Raises
        ------
        StudyError
            If a path leaves the study's folder, or the database cannot be read.
        """
        with self._database.reading() as session:
            schema, roots = self._schema(session), roots_of(session, self.folder)
            facts = read_outcome_facts(session)
            patients = [facts.of(patient_of(row, schema, roots)) for row in rows_of(session)]
        return Manifest(self.folder, tuple(patients), schema, facts.endpoint)

    def patient(self, name: str) -> Patient:
        """Return a patient; RecordError for an unknown name."""
        with self._database.reading() as session:
            for row in rows_of(session, name):
                patient = patient_of(row, self._schema(session), roots_of(session, self.folder))
                return read_outcome_facts(session).of(patient)
        raise RecordError(f"{self.folder} has no patient {name!r}")

    def add(
        self,
        patients: Sequence[Patient],
        why: str,
        *,
        schema: ClinicalSchema | None = None,
        endpoint: Endpoint | None = None,
        file: str = "",
    ) -> Added:
        """Add patients, or complete known ones.

        Names are stored unchanged, so they should be pseudonyms. Values that the study does not
        have yet are added to known patients; a patient that contradicts the study is skipped
        and listed in the result.

        Parameters
        ----------
        patients, why
            Patients to add, and the reason.
        schema
            New schema of the study; None to keep the present one.
        endpoint
            Endpoint of the times; None if the source does not state it.
        file
            SHA-256 in hex of the source table, for the audit log.

        Raises
        ------
        RecordError
            If a name or value is invalid, or the times have another endpoint or unit than the
            study's; nothing is changed then.
        StudyError
            If the study cannot be written.
        """
        images = [s.slide_path for p in patients for s in p.slides if s.slide_path]
        data = [s.feature_path for p in patients for s in p.slides if s.feature_path]
        with self._database.writing(Reason.IMPORT) as session:
            if schema is not None:
                self._change_schema(session, schema, f"{why}: its fields")
            places = placed(session, self.folder, images, "slides")
            places |= placed(session, self.folder, data, "features")
            keep_endpoint(session, endpoint or Endpoint(), patients, (self.ledger.who, why))
            schema, who = self._schema(session), self.ledger.who
            by_slide = self.unit is Unit.SLIDE
            added = Addition(session, schema, places, who, why, by_slide).run(patients)
            keep_reasons(session, [one for one in patients if one.name in added.taken])
            if file:
                append(session, [drafted(self.ledger.who, Act.IMPORTED, why=why, file=file)])
            return added

    def link(self, links: Sequence[Link], why: str) -> Linked:
        """Link feature files, which stay in place, to slides.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        with self._database.writing(Reason.IMPORT) as session:
            places = placed(session, self.folder, [link.path for link in links], "features")
            return write_links(session, links, places, self.ledger.who, why)

    def links(self) -> dict[str, Link]:
        """Return the linked features by slide name."""
        with self._database.reading() as session:
            return read_links(session, roots_of(session, self.folder))

    def set_schema(self, schema: ClinicalSchema, why: str) -> None:
        """Replace the schema; values of removed fields stay stored, hidden.

        Raises
        ------
        RecordError
            If a record does not fit the schema; nothing is changed then.
        StudyError
            If the study cannot be written.
        """
        with self._database.writing(Reason.SCHEMA) as session:
            self._change_schema(session, schema, why)

    def set_root(self, name: str, folder: Path | str, why: str) -> None:
        """Change the folder of a root with moved files.

        Raises
        ------
        RecordError
            If the root is unknown.
        StudyError
            If the study cannot be written.
        """
        folder = Path(folder)
        with self._database.writing() as session:
            root = session.get(Root, name)
            if root is None:
                known = ", ".join(roots_of(session, self.folder).keys() - {OWN}) or "none"
                raise RecordError(f"{self.folder} has no root {name!r}, only {known}")
            path = os.path.abspath(folder)
            entry = drafted(self.ledger.who, Act.LINKED, why=why)
            append(session, per_field(entry, {f"root {name}": (root.folder, path)}))
            root.folder = path

    def forget(self, patient: str, why: str) -> Forgotten:
        """Erase a patient's values, files and history.

        The result lists the erased and the remaining files. One audit entry with the name
        remains as a tombstone, and the hash chain still verifies. All backups are deleted and
        a new one is made. For a patient erased before, only old pages and backups are removed.

        Raises
        ------
        RecordError
            If the patient is unknown, or the reason is empty.
        StudyError
            If the study cannot be written. Also if another program has it open: the patient is
            erased then, but old pages remain until this is repeated.
        """
        if not why.strip():
            raise RecordError(f"Give a reason to erase {patient}.")
        with self._database.erasing() as session:
            erasure = Forgotten(patient)
            if not is_forgotten(session, patient):
                schema, roots = self._schema(session), roots_of(session, self.folder)
                tombstone = (self.ledger.who, why)
                erasure = erase(session, schema, roots, self.folder, patient, tombstone)
        try:
            self._database.sweep()
        finally:
            self._database.renew_backups()
        return erasure

    def _change_schema(self, session: Session, schema: ClinicalSchema, why: str) -> None:
        for row in rows_of(session):
            if row.record is not None:
                _check_fits(schema, row)
        old, text = session.get_one(Fact, "schema"), schema_text(schema)
        entry = drafted(self.ledger.who, Act.SCHEMA, why=why)
        append(session, per_field(entry, {"schema": (old.value, text)}))
        old.value = text

    def _schema(self, session: Session) -> ClinicalSchema:
        text = session.scalar(select(Fact.value).where(Fact.name == "schema"))
        if text is None:
            raise DamagedStudyError(self._database.path, "has no schema any more")
        if self._read is None or self._read[0] != text:
            self._read = text, _schema_in(text, self._database.path)
        return self._read[1]


def _schema_in(text: str, database: Path) -> ClinicalSchema:
    try:
        return validated(yaml.safe_load(text), f"the schema of {database.parent}")
    except (yaml.YAMLError, RecordError) as error:
        raise DamagedStudyError(database, f"has a damaged schema ({error})") from error


def _check_fits(schema: ClinicalSchema, row: StoredPatient) -> None:
    try:
        if row.record is not None:
            held(schema, row.record)
    except RecordError as error:
        raise RecordError(
            f"schema {schema.name} does not fit {row.name}'s record: {error.__cause__}"
        ) from error
