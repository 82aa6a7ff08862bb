"""Patient records of a study: corrections, history, undo and redo."""

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

#: Actions that change a record.
CHANGES = (Act.IMPORTED, Act.CORRECTED, Act.UNDONE, Act.REDONE)


@dataclass(frozen=True)
class Held:
    """Stored record of a patient and its version.

    Attributes
    ----------
    record
        Values of the record.
    version
        Number of the audit entry that changed it last.
    """

    record: Record
    version: int


class Changed(RecordError):
    """A record was changed by someone else meanwhile.

    Attributes
    ----------
    entries
        Audit entries of the changes since then.
    """

    def __init__(self, patient: str, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        changes = f" ({'; '.join(map(_change_text, entries))})" if entries else ""
        super().__init__(
            f"{patient}'s record was changed by someone else since you opened it{changes}. "
            "Reload and try again; nothing was saved."
        )


class Records:
    """Records of the patients of an open study."""

    def __init__(
        self, database: Database, ledger: Ledger, schema: Callable[[Session], ClinicalSchema]
    ) -> None:
        self._database, self._ledger, self._schema = database, ledger, schema

    def read(self, patient: str) -> Held:
        """Return a patient's record; RecordError for an unknown patient."""
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
        """Change fields of a record, with audit entries.

        Parameters
        ----------
        patient
            Name of the patient.
        changes
            New values by field; values equal to the stored ones change nothing.
        why
            Reason; must not be empty.
        version
            Version of the record on screen; None if only the values of `seen` matter.
        seen
            Values on screen; each must still be the record's.
        model, features, effect
            Displayed model, if any; see `Entry`.

        Raises
        ------
        Changed
            If the record has another version by now.
        RecordError
            If patient or field is unknown, or a value is invalid.
        StudyError
            If the study cannot be written.
        """
        if not why.strip():
            raise RecordError(f"Give a reason for the change of {patient}'s record.")
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
        """Undo the last correction, with an audit entry.

        Raises
        ------
        ValueError
            If there is no correction, or all are undone.
        Changed
            If `version` is given and the record has another one.
        """
        return self._step(patient, version, Act.UNDONE)

    def redo(self, patient: str, *, version: int | None = None) -> Held:
        """Redo the last undone correction, with an audit entry.

        Raises
        ------
        ValueError
            If nothing was undone since the last correction.
        Changed
            If `version` is given and the record has another one.
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
                raise RecordError(f"There is nothing to {verb} in {patient}'s record.")
            is_undo = act is Act.UNDONE
            texts = {e.field: e.old if is_undo else e.new for e in stack[-1]}
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
        raise StudyError(f"A stored record does not fit the study's schema: {error}") from error


def cells_of(row: StoredRecord, schema: ClinicalSchema) -> dict[str, str]:
    """Return the texts of a row by schema field."""
    cells = json.loads(row.cells)
    return {field.name: cells.get(field.name, "") for field in schema.fields}


def exact_texts(schema: ClinicalSchema, values: Mapping[str, Value]) -> dict[str, str]:
    """Return texts by field that parse as exactly these values.

    Raises
    ------
    RecordError
        If a field is unknown, or a value is invalid for its field.
    """
    fields, markers = schema.by_name, schema.markers
    texts = {}
    for name, value in values.items():
        if name not in fields:
            raise RecordError(f"no field {name!r} in schema {schema.name}")
        texts[name] = fields[name].format(value)
        if fields[name].parse(texts[name], markers) != value:
            kind = fields[name].kind.value
            raise RecordError(f"field {name!r} must be a {kind} (got {value!r})")
    return texts


def write(
    session: Session,
    schema: ClinicalSchema,
    row: StoredRecord,
    texts: Mapping[str, str],
    entry: Entry,
) -> Held:
    """Set fields of a row, with an audit entry each."""
    before = cells_of(row, schema)
    if removed := [name for name in texts if name not in before]:
        raise RecordError(f"field {removed[0]!r} was removed from schema {schema.name}")
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
        raise RecordError(f"the study has no patient {patient!r}")
    return row


def _check_version(session: Session, patient: str, row: StoredRecord, version: int) -> None:
    if row.version != version:
        later = [e for e in read_entries(session, patient) if e.number > version]
        raise Changed(patient, [e for e in later if e.act in CHANGES])


def _stacks(entries: Sequence[Entry]) -> tuple[list[list[Entry]], list[list[Entry]]]:
    """Return applied and undone corrections, oldest first."""
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


def _change_text(entry: Entry) -> str:
    old, new = (text or "missing" for text in (entry.old, entry.new))
    when = f"{entry.when:%Y-%m-%d at %H:%M} UTC"
    return f"{entry.field or 'record'} {entry.act} from {old} to {new} by {entry.who} on {when}"
