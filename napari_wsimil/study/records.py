"""Records: the patients' values, corrected with a reason, with history, undo and redo."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.audit_entry import Act, Effect, Entry, append, drafted, per_field
from napari_wsimil.study.audit_log import read_entries
from napari_wsimil.study.health import StudyError
from napari_wsimil.study.orm import StoredPatient, StoredRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.study.audit_log import Ledger
    from napari_wsimil.study.database import Database

#: The acts that change a record.
CHANGES = (Act.IMPORTED, Act.CORRECTED, Act.UNDONE, Act.REDONE)


@dataclass(frozen=True)
class Held:
    """A record as it is kept.

    Attributes
    ----------
    record
        The values.
    version
        Number of the ledger's entry that changed it last.
    """

    record: Record
    version: int


class Changed(RecordError):
    """A record was changed by somebody else since it was read; `entries` say how."""

    def __init__(self, patient: str, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        said = "; ".join(_said(entry) for entry in entries) or "it was changed"
        super().__init__(
            f"the record of {patient} is not the one you saw any more: {said}. Nothing was "
            "changed: look at it again"
        )


class Records:
    """The records of an open study."""

    def __init__(
        self, database: Database, ledger: Ledger, schema: Callable[[Session], ClinicalSchema]
    ) -> None:
        self._database, self._ledger, self._schema = database, ledger, schema

    def read(self, patient: str) -> Held:
        """Return a patient's record; RecordError if there is no such patient."""
        with self._database.reading() as session:
            return held(self._schema(session), _stored(session, patient))

    def correct(
        self,
        patient: str,
        changes: Mapping[str, Value],
        why: str,
        *,
        version: int | None = None,
        seen: Mapping[str, Value] | None = None,
        model: str = "",
        features: str = "",
        effect: Effect | None = None,
    ) -> Held:
        """Change fields of a record, with their entries in the ledger, and return it.

        Parameters
        ----------
        patient
            Whose.
        changes
            New values by field; those that are so already change nothing.
        why
            The reason; must not be empty.
        version
            Version of the record on screen; None if only the values of `seen` matter.
        seen
            Values on screen; each must still be the record's.
        model, features, effect
            Of the model in view, if there was one; see `Entry`.

        Raises
        ------
        Changed
            If the record is of another version by now.
        RecordError
            If there is no such patient or field, or a value cannot be.
        StudyError
            If the study cannot be written.
        """
        if not why.strip():
            raise RecordError(f"say why the record of {patient} is to be changed")
        with self._database.writing() as session:
            schema, row = self._schema(session), _stored(session, patient)
            if version is not None:
                _check_version(session, patient, row, version)
            _check_seen(patient, held(schema, row).record, seen or {})
            texts = exact_texts(schema, changes)
            entry = drafted(
                self._ledger.who,
                Act.CORRECTED,
                patient=patient,
                why=why,
                model=model,
                features=features,
                effect=effect,
            )
            return write(session, schema, row, texts, entry)

    def undo(self, patient: str, *, version: int | None = None) -> Held:
        """Take back the last correction that stands, as an entry of its own; return the record.

        Raises
        ------
        ValueError
            If nothing was corrected, or all of it was taken back.
        Changed
            If `version` is given and not the record's any more.
        """
        return self._step(patient, version, Act.UNDONE)

    def redo(self, patient: str, *, version: int | None = None) -> Held:
        """Do again what was undone last, as an entry of its own; return the record.

        Raises
        ------
        ValueError
            If nothing was undone since the last correction.
        Changed
            If `version` is given and not the record's any more.
        """
        return self._step(patient, version, Act.REDONE)

    def _step(self, patient: str, version: int | None, act: Act) -> Held:
        with self._database.writing() as session:
            schema, row = self._schema(session), _stored(session, patient)
            if version is not None:
                _check_version(session, patient, row, version)
            done, undone = _stacks(read_entries(session, patient))
            stack = done if act is Act.UNDONE else undone
            if not stack:
                verb = "undo" if act is Act.UNDONE else "redo"
                raise RecordError(f"there is nothing to {verb} in the record of {patient}")
            back = act is Act.UNDONE
            texts = {e.field: e.old if back else e.new for e in stack[-1]}
            why = f"{act.value}: {stack[-1][0].why}"
            entry = drafted(self._ledger.who, act, patient=patient, why=why)
            return write(session, schema, row, texts, entry)


