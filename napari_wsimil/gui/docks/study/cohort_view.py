"""CohortView: a study's patients as rows and columns of words, sorted and filtered; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent
from napari_wsimil.cohort.endpoint import Endpoint
from napari_wsimil.study.predictions import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.clinical.field import Field, Value
    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.study.predictions import Review


#: The columns.
ANSWER, REVIEW = "last answer", "last review"


class Said:
    """The last answer and the last review of each patient who has one, by name."""

    def __init__(self, answers: Mapping[str, Answer], reviews: Mapping[str, Review]) -> None:
        self._answers, self._reviews = dict(answers), dict(reviews)
        self._digests: dict[str, str] = {}

    def column(self, kept: Answer | Review) -> str:
        """Return in which column an answer or a review is told."""
        return ANSWER if isinstance(kept, Answer) else REVIEW

    def is_first(self, kept: Answer | Review) -> bool:
        """Return whether nobody has anything in its column yet."""
        return not (self._answers if isinstance(kept, Answer) else self._reviews)

    def take(self, kept: Answer | Review) -> None:
        """Take an answer or a review for the last of its patient."""
        if isinstance(kept, Answer):
            self._answers[kept.patient] = kept
        else:
            self._reviews[kept.patient] = kept

    def forget_record(self, patient: str) -> None:
        """Look at a patient's record anew when it is asked whether an answer is of it."""
        self._digests.pop(patient, None)

    def text(self, patient: str, column: str) -> str:
        """Return the words of a cell."""
        found = (self._answers if column == ANSWER else self._reviews).get(patient)
        return "" if found is None else found.words

    def key(self, patient: str, column: str) -> tuple[float, str, float]:
        """Return what a cell with words is sorted by: risk, or class and how sure; or verdict."""
        if column == REVIEW:
            return (0.0, self._reviews[patient].words.casefold(), 0.0)
        answer = self._answers[patient]
        sure = answer.probabilities.get(answer.likeliest, 0.0)
        return (answer.risk or 0.0, answer.likeliest.casefold(), sure)

    def remark(self, patient: Patient, column: str) -> str:
        """Return why a cell is out of date, empty if it is not."""
        answer, review = self._answers.get(patient.name), self._reviews.get(patient.name)
        if column == REVIEW and review is not None and answer is not None:
            same = (review.model, review.said) == (answer.model, answer.words)
            return "" if same else f"it is of an earlier answer, {review.said}"
        if column == ANSWER and answer is not None and self._is_old(answer, patient):
            return "the record was corrected since"
        return ""

    def _is_old(self, answer: Answer, patient: Patient) -> bool:
        if not answer.record or patient.record is None:
            return False
        if patient.name not in self._digests:
            self._digests[patient.name] = patient.record.digest()
        return self._digests[patient.name] != answer.record


#: What is known of a patient beside the record, as columns.
OWN = ("patient", "slides", "label", ANSWER, REVIEW, "split", "time", "event")

#: Of these, what a slide may have of its own.
_SLIDES_OWN = ("label", "split", "time", "event")

#: How many fields are shown until somebody chooses.
_FIRST_FIELDS = 6


@dataclass(frozen=True)
class Cell:
    """One cell as it is shown.

    Attributes
    ----------
    text
        Words.
    why
        What is odd about it, or which kind of absence it is; empty if nothing is.
    absent
        Whether there is no value.
    """

    text: str
    why: str = ""
    absent: bool = False


