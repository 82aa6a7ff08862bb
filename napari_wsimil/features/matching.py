"""Survey: which files of a folder are the features of which slides, and what does not fit."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import SUFFIXES, Confirmed
from napari_wsimil.features.importers.open import read_stated, with_patches
from napari_wsimil.features.report import passport
from napari_wsimil.features.values import odd_norms
from napari_wsimil.progress import Progress
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from napari_wsimil.features.report import Passport
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.slide import Slide

#: Where tools put features below the folder that they are given.
_BELOW = ("h5_files", "features_*", "pt_files")


class SlideLike(Protocol):
    """A slide of a study; rows of a manifest are such."""

    @property
    def slide(self) -> str: ...
    @property
    def slide_path(self) -> Path | None: ...
    @property
    def mpp(self) -> float | None: ...


@dataclass(frozen=True)
class Match:
    """A file of features, the slide it is of, and its passport."""

    slide: str
    features: Path
    passport: Passport
    confirmed: Confirmed


@dataclass(frozen=True)
class LinkedFeatures:
    """Features of a slide, as far as others are compared with them.

    Attributes
    ----------
    slide, encoder, dim
        The slide's name, the encoder's, and D.
    content, norm
        As in `Passport`; empty and 0 where they are not known.
    """

    slide: str
    encoder: str
    dim: int
    content: str
    norm: float

    @classmethod
    def of(cls, match: Match) -> Self:
        """Return those of a match."""
        shown = match.passport
        return cls(match.slide, shown.encoder, shown.dim, shown.content, shown.norm or 0.0)


@dataclass(frozen=True)
class Mismatch:
    """What does not fit: a slide or a file by name, why, and whether it cannot be read."""

    what: str
    why: str
    failed: bool = False


@dataclass(frozen=True)
class Survey:
    """What a folder of features has for the slides of a study.

    Attributes
    ----------
    matches
        Files whose slide is known, refused ones too: see their passports.
    mismatches
        Slides without features, features without slide, files that cannot be read.
    """

    matches: tuple[Match, ...]
    mismatches: tuple[Mismatch, ...]


def survey_features(
    folder: Path | str,
    slides: Sequence[SlideLike],
    confirmed: Confirmed | None = None,
    names: Mapping[str, str] | None = None,
    linked: Sequence[LinkedFeatures] = (),
) -> Work[Survey]:
    """Yield after every file; return which of a folder's files are of which slides.

    A file is of the slide that has its name, or the name before the first dot. Features
    whose slide has no image, or one that cannot be opened, are checked without it.

    Parameters
    ----------
    folder
        A folder of features, or that of a tool's job with one such folder below it.
    slides
        Those of the study.
    confirmed
        What a person says of all files of the folder.
    names
        Names of slides by those that files may have in their stead, such as the identifiers
        that a study's pseudonyms stand for.
    linked
        Features that slides have already: equal ones of another slide are refused.

    Raises
    ------
    ValueError
        If there are no features in the folder, or several folders of them below it.
    OSError
        If the folder cannot be read.
    """
    files = feature_files(Path(folder))
    given = confirmed or Confirmed()
    named = _by_slide(files, slides, names or {})
    rows = {row.slide: row for row in slides}
    matches: list[Match] = []
    lost: list[Mismatch] = []
    for done, (path, slide) in enumerate(named.items(), 1):
        if slide is None:
            lost.append(Mismatch(path.name, "no slide of the study has this name"))
        elif slide in {match.slide for match in matches}:
            lost.append(Mismatch(path.name, f"slide {slide!r} has features in another file"))
        else:
            try:
                matches.append(inspect(path, rows[slide], given))
            except (ValueError, OSError) as error:
                lost.append(Mismatch(path.name, str(error), failed=True))
        yield Progress(done, len(named))
    matches = _compared(matches, linked)
    found = {slide for slide in named.values() if slide is not None}
    lost += [Mismatch(row.slide, "no features") for row in slides if row.slide not in found]
    return Survey(tuple(matches), tuple(lost))


def _compared(matches: Sequence[Match], linked: Sequence[LinkedFeatures]) -> list[Match]:
    """Return matches compared with each other and with features linked already."""
    own = [LinkedFeatures.of(match) for match in matches]
    new = {one.slide for one in own}
    every = [*own, *(one for one in linked if one.slide not in new)]
    remarks = dict(zip((one.slide for one in every), _odd_norms(every), strict=True))
    return [_remarked(match, every, remarks[match.slide]) for match in matches]


def _remarked(match: Match, every: Sequence[LinkedFeatures], remark: str) -> Match:
    """Return a match; its passport names equal features, or has a remark on values."""
    shown = match.passport
    equal = [
        one.slide
        for one in every
        if shown.content and one.content == shown.content and one.slide != match.slide
    ]
    values = next(check for check in shown.checks if check.name == "values")
    if equal:
        text = f"the features equal those of {', '.join(equal)}: one of the files is misnamed"
        other = replace(values, verdict=Verdict.REFUSED, sentence=text)
    elif remark and values.verdict is not Verdict.REFUSED:
        other = replace(values, verdict=Verdict.WARNED, sentence=remark)
    else:
        return match
    checks = tuple(other if check is values else check for check in shown.checks)
    return replace(match, passport=replace(shown, checks=checks))


def _odd_norms(every: Sequence[LinkedFeatures]) -> list[str]:
    """Return a sentence for features far longer or shorter than the others'."""
    remarks = [""] * len(every)
    for kind in {(one.encoder, one.dim) for one in every}:
        places = [i for i, one in enumerate(every) if (one.encoder, one.dim) == kind]
        places = [i for i in places if every[i].norm]
        for i, remark in zip(places, odd_norms([every[i].norm for i in places]), strict=True):
            remarks[i] = remark
    return remarks


