"""Stored: the tables of a study's database.

Label, split and outcome are columns of the patient, and of the slide in a study whose
predictions are of slides: a slide without its own has its patient's. Runs, predictions and
reviews came with version 2, the slide's columns with version 3: an older study that may be
written gets what it lacks when it is opened, one that may not has none of these values.
"""

from __future__ import annotations

from sqlalchemy import DDL, ForeignKey, UniqueConstraint, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

#: Version of the tables, SQLite's `user_version`; and what marks a database as ours.
VERSION = 3
APPLICATION = 0x57534D4C  # "WSML"


class Base(DeclarativeBase):
    """What the tables are declared from."""


class Fact(Base):
    """What holds for the whole study: its name, its unit, its schema as YAML, its identity."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Root(Base):
    """A folder outside the study, below which it has files; moved by changing this row."""

    __tablename__ = "roots"

    name: Mapped[str] = mapped_column(primary_key=True)
    folder: Mapped[str]


class StoredPatient(Base):
    """A patient: pseudonym, label, split and outcome."""

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
    """A patient's record: JSON of text by field, and the ledger's number of its last change."""

    __tablename__ = "records"

    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), primary_key=True)
    version: Mapped[int]
    cells: Mapped[str]


class StoredSlide(Base):
    """A slide; where its image is, and its own label, split and outcome, if it has them."""

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
    """The features of a slide: where they are, and what was said and checked of them."""

    __tablename__ = "features"

    slide_id: Mapped[int] = mapped_column(ForeignKey("slides.id"), primary_key=True)
    root: Mapped[str]
    path: Mapped[str]
    encoder: Mapped[str] = mapped_column(default="")
    verified: Mapped[bool] = mapped_column(default=False)
    facts: Mapped[str] = mapped_column(default="{}")


class StoredRun(Base):
    """A model that was trained on the study: by whom and when, its file, hash and figures.

    `patients` counts whom it was trained and selected on; of them `members` are still here.
    Without a root the path is the name of a file that lies elsewhere.
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
    """A patient whom a model was trained on, or selected on."""

    __tablename__ = "run_patients"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), primary_key=True, index=True)
    selected: Mapped[bool]
    patient: Mapped[StoredPatient] = relationship(back_populates="runs")


class StoredPrediction(Base):
    """What a model said last of a patient, or of a slide, under one record: JSON of numbers.

    `slide` is empty where it is said of the patient, `record` where the model reads none.
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
    """A person's verdict on what a model said of a patient, or of a slide; it stays as it is."""

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
    """A link of the ledger's chain; `content` and its salt are gone once erased."""

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
_HELD = (
    "CREATE TRIGGER reviews_hold BEFORE UPDATE ON reviews "
    "BEGIN SELECT RAISE(ABORT, 'reviews are only added to'); END"
)
for _table, _trigger in (
    *((StoredEntry.__table__, trigger) for trigger in _TRIGGERS),
    (StoredReview.__table__, _HELD),
):
    event.listen(_table, "after_create", DDL(_trigger))  # type: ignore[no-untyped-call]
