"""Runs: the models that were trained on a study, and which patients they learned from."""

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


#: Beside the figures of a run, why some are not defined.
_REASONS = "reasons"


@dataclass(frozen=True)
class Run:
    """A model that was trained on a study.

    Attributes
    ----------
    when, who
        UTC, and the name of the user of the operating system.
    method
        Name in the registry of models.
    model
        SHA-256 of the weights in hex, as the ledger's entries carry it.
    name, path
        The checkpoint's file, and where it lay when it was written; None if that was neither
        in the study nor below one of its roots.
    figures
        What training ended with, by name; None where a figure is not defined.
    reasons
        Why a figure is not defined, by its name.
    patients
        How many it was trained and selected on, those forgotten since among them.
    trained, selected
        Who of them is in the study, by name.
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
    """The runs of an open study; `who` is written beside each."""

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
        """Keep a run that has ended; what the arguments are is said in `Run`.

        A patient who was forgotten meanwhile is counted, and not named.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        path = Path(path)
        picked = dict.fromkeys(trained, False) | dict.fromkeys(selected, True)
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
                    patients=len(picked),
                    members=_members(session, picked),
                )
            )

    def read(self, patient: str | None = None) -> tuple[Run, ...]:
        """Return the runs, oldest first; those that learned from one patient if one is named.

        Raises
        ------
        StudyError
            If a path climbs out of the study, or the database cannot be read.
        """
        query = select(StoredRun).order_by(StoredRun.id)
        if patient is not None:
            theirs = select(StoredMember.run_id).join(StoredPatient)
            query = query.where(StoredRun.id.in_(theirs.where(StoredPatient.name == patient)))
        load = selectinload(StoredRun.members).options(joinedload(StoredMember.patient))
        with self._database.reading() as session:
            roots = roots_of(session, self._folder)
            return tuple(_run(row, roots) for row in session.scalars(query.options(load)))


def _members(session: Session, picked: Mapping[str, bool]) -> list[StoredMember]:
    numbers = dict(session.execute(select(StoredPatient.name, StoredPatient.id)).all())
    return [
        StoredMember(patient_id=numbers[name], selected=selected)
        for name, selected in picked.items()
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
