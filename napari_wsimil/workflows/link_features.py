"""Link features: match the features files that people have to a study's slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.encoders.compare import agreement
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import bag_as, read_stated, with_patches
from napari_wsimil.features.matching import LinkedFeatures, survey_features
from napari_wsimil.features.report import passport
from napari_wsimil.progress import Progress, relabel
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.file_links import CONFIRMED, Link
from napari_wsimil.study.pseudonyms import default_key, read_key
from napari_wsimil.workflows.progress import Remark

if TYPE_CHECKING:
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.features.encoders.compare import Agreement
    from napari_wsimil.features.matching import Match, Survey
    from napari_wsimil.progress import Work
    from napari_wsimil.study.open_study import Study
    from napari_wsimil.workflows.pipeline import BagOptions

#: Least median cosine at which two files of features count as those of one encoder.
ALIKE = 0.99


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


def survey_job(study: Study, folder: Path | str, confirmed: Confirmed) -> Work[Found]:
    """Return what a folder of features has for a study; nothing is linked."""
    folder = Path(folder)
    work = survey_study(study, folder, confirmed)
    survey = yield from relabel(work, "checking features against slides")
    return Found(folder, confirmed, survey)


def link_job(study: Study, found: Found, why: str) -> Work[str]:
    """Return what came of linking the files that no check refuses, in a sentence."""
    yield Progress(text="linking features")
    linked = study.link(links_of(found.survey), why)
    words = f"Features linked: {len(linked.linked)} new"
    words += f", {len(linked.same)} there already." if linked.same else "."
    left = len(found.survey.matches) - len(found.usable)
    failed = sum(one.failed for one in found.survey.mismatches)
    for count, why in ((left, "refused by a check"), (failed, "not readable")):
        words += f" Not linked: {count} {why}." if count else ""
    return words


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
) -> Work[Survey]:
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


@dataclass(frozen=True)
class EncoderCheck:
    """Agreement of an encoder with a features file, and the encoder that the file states."""

    agreement: Agreement
    file_encoder: str | None


def check_encoder_job(
    path: Path | str, reference: Path | str, encoder: PatchEncoder, options: BagOptions
) -> Work[EncoderCheck]:
    """Compare an encoder's features of a slide with those in a file; nothing is written.

    Raises
    ------
    ValueError
        As `agreement`, and if the file's coordinates are not on the slide.
    """
    path = Path(path)
    reference = Path(reference)
    confirmed = Confirmed(patch_size=options.patch_size, mpp=options.slide_mpp)
    confirmed = with_patches(reference, confirmed)
    with open_slide(path, mpp=options.slide_mpp) as slide:
        for note in slide.notes(names=True):
            yield Remark(remark=f"{path.name}: {note}", warning=True)
        stated = read_stated(reference, confirmed)
        report = passport(stated, confirmed, slide)
        for check in report.checks:
            if check.verdict is Verdict.REFUSED:
                raise ValueError(f"{reference}: {check.name} check: {check.sentence}")
        bag = bag_as(stated, confirmed, slide.resolution)
        if caveat := bag.reading.of(slide.reading).caveat:
            yield Remark(remark=caveat, warning=True)
        found = yield from agreement(slide, bag, encoder)
    if found.median < ALIKE:
        text = f"the features are not those of {encoder.card.name} at these patches: do not mix"
        yield Remark(remark=text, warning=True)
    return EncoderCheck(found, report.encoder or None)
