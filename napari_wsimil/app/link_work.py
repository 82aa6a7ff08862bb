"""Link work: features that people have, found and linked in the background; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.app.names import NAMES, unnamed
from napari_wsimil.app.work import Step
from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.learning.feature_links import links_of, survey_study

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_wsimil.features.matching import Match, Mismatch, Survey
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
