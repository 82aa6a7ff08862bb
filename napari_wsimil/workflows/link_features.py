"""Link work: features that people have, found and linked in the background; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.matching import LinkedFeatures, survey_features
from napari_wsimil.gui.names import NAMES, unnamed
from napari_wsimil.study.file_links import CONFIRMED, Link
from napari_wsimil.study.pseudonyms import default_key, read_key
from napari_wsimil.workflows.pipeline import Step

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_wsimil.features.matching import Match, Mismatch, Survey, Surveyed
    from napari_wsimil.study.open_study import Study


@dataclass(frozen=True, eq=False)
class Found:
    """What a folder of features has for a study.

    Attributes
    ----------
    folder
        The folder.
    confirmed
        What was said of all its files.
    survey
        What the files are, and what does not fit.
    """

    folder: Path
    confirmed: Confirmed
    survey: Survey

    @property
    def usable(self) -> tuple[Match, ...]:
        """Return the files that no check refuses."""
        return tuple(m for m in self.survey.matches if m.passport.verdict is not Verdict.REFUSED)

    @property
    def asked(self) -> dict[str, str]:
        """Return what a person must say, by its name, as no file says it."""
        questions = (q for m in self.survey.matches for q in m.passport.questions)
        return {question.fact: question.text for question in questions}


def survey_job(study: Study, folder: Path, confirmed: Confirmed) -> Generator[Step, None, Found]:
    """Return what a folder of features has for a study; nothing is linked."""
    work = survey_study(study, folder, confirmed)
    while True:
        try:
            now = next(work)
        except StopIteration as stop:
            return Found(folder, confirmed, stop.value)
        yield Step("checking features against slides", now.done, now.total)


def link_job(study: Study, found: Found, why: str) -> Generator[Step, None, str]:
    """Return what came of linking the files that no check refuses, in a sentence."""
    yield Step("linking features")
    linked = study.link(links_of(found.survey), why)
    words = f"Features linked: {len(linked.linked)} new"
    words += f", {len(linked.same)} there already." if linked.same else "."
    left = len(found.survey.matches) - len(found.usable)
    failed = sum(one.failed for one in found.survey.mismatches)
    for count, why in ((left, "refused by a check"), (failed, "not readable")):
        words += f" Not linked: {count} {why}." if count else ""
    return words


def passport_rows(found: Found) -> list[tuple[str, str, str, str]]:
    """Return slide, verdict, encoder and what is to be known of each file, in words."""
    rows = []
    for match in found.survey.matches:
        shown = match.passport
        asked = [question.text for question in shown.questions if question.needed]
        checks = [f"{c.name} {c.verdict}: {c.sentence}" for c in shown.checks]
        size = "" if shown.patch_size is None else f", patches of {shown.patch_size:g} px"
        what = f"{shown.tool}: {shown.patches:,} × {shown.dim}{size}"
        encoder = shown.encoder or "unnamed"
        encoder += "" if shown.verified else " (unverified)"
        said = "\n".join([what, *asked, *checks, *shown.notes])
        rows.append((match.slide, shown.verdict.value, encoder, said))
    return rows


def mismatch_lines(found: Found) -> list[str]:
    """Return a line for each file and slide that does not fit, without hidden file names."""
    mismatches = found.survey.mismatches
    if NAMES.shown or not any(Path(one.what).suffix for one in mismatches):
        return [f"{one.what}: {one.why}" for one in mismatches]
    hint = "Check Show file names in the Slide dock, then link again, to see which files these are."
    return [*(_unnamed(one, found.folder) for one in mismatches), hint]


def _unnamed(mismatch: Mismatch, folder: Path) -> str:
    path = folder / mismatch.what
    if not path.suffix:  # a slide, which has a pseudonym
        return f"{mismatch.what}: {mismatch.why}"
    reason = unnamed(mismatch.why, {path}).removeprefix("The file: ")
    return f"{NAMES.of(path)}: {reason}"


def confirmed_of(texts: dict[str, str]) -> Confirmed:
    """Return what a person typed about features, by its name; what is empty is not said.

    Raises
    ------
    ValueError
        If a number is none; names it.
    """
    said = "; ".join(f"{name}={text.strip()}" for name, text in texts.items() if text.strip())
    return Confirmed.parse(said)


def survey_study(
    study: Study, folder: Path | str, confirmed: Confirmed, key: Path | str | None = None
) -> Generator[Surveyed, None, Survey]:
    """Yield after every file; return what a folder of features has for a study's slides.

    Nothing is written: `Study.link` takes `links_of` it.

    Parameters
    ----------
    confirmed
        What a person says of all files of the folder.
    key
        Key of the study's pseudonyms, since files are called as outside; among the user's
        data if None.

    Raises
    ------
    ValueError
        As `survey_features`, and if the key is broken or of another study.
    """
    folder = Path(folder)
    key = None if key is None else Path(key)
    slides = [slide for patient in study.manifest().patients for slide in patient.slides]
    names = read_key(key or default_key(study.identity), study.folder).slides
    return (yield from survey_features(folder, slides, confirmed, names, _linked(study)))


def _linked(study: Study) -> list[LinkedFeatures]:
    """Return the features that slides of a study have, as far as their links tell."""
    return [
        LinkedFeatures(
            slide=link.slide,
            encoder=link.encoder,
            dim=int(link.facts.get("dim") or 0),
            content=str(link.facts.get("content_sha256") or ""),
            norm=float(link.facts.get("median_norm") or 0),
        )
        for link in study.links().values()
    ]


def links_of(survey: Survey) -> tuple[Link, ...]:
    """Return the links of all files of a survey whose passport is not refused."""
    return tuple(
        _link(match) for match in survey.matches if match.passport.verdict is not Verdict.REFUSED
    )


def _link(match: Match) -> Link:
    shown = match.passport
    facts: dict[str, str | float | bool | None] = {
        name: value
        for name, value in shown.facts.items()
        if value is None or isinstance(value, str | int | float)
    }
    facts |= {f"{check.name} check": f"{check.verdict}: {check.sentence}" for check in shown.checks}
    kept = match.confirmed
    if kept.patches is not None and shown.patch_size is not None:
        kept = replace(kept, patch_size=round(shown.patch_size), pixels=shown.pixels)
    facts[CONFIRMED] = kept.text
    return Link(match.slide, match.features.absolute(), shown.encoder, shown.verified, facts)
