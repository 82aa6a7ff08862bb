"""Check of encoders, scales and duplicates in a cohort's features.

Features of several encoders are an error, and so are several µm per pixel or patch sizes
unless the user accepts them. Two patients with the same features or TCGA barcode are one
patient twice and leak the label from training to test, which is an error too. Two patients
can share a slide file, as in a tissue microarray; a note reports their number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from napari_wsimil.cohort.table_import.slide_matching import participant_of
from napari_wsimil.features.bag import reading_caveats
from napari_wsimil.features.values import odd_norms
from napari_wsimil.models.card import pseudonym
from napari_wsimil.models.training_features import MPP_TOLERANCE, TrainingFeatures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.features.bag_facts import BagFacts
    from napari_wsimil.models.card import Card

Value = TypeVar("Value", float, int, str)

#: Remedy for several scales, for messages of command line and window.
_ACCEPT = "extract them anew at one, or accept mixed scales (--mixed-scales)"
#: Largest number of names or values in a message.
_MOST = 4


@dataclass(frozen=True)
class SlideFeatures:
    """The features of one slide of a cohort.

    Attributes
    ----------
    slide, person
        Names of the slide and its patient.
    barcode
        Patient part of a TCGA barcode in one of the names; empty if there is none.
    facts
        Facts of the bag.
    """

    slide: str
    person: str
    barcode: str
    facts: BagFacts

    @property
    def keys(self) -> tuple[str, ...]:
        """Hash and barcode, which different patients must not share."""
        return (self.facts.content, self.barcode) if self.barcode else (self.facts.content,)


def slide_features(patient: Patient, facts: Sequence[BagFacts]) -> list[SlideFeatures]:
    """Return the features of a patient's slides, in order."""
    return [
        SlideFeatures(slide.slide, patient.person, participant_of(patient.person, slide), one)
        for slide, one in zip(patient.slides, facts, strict=True)
    ]


@dataclass(frozen=True)
class FeatureReport:
    """Problems and notes on the features of a cohort.

    Attributes
    ----------
    problem
        Reason that prevents training on these features; empty if there is none.
    scales
        Sentences on several µm per pixel or patch sizes, which the user must accept.
    remarks
        Further notes.
    """

    problem: str = ""
    scales: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def report_features(rows: Sequence[SlideFeatures]) -> FeatureReport:
    """Return problems and notes on the features of a cohort."""
    encoders = Counter(row.facts.encoder or "an unnamed encoder" for row in rows)
    if len(encoders) > 1:
        listed = ", ".join(f"{name} ({_slides(n)})" for name, n in sorted(encoders.items()))
        return FeatureReport(
            f"the features are of several encoders, {listed}: extract them with one encoder"
        )
    unsure = reading_caveats((row.facts.reading for row in rows), sure=False)
    return FeatureReport(
        problem="; ".join(shared_slides(rows)),
        scales=tuple(scale_problems([row.facts for row in rows])),
        remarks=(*_unknown(rows), *_repeated(rows), *_one_file(rows), *unsure, *_odd_values(rows)),
    )


def check_features(rows: Sequence[SlideFeatures], mixed: bool = False) -> tuple[str, ...]:
    """Check the features of a cohort before training; return notes.

    Parameters
    ----------
    mixed
        Whether several µm per pixel and patch sizes are accepted; notes then list them.

    Raises
    ------
    ValueError
        If features are of several encoders or scales, or two patients share features or a
        TCGA barcode.
    """
    report = report_features(rows)
    if report.problem:
        raise ValueError(report.problem)
    if report.scales and not mixed:
        raise ValueError(f"{'; '.join(report.scales)}: {_ACCEPT}")
    return (*report.scales, *report.remarks)


def scale_problems(facts: Sequence[BagFacts]) -> list[str]:
    """Return sentences on several µm per pixel or patch sizes."""
    problems = []
    mpp = [one.mpp for one in facts if one.mpp is not None]
    if mpp and any(abs(one / median(mpp) - 1) > MPP_TOLERANCE for one in mpp):
        counts = Counter(float(f"{one:.3g}") for one in mpp)
        problems.append(f"the features are of several µm per pixel, {_counted(counts)}")
    pixels = Counter(one.pixels for one in facts if one.pixels is not None)
    if len(pixels) > 1:
        problems.append(f"the features are of several patch sizes in pixels, {_counted(pixels)}")
    return problems


