"""Creating and opening studies.

A study is a folder of patients, slides and clinical records.

The database `study.db` has patients, records, predictions and the audit log. Beside it are the
folders `features/`, `models/`, `maps/`, `exports/` and `backups/`.

The schema is stored in the database as YAML text, not in a file of its own: every change of it
is thus one transaction with its audit entry.
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
from napari_wsimil.study.connection import WAIT_S
from napari_wsimil.study.database import create_database, open_database
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
    """Create a study in a folder; return it open.

    Parameters
    ----------
    folder
        Folder of the study, new or existing; other files in it are left alone.
    schema
        Schema of the records.
    name
        Name of the study; the folder's name if empty.
    unit
        Unit of prediction: patient or slide.
    who
        User name for the audit log; that of the operating system if None.

    Raises
    ------
    StudyError
        If the folder has a study already.
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
        entry = drafted(who or user_name(), Act.SCHEMA, why="study created")
        append(session, per_field(entry, {"schema": ("", facts["schema"])}))

    for part in ("", *FOLDERS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    create_database(folder / DATABASE, fill)
    return open_study(folder, who=who)


def study_of_folder(slides: Path | str, folder: Path | str, *, who: str | None = None) -> Study:
    """Create a study of one case per slide.

    Subfolders are included. The study is returned open. Cases are named P0001 and so on, since
    file names may name patients. Their records have no fields yet.

    Raises
    ------
    RecordError
        If there are no slides, or the target folder has a study already.
    OSError
        If a folder cannot be read or written.
    """
    slides = Path(slides)
    folder = Path(folder)
    cases = cases_in(slides)
    study = create_study(folder, NO_FIELDS, who=who)
    study.add(cases, "cases created from a folder")
    return study


def open_study(
    folder: str | Path, *, who: str | None = None, wait_s: float = WAIT_S, clock: Clock = utc_now
) -> Study:
    """Open a study, read-only where it cannot be written.

    `Study.read_only` has the reason.

    Parameters
    ----------
    folder
        Folder of the study.
    who
        User name for the audit log; that of the operating system if None.
    wait_s
        Seconds to wait for other programs that write.
    clock
        Clock that dates the backups.

    Raises
    ------
    StudyError
        If there is no study, or it cannot be read at all.
    """
    folder = Path(os.path.abspath(folder))
    return Study(folder, open_database(folder / DATABASE, wait_s, clock), who or user_name())


def is_study(path: str | Path) -> bool:
    """Return whether a folder is a study."""
    return (Path(path) / DATABASE).is_file()


def user_name() -> str:
    """Return the user name in the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return f"user {os.getuid()}"
