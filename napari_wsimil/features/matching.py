"""Matching of feature files to the slides of a study."""

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

#: Subfolders in which tools write features below a job's folder.
_BELOW = ("h5_files", "features_*", "pt_files")


class SlideLike(Protocol):
    """Slide of a study, such as a manifest row."""

    @property
    def slide(self) -> str: ...
    @property
    def slide_path(self) -> Path | None: ...
    @property
    def mpp(self) -> float | None: ...


@dataclass(frozen=True)
class Match:
    """Feature file matched to a slide, with its validation report."""

    slide: str
    features: Path
    passport: Passport
    confirmed: Confirmed


@dataclass(frozen=True)
class LinkedFeatures:
    """Features already linked to a slide, for comparison.

    Attributes
    ----------
    slide, encoder, dim
        Names of slide and encoder, and D.
    content, norm
        As in `Passport`; empty and 0 if unknown.
    """

    slide: str
    encoder: str
    dim: int
    content: str
    norm: float

    @classmethod
    def of(cls, match: Match) -> Self:
        """Return the features of a match."""
        report = match.passport
        return cls(match.slide, report.encoder, report.dim, report.content, report.norm or 0.0)


@dataclass(frozen=True)
class Mismatch:
    """Slide or file without a match.

    The fields are its name, the reason, and whether a file is unreadable.
    """

    what: str
    why: str
    failed: bool = False


@dataclass(frozen=True)
class Survey:
    """Feature files of a folder, matched to slides.

    Attributes
    ----------
    matches
        Files with a known slide, including refused ones: see their reports.
    mismatches
        Slides without features, features without a slide, unreadable files.
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
    """Match the feature files of a folder to slides.

    Yields progress after every file. A file matches the slide with its name, or with its
    name before the first dot. Features are validated without the slide if its image is
    missing or cannot be opened.

    Parameters
    ----------
    folder
        Folder of feature files, or a tool's job folder with one such folder below it.
    slides
        Slides of the study.
    confirmed
        User overrides for all files of the folder.
    names
        Slide names by alternative file names, such as the identifiers behind a study's
        pseudonyms.
    linked
        Features already linked to slides: a file equal to those of another slide is refused.

    Raises
    ------
    ValueError
        If the folder has no feature files, or several such folders below it.
    OSError
        If the folder cannot be read.
    """
    files = feature_files(Path(folder))
    overrides = confirmed or Confirmed()
    named = _by_slide(files, slides, names or {})
    rows = {row.slide: row for row in slides}
    matches: list[Match] = []
    mismatches: list[Mismatch] = []
    for done, (path, slide) in enumerate(named.items(), 1):
        if slide is None:
            mismatches.append(Mismatch(path.name, "no slide of the study has this name"))
        elif slide in {match.slide for match in matches}:
            mismatches.append(Mismatch(path.name, f"slide {slide!r} has features in another file"))
        else:
            try:
                matches.append(inspect(path, rows[slide], overrides))
            except (ValueError, OSError) as error:
                mismatches.append(Mismatch(path.name, str(error), failed=True))
        yield Progress(done, len(named))
    matches = _compared(matches, linked)
    covered = set(named.values())
    mismatches += [Mismatch(row.slide, "no features") for row in slides if row.slide not in covered]
    return Survey(tuple(matches), tuple(mismatches))


def _compared(matches: Sequence[Match], linked: Sequence[LinkedFeatures]) -> list[Match]:
    """Compare matches with each other and with linked features."""
    own = [LinkedFeatures.of(match) for match in matches]
    new = {one.slide for one in own}
    candidates = [*own, *(one for one in linked if one.slide not in new)]
    notes = dict(zip((one.slide for one in candidates), _odd_norms(candidates), strict=True))
    return [_with_notes(match, candidates, notes[match.slide]) for match in matches]


def _with_notes(match: Match, candidates: Sequence[LinkedFeatures], note: str) -> Match:
    """Add equal features or unusual values to a report."""
    report = match.passport
    equal = [
        one.slide
        for one in candidates
        if report.content and one.content == report.content and one.slide != match.slide
    ]
    values = next(check for check in report.checks if check.name == "values")
    if equal:
        text = f"the features equal those of {', '.join(equal)}: one of the files is misnamed"
        other = replace(values, verdict=Verdict.REFUSED, sentence=text)
    elif note and values.verdict is not Verdict.REFUSED:
        other = replace(values, verdict=Verdict.WARNED, sentence=note)
    else:
        return match
    checks = tuple(other if check is values else check for check in report.checks)
    return replace(match, passport=replace(report, checks=checks))


def _odd_norms(candidates: Sequence[LinkedFeatures]) -> list[str]:
    """Return a warning per file, empty for usual feature lengths."""
    notes = [""] * len(candidates)
    for kind in {(one.encoder, one.dim) for one in candidates}:
        indices = [i for i, one in enumerate(candidates) if (one.encoder, one.dim) == kind]
        indices = [i for i in indices if candidates[i].norm]
        for i, note in zip(indices, odd_norms([candidates[i].norm for i in indices]), strict=True):
            notes[i] = note
    return notes


def inspect(path: Path | str, slide: SlideLike, confirmed: Confirmed) -> Match:
    """Match a feature file to a slide and validate it.

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
        report = passport(stated, confirmed, image)
        mpp = None if image is None else image.resolution.mpp
    if why:
        report = replace(report, notes=(*report.notes, why))
    if confirmed.mpp is None and stated.mpp is None and mpp is not None:
        confirmed = replace(confirmed, mpp=mpp)
    return Match(slide.slide, path, report, confirmed)


def feature_files(folder: Path | str) -> tuple[Path, ...]:
    """Return the feature files of a folder.

    They may also be in a single subfolder.

    Raises
    ------
    ValueError
        If there are none, or several such folders.
    """
    folder = Path(folder)
    if files := _files(folder):
        return files
    below = {path: files for pattern in _BELOW for path in sorted(folder.glob(pattern))
             if (files := _files(path))}  # fmt: skip
    if len(below) == 2 and {path.name for path in below} == {"h5_files", "pt_files"}:
        return below[folder / "h5_files"]  # CLAM writes the same features twice
    if len(below) > 1:
        names = ", ".join(path.name for path in below)
        raise ValueError(f"{folder}: has features in {names}: give one of these folders")
    if not below:
        raise ValueError(f"{folder}: no feature files in it ({', '.join(SUFFIXES)})")
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
    """Return the slide of each file, or None."""
    names = {row.slide: row.slide for row in slides}
    names = {name: slide for name, slide in others.items() if slide in names} | names
    for row in slides:
        if row.slide_path is not None:
            names.setdefault(row.slide_path.stem, row.slide)
    short: dict[str, set[str]] = {}
    for name, slide in names.items():
        short.setdefault(name.partition(".")[0], set()).add(slide)
    slide_of: dict[Path, str | None] = {}
    for path in files:
        near = short.get(path.stem.partition(".")[0], set())
        slide_of[path] = names.get(path.stem) or (next(iter(near)) if len(near) == 1 else None)
    return slide_of


def _opened(slide: SlideLike) -> tuple[AbstractContextManager[Slide | None], str]:
    """Return the open slide, or None and the reason."""
    if slide.slide_path is None:
        return nullcontext(), ""
    try:
        return open_slide(slide.slide_path, slide.mpp), ""
    except SlideError as error:
        return nullcontext(), f"not checked against the slide: {error}"