def card_problems(card: Card, facts: Sequence[BagFacts]) -> list[str]:
    """Return sentences on scales other than in training."""
    learned, problems = card.features, []
    mpp = [one.mpp for one in facts if one.mpp is not None]
    odd = [one for one in mpp if not card.admits_mpp(one)]
    if odd:
        counts = Counter(float(f"{one:.3g}") for one in odd)
        stated = f"{card.mpp:g}" if learned is None else _between(learned.mpp)
        problems.append(
            f"the features of {len(odd)} of {_slides(len(facts))} have other µm per pixel, "
            f"{_counted(counts)}; the model was trained at {stated}"
        )
    sizes = Counter(
        one.pixels for one in facts if one.pixels and not card.admits_pixels(one.pixels)
    )
    if sizes:
        stated = f"{card.pixels}" if learned is None else _between(learned.pixels)
        problems.append(
            f"the patches of {sizes.total()} of {_slides(len(facts))} have other sizes in "
            f"pixels, {_counted(sizes)}; the model was trained on {stated}"
        )
    return problems


def compare_features(
    card: Card, rows: Sequence[SlideFeatures], mixed: bool = False
) -> tuple[str, ...]:
    """Compare the features of an evaluation with a card.

    Returns notes.

    Raises
    ------
    ValueError
        If their scale differs from that of the card and `mixed` is not set.
    """
    problems = card_problems(card, [row.facts for row in rows])
    if problems and not mixed:
        raise ValueError(f"{'; '.join(problems)}: {_ACCEPT}")
    remarks = (*_unknown(rows), *_repeated(rows), *shared_slides(rows), *_known_slides(card, rows))
    return (*problems, *remarks, *_far_values(card, rows))


def known_persons(card: Card, rows: Sequence[SlideFeatures]) -> set[str]:
    """Return the patients known to the model by features.

    They share features or a TCGA barcode with a training or validation patient.
    """
    if card.features is None:
        return set()
    known = set(card.features.known)
    return {
        row.person for row in rows if any(pseudonym(key, card.salt) in known for key in row.keys)
    }


def training_features(rows: Sequence[SlideFeatures], salt: str) -> TrainingFeatures:
    """Return the training features for a card."""
    known = [pseudonym(key, salt) for row in rows for key in (*row.keys, row.facts.slide) if key]
    return TrainingFeatures.of([row.facts for row in rows], known)


def shared_slides(rows: Sequence[SlideFeatures]) -> list[str]:
    """Return sentences on keys shared by different patients."""
    keys: dict[str, Callable[[SlideFeatures], str]] = {
        "features": lambda row: row.facts.content,
        "TCGA barcode": lambda row: row.barcode,
    }
    problems: list[str] = []
    reported: set[tuple[SlideFeatures, ...]] = set()
    for name, key in keys.items():
        groups: defaultdict[str, list[SlideFeatures]] = defaultdict(list)
        for row in rows:
            groups[key(row)].append(row)
        groups.pop("", None)
        shared = [tuple(some) for some in groups.values() if len({r.person for r in some}) > 1]
        new = [some for some in shared if some not in reported]
        reported.update(new)
        problems += [_shared(name, new)] if new else []
    return problems


def _shared(key: str, groups: Sequence[Sequence[SlideFeatures]]) -> str:
    persons = len({row.person for some in groups for row in some})
    names = [" and ".join(row.slide for row in some) for some in groups]
    return (
        f"{persons} patients have the same {key} ({_listed(names)}): one patient under "
        "several names, or a wrong file? Give these slides one patient, or leave one out"
    )


def _unknown(rows: Sequence[SlideFeatures]) -> tuple[str, ...]:
    grids = [row.facts for row in rows if row.facts.pixels is not None]
    unknown = [one for one in grids if one.mpp is None]
    if not unknown:
        return ()
    sizes = [one.patch_size for one in unknown if one.patch_size is not None]
    return (
        f"the µm per pixel of {len(unknown)} of {_slides(len(rows))} is unknown and was not "
        f"compared; their patches are {_between((min(sizes), max(sizes)))} level-0 px wide",
    )


