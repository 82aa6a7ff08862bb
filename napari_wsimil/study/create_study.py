"""Study: a folder of patients, slides and clinical records, with a ledger of what was done.

`study.db` holds who and what; `features/`, `models/`, `maps/`, `exports/` and `backups/` lie
beside it.
The schema is kept in the database, as YAML text: a change of it is one transaction with its
entry in the ledger, which a file beside could go past.
"""

from __future__ import annotations

import getpass
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.clinical.schema import NO_FIELDS, schema_text
from napari_wsimil.study.audit_entry import Act, append, drafted, per_field
from napari_wsimil.study.backups import utc_now
from napari_wsimil.study.database import WAIT_S, create_database, open_database
from napari_wsimil.study.health import StudyError as StudyError
from napari_wsimil.study.open_study import Study as Study
from napari_wsimil.study.open_study import Unit as Unit
from napari_wsimil.study.orm import Fact
from napari_wsimil.study.patients import cases_in

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.study.backups import Clock

#: The database within a study, and the folders beside it.
DATABASE = "study.db"
FOLDERS = ("features", "models", "maps", "exports")


def create_study(
    folder: str | Path,
    schema: ClinicalSchema,
    *,
    name: str = "",
    unit: Unit = Unit.PATIENT,
    who: str | None = None,
) -> Study:
    """Make a study in a folder, which is made too, and return it open.

    Parameters
    ----------
    folder
        May hold other things, but no study.
    schema
        Of the records.
    name
        What it is called; the folder's name if empty.
    unit
        What predictions are of.
    who
        Who stands in the ledger; the user of the operating system if None.

    Raises
    ------
    StudyError
        If there is a study already.
    OSError
        If the folder cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    facts = {
        "name": name or folder.name,
        "unit": unit.value,
        "identity": uuid.uuid4().hex,
        "schema": schema_text(schema),
    }

    def fill(session: Session) -> None:
        session.add_all(Fact(name=fact, value=value) for fact, value in facts.items())
        entry = drafted(who or user_name(), Act.SCHEMA, why="the study was made")
        append(session, per_field(entry, {"schema": ("", facts["schema"])}))

    for part in ("", *FOLDERS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    create_database(folder / DATABASE, fill)
    return open_study(folder, who=who)


def study_of_folder(slides: Path | str, folder: Path | str, *, who: str | None = None) -> Study:
    """Make a study of the slides in a folder and below, each a case of its own; return it open.

    Cases are called P0001 and so on, since names of files can name patients; their records
    have no fields yet.

    Raises
    ------
    RecordError
        If there are no slides, or there is a study already.
    OSError
        If a folder cannot be read or written.
    """
    slides = Path(slides)
    folder = Path(folder)
    cases = cases_in(slides)
    study = create_study(folder, NO_FIELDS, who=who)
    study.add(cases, "the folder was opened as cases")
    return study


def open_study(
    folder: str | Path, *, who: str | None = None, wait_s: float = WAIT_S, clock: Clock = utc_now
) -> Study:
    """Return the study in a folder; read-only, which it then explains, where it must be.

    Parameters
    ----------
    folder
        The study's.
    who
        Who stands in the ledger; the user of the operating system if None.
    wait_s
        Seconds to wait for other programs that write.
    clock
        Dates the backups.

    Raises
    ------
    StudyError
        If there is no study, or nothing of it can be read.
    """
    folder = Path(os.path.abspath(folder))
    return Study(folder, open_database(folder / DATABASE, wait_s, clock), who or user_name())


def is_study(path: str | Path) -> bool:
    """Return whether a path is the folder of a study."""
    return (Path(path) / DATABASE).is_file()


def user_name() -> str:
    """Return the name of the user of the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"user {os.getuid()}"