class CohortView:
    """The rows that are shown of a cohort, in their order, and the columns.

    Attributes
    ----------
    patients
        All of them, in the order of the study.
    schema, said
        Of their records, and the last answers and reviews.
    columns
        Names of the columns that are shown, of `OWN` and of fields; each row has its
        patient's name beside them.
    rows
        Numbers of the patients that are shown, in order.
    """

    def __init__(self, manifest: Manifest, schema: ClinicalSchema, said: Said) -> None:
        self.patients: list[Patient] = list(manifest.patients)
        self.schema, self.said = schema, said
        self._endpoint = manifest.endpoint
        self._fields: Mapping[str, Field] = schema.by_name
        self.columns = self._first_columns()
        self._words = ""
        self._sorted: tuple[str, bool] = ("", False)
        self._texts: dict[int, str] = {}
        self.rows = list(range(len(self.patients)))

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of all columns there are."""
        return (*OWN, *self._fields)

    def patient(self, row: int) -> Patient:
        """Return the patient of a row that is shown."""
        return self.patients[self.rows[row]]

    def row_of(self, name: str) -> int | None:
        """Return in which row a patient is shown, None if in none."""
        shown = (row for row, i in enumerate(self.rows) if self.patients[i].name == name)
        return next(shown, None)

    def field(self, column: int) -> Field | None:
        """Return the field of a column, None for what is no field."""
        return self._fields.get(self.columns[column])

    def title(self, column: int) -> str:
        """Return what a column is called, with the unit of numbers."""
        field, name = self.field(column), self.columns[column]
        own = self._endpoint if field is None else Endpoint()
        kind = f" ({own.kind})" if own.kind and name in ("time", "event") else ""
        unit = own.unit * (name == "time") if field is None else field.unit
        return f"{name}{kind}{f' [{unit}]' if unit else ''}"

    def cell(self, row: int, column: int) -> Cell:
        """Return a cell as it is shown."""
        patient, field = self.patient(row), self.field(column)
        if field is None:
            name = self.columns[column]
            text = self._own(patient, name)
            why = _of_slides(patient, name) or self.said.remark(patient, name)
            return Cell(text, why, not text)
        value = _value(patient, field)
        if isinstance(value, Absent):
            return Cell("" if value is Absent.MISSING else value.value, value.value, absent=True)
        return Cell(field.format(value), field.remark(value) or self._broken(patient, field))

    def show_columns(self, names: Sequence[str]) -> None:
        """Show these columns, in the order of the study."""
        wanted = set(names)
        self.columns = tuple(name for name in self.choices if name in wanted)
        self._texts.clear()
        self._order()

    def sort(self, column: int, *, falling: bool = False) -> None:
        """Sort by a column, numbers as numbers; who has no value comes last either way."""
        self._sorted = (self.columns[column], falling)
        self._order()

    def search(self, words: str) -> None:
        """Show the patients in whose names and shown columns each of some words is found."""
        self._words = words
        self._order()

    def replace(self, patient: Patient) -> int | None:
        """Take a patient's new record, and return the row it is shown in, which stays."""
        index = next(i for i, one in enumerate(self.patients) if one.name == patient.name)
        self.patients[index] = patient
        self._texts.pop(index, None)
        self.said.forget_record(patient.name)
        return self.row_of(patient.name)

    def take(self, kept: Answer | Review) -> int | None:
        """Take an answer or a review, and return the row it is shown in, which stays.

        The first of all brings its column with it.
        """
        if self.said.is_first(kept):
            shown = (self.said.column(kept), *self.columns)
            self.columns = tuple(name for name in self.choices if name in shown)
        self.said.take(kept)
        self._texts.clear()
        return self.row_of(kept.patient)

    def _first_columns(self) -> tuple[str, ...]:
        said = (name for name in OWN[1:] if any(self._says(p, name) for p in self.patients))
        inputs = self.schema.inputs or tuple(self._fields)
        return (*said, *inputs[:_FIRST_FIELDS]) or ("slides",)

    def _order(self) -> None:
        words = self._words.casefold().split()
        rows = [i for i in range(len(self.patients)) if all(w in self._text(i) for w in words)]
        name, falling = self._sorted
        if name:
            keys = {i: key for i in rows if (key := self._key(i, name)) is not None}
            known = sorted(keys, key=keys.__getitem__, reverse=falling)
            rows = known + [i for i in rows if i not in keys]
        self.rows = rows

    def _key(self, index: int, name: str) -> tuple[float, str, float] | None:
        """Return what a patient is sorted by: a number or rank, else words; None for none."""
        patient, field = self.patients[index], self._fields.get(name)
        if field is None:
            return self._own_key(patient, name)
        value = _value(patient, field)
        if isinstance(value, Absent):
            return None
        number = field.number(value)
        return (0.0 if number is None else number, field.format(value).casefold(), 0.0)

    def _text(self, index: int) -> str:
        if index not in self._texts:
            patient = self.patients[index]
            cells = (self._words_of(patient, name) for name in self.columns)
            self._texts[index] = "\n".join((patient.name, *cells)).casefold()
        return self._texts[index]

    def _words_of(self, patient: Patient, name: str) -> str:
        field = self._fields.get(name)
        if field is None:
            return self._own(patient, name)
        value = _value(patient, field)
        return value.value if isinstance(value, Absent) else field.format(value)

    def _broken(self, patient: Patient, field: Field) -> str:
        if patient.record is None or not self.schema.rules:
            return ""
        broken = self.schema.broken(patient.record)
        return next((sentence for sentence in broken if field.name in sentence.split()), "")

    def _own(self, patient: Patient, name: str) -> str:
        if name in (ANSWER, REVIEW):
            return self.said.text(patient.name, name)
        return _own(patient, name)

    def _own_key(self, patient: Patient, name: str) -> tuple[float, str, float] | None:
        if not (own := self._own(patient, name)):
            return None
        if name in (ANSWER, REVIEW):
            return self.said.key(patient.name, name)
        time = min((t for one in _stating(patient, name) if (t := one.time) is not None), default=0)
        return (float(time) if name == "time" else 0.0, own.casefold(), 0.0)

    def _says(self, patient: Patient, name: str) -> bool:
        """Return whether a column tells something of a patient; one slide is what all have."""
        return len(patient.slides) > 1 if name == "slides" else bool(self._own(patient, name))


def _value(patient: Patient, field: Field) -> Value:
    return Absent.MISSING if patient.record is None else patient.record[field.name]


def _own(patient: Patient, name: str) -> str:
    if name == "patient":
        return patient.name
    if name == "slides":
        return str(len(patient.slides)) if patient.slides else ""
    words = (_own_word(one, name) for one in _stating(patient, name))
    return ", ".join(dict.fromkeys(filter(None, words)))


def _stating(patient: Patient, name: str) -> tuple[Patient, ...]:
    """Return the cases that state a column: the slides if one has a value of its own."""
    if name in _SLIDES_OWN and any(getattr(s, name) is not None for s in patient.slides):
        return patient.slide_cases
    return (patient,)


def _of_slides(patient: Patient, name: str) -> str:
    """Return the value of each slide if slides differ, else an empty text."""
    if name not in _SLIDES_OWN:
        return ""
    words = {case.name: _own_word(case, name) for case in _stating(patient, name)}
    if len(set(words.values())) < 2:
        return ""
    return "; ".join(f"{slide}: {word or 'none'}" for slide, word in words.items())


def _own_word(one: Patient, name: str) -> str:
    if name == "event":
        return "" if one.event is None else "happened" if one.event else "censored"
    if name == "time":
        return "" if one.time is None else f"{one.time:.12g}"
    return str(getattr(one, name) or "")