def _one_file(rows: Sequence[SlideFeatures]) -> tuple[str, ...]:
    pairs = {(row.facts.slide, row.person) for row in rows if row.facts.slide}
    shared = [slide for slide, n in Counter(slide for slide, _ in pairs).items() if n > 1]
    if not shared:
        return ()
    files = "1 slide file is" if len(shared) == 1 else f"{len(shared)} slide files are"
    persons = sum(slide in shared for slide, _ in pairs)
    return (f"{files} shared by {persons} patients: right for a tissue microarray only",)


def _known_slides(card: Card, rows: Sequence[SlideFeatures]) -> tuple[str, ...]:
    """Return a note on known slide files of unknown patients.

    The model was trained on these slide files, but under other patients.
    """
    if card.features is None:
        return ()
    known, slides = set(card.features.known), [r for r in rows if not card.trained_on(r.person)]
    seen = sum(pseudonym(row.facts.slide, card.salt) in known for row in slides if row.facts.slide)
    text = f"the model was trained on the slide files of {_slides(seen)} of other patients here"
    return (text,) if seen else ()


def _repeated(rows: Sequence[SlideFeatures]) -> tuple[str, ...]:
    counts = Counter((row.person, row.facts.content) for row in rows)
    count = sum(n - 1 for n in counts.values())
    if not count:
        return ()
    have = "has" if count == 1 else "have"
    return (f"{_slides(count)} {have} the features of another slide of the same patient",)


def _odd_values(rows: Sequence[SlideFeatures]) -> tuple[str, ...]:
    """Return notes on slides with implausible feature values.

    The notes count slides and do not name them, since they are stored in a card.
    """
    zero = sum(not row.facts.norm for row in rows)
    differing = [row.facts for row in rows if row.facts.norm]
    equal = sum(one.patches > 1 and not one.spread for one in differing)
    norms = [one.norm for one in differing]
    odd = [norm for norm, remark in zip(norms, odd_norms(norms), strict=True) if remark]
    counts = {
        "features that are all 0": zero,
        "equal features in every patch": equal,
        f"features far longer or shorter than in other slides (median length {_span(odd)}, of all "
        f"{_span([median(norms or [0])])})": len(odd),
    }
    return tuple(
        f"{count} of {_slides(len(rows))} {'has' if count == 1 else 'have'} {text}: check files "
        "with napari-wsimil info"
        for text, count in counts.items()
        if count
    )


def _far_values(card: Card, rows: Sequence[SlideFeatures]) -> tuple[str, ...]:
    """Return a note on features far from the training features.

    There is no note if the card has no statistics of these.
    """
    learned = card.features
    if learned is None:
        return ()
    facts = [row.facts for row in rows]
    far = [one for one in facts if learned.remarks(one.norm, one.spread, one.patches)]
    if not far:
        return ()
    return (
        f"the features of {len(far)} of {_slides(len(rows))} are far from those of training: "
        f"median length {_span([one.norm for one in far])}, in training {_span(learned.norm)}; "
        f"spread {_span([one.spread for one in far])}, in training {_span(learned.spread)}",
    )


def _span(values: Sequence[float]) -> str:
    """Return lowest and highest value as text, with three digits."""
    low, high = (f"{end:.3g}" for end in (min(values, default=0), max(values, default=0)))
    return low if low == high else f"{low} to {high}"


def _counted(counts: Counter[Value]) -> str:
    ordered = sorted(counts.items())
    if len(ordered) > _MOST:
        return f"from {ordered[0][0]:g} to {ordered[-1][0]:g}"
    return ", ".join(f"{value:g} ({_slides(n)})" for value, n in ordered)


def _between(pair: tuple[float, float] | None) -> str:
    low, high = pair or (0, 0)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _slides(count: int) -> str:
    return "1 slide" if count == 1 else f"{count} slides"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    return ", ".join(every[:_MOST]) + more