def _check_seen(patient: str, record: Record, seen: Mapping[str, Value]) -> None:
    for field, value in seen.items():
        if record[field] != value:
            raise RecordError(
                f"{field} of {patient} was changed by somebody else: this is how it is now"
            )


def held(schema: ClinicalSchema, row: StoredRecord) -> Held:
    """Return the record in a row."""
    try:
        return Held(schema.parse(cells_of(row, schema)), row.version)
    except RecordError as error:
        raise StudyError(f"a record in the study does not fit its schema: {error}") from error


def cells_of(row: StoredRecord, schema: ClinicalSchema) -> dict[str, str]:
    """Return the texts of a row by field, one for each of the schema."""
    cells = json.loads(row.cells)
    return {field.name: cells.get(field.name, "") for field in schema.fields}


def exact_texts(schema: ClinicalSchema, values: Mapping[str, Value]) -> dict[str, str]:
    """Return texts by field that are read as exactly these values.

    Raises
    ------
    RecordError
        If one is no value of its field, or there is no such field.
    """
    fields, markers = schema.by_name, schema.markers
    texts = {}
    for name, value in values.items():
        if name not in fields:
            raise RecordError(f"no field {name!r} in schema {schema.name}")
        texts[name] = fields[name].format(value)
        if fields[name].parse(texts[name], markers) != value:
            raise RecordError(f"field {name!r}: {value!r} is no {fields[name].kind.value}")
    return texts


def write(
    session: Session,
    schema: ClinicalSchema,
    row: StoredRecord,
    texts: Mapping[str, str],
    entry: Entry,
) -> Held:
    """Set fields of a row, with an entry in the ledger for each that changes; return the record."""
    before = cells_of(row, schema)
    if gone := [name for name in texts if name not in before]:
        raise RecordError(f"no field {gone[0]!r} in schema {schema.name} any more")
    changes = {n: (before[n], text) for n, text in texts.items() if before[n] != text}
    if not changes:
        return held(schema, row)
    row.cells = json.dumps(json.loads(row.cells) | {n: new for n, (_, new) in changes.items()})
    record = held(schema, row).record
    entries = per_field(replace(entry, record=record.digest()), changes)
    row.version = append(session, entries)[-1].number
    return Held(record, row.version)


def _stored(session: Session, patient: str) -> StoredRecord:
    query = select(StoredRecord).join(StoredPatient, StoredPatient.id == StoredRecord.patient_id)
    row = session.scalar(query.where(StoredPatient.name == patient))
    if row is None:
        raise RecordError(f"there is no patient {patient!r} in the study")
    return row


def _check_version(session: Session, patient: str, row: StoredRecord, version: int) -> None:
    if row.version != version:
        later = [e for e in read_entries(session, patient) if e.number > version]
        raise Changed(patient, [e for e in later if e.act in CHANGES])


def _stacks(entries: Sequence[Entry]) -> tuple[list[list[Entry]], list[list[Entry]]]:
    """Return the corrections that stand, and those that were undone, last one last."""
    steps: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.act in (Act.CORRECTED, Act.UNDONE, Act.REDONE):
            steps.setdefault(entry.step, []).append(entry)
    done: list[list[Entry]] = []
    undone: list[list[Entry]] = []
    for step in steps.values():
        if step[0].act is Act.UNDONE:
            undone.append(done.pop())
        elif step[0].act is Act.REDONE:
            done.append(undone.pop())
        else:
            done.append(step)
            undone.clear()
    return done, undone


def _said(entry: Entry) -> str:
    old, new = (text or "missing" for text in (entry.old, entry.new))
    when = f"{entry.when:%Y-%m-%d at %H:%M} UTC"
    return f"{entry.field or 'it'} was {entry.act} from {old} to {new} by {entry.who} on {when}"
