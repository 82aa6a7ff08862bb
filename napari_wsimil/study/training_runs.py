"""Models trained on a study, with training and validation patients."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from napari_wsimil.study.file_links import Place, place_of, resolved, roots_of
from napari_wsimil.study.orm import StoredMember, StoredPatient, StoredRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from napari_wsimil.study.database import Database


#: Key of the reasons for undefined metrics, beside the metrics.
_REASONS = "reasons"


@dataclass(frozen=True)
class Run:
    """Training run on a study.

    Attributes
    ----------
    when, who
        Time in UTC, and the user name in the operating system.
    method
        Name in the registry of models.
    model
        SHA-256 of the weights in hex, as in the audit log.
    name, path
        File name of the checkpoint, and its path when written; `path` is None outside the study
        and its roots.
    figures
        Final metrics by name; None if undefined.
    reasons
        Reason for each undefined metric, by name.
    patients
        Number of training and validation patients, including those erased since.
    trained, selected
        Names of the training and of the validation patients still in the study.
    """

    when: datetime
    who: str
    method: str
    model: str
    name: str
    path: Path | None
    figures: Mapping[str, float | None]
    patients: int
    trained: tuple[str, ...]
    selected: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)


class Runs:
    """Training runs of an open study."""

    def __init__(self, database: Database, folder: Path | str, who: str) -> None:
        self._database, self._folder, self._who = database, folder, who

    def add(
        self,
        method: str,
        model: str,
        path: Path | str,
        figures: Mapping[str, float | None],
        trained: Iterable[str],
        selected: Iterable[str],
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        """Store a finished run; parameters are explained in `Run`.

        Patients that were erased meanwhile are counted, but not named.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        path = Path(path)
        is_selected = dict.fromkeys(trained, False) | dict.fromkeys(selected, True)
        with self._database.writing() as session:
            place = place_of(path, roots_of(session, self._folder))
            session.add(
                StoredRun(
                    at=datetime.now(UTC).isoformat(),
                    who=self._who,
                    method=method,
                    model=model,
                    root=None if place is None else place.root,
                    path=path.name if place is None else place.path,
                    figures=json.dumps(
                        {**figures, **({_REASONS: dict(reasons)} if reasons else {})}
                    ),
                    patients=len(is_selected),
                    members=_members(session, is_selected),
                )
            )

    def read(self, patient: str | None = None) -> tuple[Run, ...]:
        """Return runs, oldest first: all, or those with one patient.

        Raises
        ------
        StudyError
            If a path leaves the study's folder, or the database cannot be read.
        """
        query = select(StoredRun).order_by(StoredRun.id)
        if patient is not None:
            members = select(StoredMember.run_id).join(StoredPatient)
            query = query.where(StoredRun.id.in_(members.where(StoredPatient.name == patient)))
        load = selectinload(StoredRun.members).options(joinedload(StoredMember.patient))
        with self._database.reading() as session:
            roots = roots_of(session, self._folder)
            return tuple(_run(row, roots) for row in session.scalars(query.options(load)))


def _members(session: Session, is_selected: Mapping[str, bool]) -> list[StoredMember]:
    numbers = dict(session.execute(select(StoredPatient.name, StoredPatient.id)).all())
    return [
        StoredMember(patient_id=numbers[name], selected=selected)
        for name, selected in is_selected.items()
        if name in numbers
    ]


def _run(row: StoredRun, roots: Mapping[str, Path]) -> Run:
    names = [(member.selected, member.patient.name) for member in row.members]
    figures = json.loads(row.figures)
    reasons = figures.pop(_REASONS, {})
    return Run(
        when=datetime.fromisoformat(row.at),
        who=row.who,
        method=row.method,
        model=row.model,
        name=row.path.rpartition("/")[2],
        path=None if row.root is None else resolved(Place(row.root, row.path), roots),
        figures={n: None if v is None or math.isnan(v) else v for n, v in figures.items()},
        patients=row.patients,
        trained=tuple(name for selected, name in names if not selected),
        selected=tuple(name for selected, name in names if selected),
        reasons=reasons,
    )