def inspect(path: Path | str, slide: SlideLike, confirmed: Confirmed) -> Match:
    """Return a file as features of a slide, with its passport.

    Raises
    ------
    ValueError, OSError
        If the file cannot be read.
    """
    path = Path(path)
    confirmed = with_patches(path, confirmed)
    stated = read_stated(path, confirmed)
    if confirmed.mpp is None and slide.mpp is not None:
        confirmed = replace(confirmed, mpp=slide.mpp)
    opened, why = _opened(slide)
    with opened as image:
        found = passport(stated, confirmed, image)
        mpp = None if image is None else image.resolution.mpp
    if why:
        found = replace(found, notes=(*found.notes, why))
    if confirmed.mpp is None and stated.mpp is None and mpp is not None:
        confirmed = replace(confirmed, mpp=mpp)
    return Match(slide.slide, path, found, confirmed)


def feature_files(folder: Path | str) -> tuple[Path, ...]:
    """Return the files of features in a folder, or in the one such folder below it.

    Raises
    ------
    ValueError
        If there are none, or several folders of them.
    """
    folder = Path(folder)
    if found := _files(folder):
        return found
    below = {path: files for pattern in _BELOW for path in sorted(folder.glob(pattern))
             if (files := _files(path))}  # fmt: skip
    if len(below) == 2 and {path.name for path in below} == {"h5_files", "pt_files"}:
        return below[folder / "h5_files"]  # CLAM writes the same features twice
    if len(below) > 1:
        names = ", ".join(path.name for path in below)
        raise ValueError(f"{folder}: has features in {names}: give one of these folders")
    if not below:
        raise ValueError(f"{folder}: no features in it ({', '.join(SUFFIXES)})")
    return next(iter(below.values()))


def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(
        entry
        for entry in sorted(folder.iterdir() if folder.is_dir() else ())
        if entry.suffix.lower() in SUFFIXES
        and not entry.name.startswith(".")
        and not entry.name.endswith("_patches.h5")
    )


def _by_slide(
    files: Sequence[Path], slides: Sequence[SlideLike], others: Mapping[str, str]
) -> dict[Path, str | None]:
    """Return the slide each file is of, None where none is."""
    names = {row.slide: row.slide for row in slides}
    names = {name: slide for name, slide in others.items() if slide in names} | names
    for row in slides:
        if row.slide_path is not None:
            names.setdefault(row.slide_path.stem, row.slide)
    short: dict[str, set[str]] = {}
    for name, slide in names.items():
        short.setdefault(name.partition(".")[0], set()).add(slide)
    found: dict[Path, str | None] = {}
    for path in files:
        near = short.get(path.stem.partition(".")[0], set())
        found[path] = names.get(path.stem) or (next(iter(near)) if len(near) == 1 else None)
    return found


def _opened(slide: SlideLike) -> tuple[AbstractContextManager[Slide | None], str]:
    """Return the slide opened, or nothing and why not."""
    if slide.slide_path is None:
        return nullcontext(), ""
    try:
        return open_slide(slide.slide_path, slide.mpp), ""
    except SlideError as error:
        return nullcontext(), f"not checked against the slide: {error}"
