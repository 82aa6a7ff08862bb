"""Tables of a study's database.

Patients have columns for label, split and outcome. Slides have the same columns in a study that
predicts per slide; an empty one means the patient's value. Version 2 added runs, predictions and
reviews, version 3 the columns of slides. Opening an older study adds missing tables and columns;
in a read-only study these values are empty.
"""

from __future__ import annotations

from sqlalchemy import DDL, ForeignKey, UniqueConstraint, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

#: Version of the tables (SQLite's `user_version`), and our `application_id`.
VERSION = 3
APPLICATION = 0x57534D4C  # "WSML"


class Base(DeclarativeBase):
    """Declarative base of the tables."""


class Fact(Base):
    """Fact about the whole study.

    Facts are its name, unit of prediction, schema as YAML, identity and outcome.
    """

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Root(Base):
    """Folder outside the study that has files of it.

    If the folder moves, only this row changes.
    """

    __tablename__ = "roots"

    name: Mapped[str] = mapped_column(primary_key=True)
    folder: Mapped[str]


class StoredPatient(Base):
    """Patient: pseudonym, label, split and outcome."""

    __tablename__ = "patients"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str | None]
    split: Mapped[str | None]
    time: Mapped[float | None]
    event: Mapped[bool | None]
    slides: Mapped[list[StoredSlide]] = relationship(
        order_by="StoredSlide.id", cascade="all, delete-orphan", back_populates="patient"
    )
    record: Mapped[StoredRecord | None] = relationship(cascade="all, delete-orphan")
    runs: Mapped[list[StoredMember]] = relationship(
        cascade="all, delete-orphan", back_populates="patient"
    )
    predictions: Mapped[list[StoredPrediction]] = relationship(
        cascade="all, delete-orphan", back_populates="patient"
    )
    reviews: Mapped[list[StoredReview]] = relationship(
        cascade="all, delete-orphan", back_populates="patient"
    )


class StoredRecord(Base):
    """Record of a patient: JSON of text by field.

    `version` is the number of the audit entry that changed it last.
    """

    __tablename__ = "records"

    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), primary_key=True)
    version: Mapped[int]
    cells: Mapped[str]


class StoredSlide(Base):
    """Slide: image file, and optional label, split and outcome."""

    __tablename__ = "slides"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    root: Mapped[str | None]
    path: Mapped[str | None]
    mpp: Mapped[float | None]
    label: Mapped[str | None]
    split: Mapped[str | None]
    time: Mapped[float | None]
    event: Mapped[bool | None]
    patient: Mapped[StoredPatient] = relationship(back_populates="slides")
    features: Mapped[StoredFeatures | None] = relationship(cascade="all, delete-orphan")


class StoredFeatures(Base):
    """Features of a slide: file, encoder and results of checks."""

    __tablename__ = "features"

    slide_id: Mapped[int] = mapped_column(ForeignKey("slides.id"), primary_key=True)
    root: Mapped[str]
    path: Mapped[str]
    encoder: Mapped[str] = mapped_column(default="")
    verified: Mapped[bool] = mapped_column(default=False)
    facts: Mapped[str] = mapped_column(default="{}")


class StoredRun(Base):
    """Training run: time, user, model file, hash and metrics.

    `patients` counts the training and validation patients; `members` are those not erased
    since. Without a root, the path is the name of a file elsewhere.
    """

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    who: Mapped[str]
    method: Mapped[str]
    model: Mapped[str]
    root: Mapped[str | None]
    path: Mapped[str]
    figures: Mapped[str]
    patients: Mapped[int]
    members: Mapped[list[StoredMember]] = relationship(cascade="all, delete-orphan")


class StoredMember(Base):
    """Training patient of a run; if `selected`, a validation patient."""

    __tablename__ = "run_patients"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), primary_key=True, index=True)
    selected: Mapped[bool]
    patient: Mapped[StoredPatient] = relationship(back_populates="runs")


class StoredPrediction(Base):
    """Latest prediction of a patient or slide by one model.

    There is one per record. `answer` is JSON of numbers; `slide` is empty for a prediction of
    the patient, `record` if the model reads none.
    """

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("patient_id", "slide", "model", "record"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"))
    slide: Mapped[str]
    model: Mapped[str]
    record: Mapped[str]
    features: Mapped[str]
    at: Mapped[str]
    answer: Mapped[str]
    patient: Mapped[StoredPatient] = relationship(back_populates="predictions")


class StoredReview(Base):
    """Verdict of a person on a prediction; never updated."""

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), index=True)
    slide: Mapped[str]
    at: Mapped[str]
    who: Mapped[str]
    verdict: Mapped[str]
    why: Mapped[str]
    model: Mapped[str]
    said: Mapped[str]
    patient: Mapped[StoredPatient] = relationship(back_populates="reviews")


class StoredEntry(Base):
    """Entry of the audit log; erasing empties `content` and `salt`."""

    __tablename__ = "ledger"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  # SQLAlchemy's own

    number: Mapped[int] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(index=True)
    content: Mapped[str | None]
    salt: Mapped[str | None]
    digest: Mapped[str]
    previous: Mapped[str]
    hash: Mapped[str]


_REFUSED = "SELECT RAISE(ABORT, 'the ledger is only added to')"
_TRIGGERS = (
    f"CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger BEGIN {_REFUSED}; END",
    "CREATE TRIGGER ledger_holds BEFORE UPDATE ON ledger WHEN NOT ("
    "NEW.content IS NULL AND NEW.salt IS NULL AND NEW.patient = '' "
    "AND NEW.number = OLD.number AND NEW.digest = OLD.digest "
    f"AND NEW.previous = OLD.previous AND NEW.hash = OLD.hash) BEGIN {_REFUSED}; END",
)
_REVIEW_TRIGGER = (
    "CREATE TRIGGER reviews_hold BEFORE UPDATE ON reviews "
    "BEGIN SELECT RAISE(ABORT, 'reviews are only added to'); END"
)
for _table, _trigger in (
    *((StoredEntry.__table__, trigger) for trigger in _TRIGGERS),
    (StoredReview.__table__, _REVIEW_TRIGGER),
):
    event.listen(_table, "after_create", DDL(_trigger))  # type: ignore[no-untyped-call]
