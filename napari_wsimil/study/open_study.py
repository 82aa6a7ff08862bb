"""Opened: a study that is open, as everything else uses it."""

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
    """What a prediction is of: a patient with all slides, or each slide for itself."""

    PATIENT = "patient"
    SLIDE = "slide"


class Study:
    """A study that is open, a context manager; see `open_study`.

    Attributes
    ----------
    folder
        Where it lies; it may be moved while it is closed.
    name, unit, identity
        What it is called, what predictions are of, and 32 hex digits that stay its own.
    read_only
        Why it cannot be changed, in a sentence; empty if it can.
    is_damaged
        Whether its database is damaged; `restore_study` restores a backup.
    records, ledger
        The patients' values, and what was done.
    runs, predictions, reviews
        The models that were trained on it, what models said last of its patients, and what
        people hold of that.
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
        """Let go of the database."""
        self._database.close()

    @property
    def schema(self) -> ClinicalSchema:
        """The schema of the records, as it is now."""
        with self._database.reading() as session:
            return self._schema(session)

    @property
    def endpoint(self) -> Endpoint:
        """Which outcome the patients' times are of, and their unit, as far as known."""
        with self._database.reading() as session:
            return read_outcome_facts(session).endpoint

    @property
    def roots(self) -> dict[str, Path]:
        """The folders outside the study that it has files in, by their names."""
        with self._database.reading() as session:
            return {
                name: path for name, path in roots_of(session, self.folder).items() if name != OWN
            }

    def manifest(self) -> Manifest:
        """Return all patients with their slides, records, labels, splits and outcomes.

        Raises
        ------
        StudyError
            If a path climbs out of the study, or the database cannot be read.
        """
        with self._database.reading() as session:
            schema, roots = self._schema(session), roots_of(session, self.folder)
            facts = read_outcome_facts(session)
            patients = [facts.of(patient_of(row, schema, roots)) for row in rows_of(session)]
        return Manifest(self.folder, tuple(patients), schema, facts.endpoint)

    def patient(self, name: str) -> Patient:
        """Return a patient; RecordError if the study has none of that name."""
        with self._database.reading() as session:
            for row in rows_of(session, name):
                known = patient_of(row, self._schema(session), roots_of(session, self.folder))
                return read_outcome_facts(session).of(known)
        raise RecordError(f"there is no patient {name!r} in {self.folder}")

    def add(
        self,
        patients: Sequence[Patient],
        why: str,
        *,
        schema: ClinicalSchema | None = None,
        endpoint: Endpoint | None = None,
        file: str = "",
    ) -> Added:
        """Take patients in and return what came of each.

        Their names are kept as they are: give pseudonyms. Whoever is there already is
        completed where the study says nothing; who contradicts it is passed over and listed.

        Parameters
        ----------
        patients, why
            Whom, and the reason.
        schema
            Of the study from then on, if it is to have another.
        endpoint
            Which outcome the times are of; None if the source does not say.
        file
            SHA-256 in hex of the table they come from, which the ledger then keeps.

        Raises
        ------
        RecordError
            If a name or a value is not valid, or the times are of another outcome or in
            another unit than the study's; nothing is changed then.
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
        """Say where the features of slides are, which stay in place; return what came of it.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        with self._database.writing(Reason.IMPORT) as session:
            places = placed(session, self.folder, [link.path for link in links], "features")
            return write_links(session, links, places, self.ledger.who, why)

    def links(self) -> dict[str, Link]:
        """Return the features of all slides that have some, by the slides' names."""
        with self._database.reading() as session:
            return read_links(session, roots_of(session, self.folder))

    def set_schema(self, schema: ClinicalSchema, why: str) -> None:
        """Give the study another schema; values of fields it has not any more are kept unseen.

        Raises
        ------
        RecordError
            If a record has a value that the schema refuses; nothing is changed then.
        StudyError
            If the study cannot be written.
        """
        with self._database.writing(Reason.SCHEMA) as session:
            self._change_schema(session, schema, why)

    def set_root(self, name: str, folder: Path | str, why: str) -> None:
        """Point a root to where its files have moved.

        Raises
        ------
        RecordError
            If the study has no such root.
        StudyError
            If the study cannot be written.
        """
        folder = Path(folder)
        with self._database.writing() as session:
            root = session.get(Root, name)
            if root is None:
                known = ", ".join(roots_of(session, self.folder).keys() - {OWN}) or "none"
                raise RecordError(f"{self.folder} has no root {name!r}, only {known}")
            moved = os.path.abspath(folder)
            entry = drafted(self.ledger.who, Act.LINKED, why=why)
            append(session, per_field(entry, {f"root {name}": (root.folder, moved)}))
            root.folder = moved

    def forget(self, patient: str, why: str) -> Forgotten:
        """Erase a patient's values, files and history, and return what went and what did not.

        A tombstone with the name stays in the ledger, whose chain still holds. All backups
        are deleted and one new is made. Whoever was forgotten already is only swept for again.

        Raises
        ------
        RecordError
            If there is no such patient, or no reason.
        StudyError
            If the study cannot be written, or another program has it open: then the patient
            is erased, and old pages are left until this is done again.
        """
        if not why.strip():
            raise RecordError(f"say why {patient} is to be forgotten")
        with self._database.erasing() as session:
            found = Forgotten(patient)
            if not is_forgotten(session, patient):
                schema, roots = self._schema(session), roots_of(session, self.folder)
                stone = (self.ledger.who, why)
                found = erase(session, schema, roots, self.folder, patient, stone)
        try:
            self._database.sweep()
        finally:
            self._database.renew_backups()
        return found

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
            raise DamagedStudyError(self._database.path, "has lost its schema")
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
            f"schema {schema.name} does not fit the record of {row.name}: {error.__cause__}"
        ) from error
