"""Results of linking existing features to a study's slides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import follow, warn
from napari_wsimil.study.create_study import open_study
from napari_wsimil.workflows.link_features import check_encoder_job, links_of, survey_study

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.features.importers.base import Confirmed
    from napari_wsimil.features.report import Passport
    from napari_wsimil.workflows.pipeline import BagOptions, PatchSettings

#: Option that provides a missing fact.
_OPTIONS = {
    "mpp": "--slide-mpp",
    "patch_size": "--patch-size",
    "encoder": "--encoder",
    "reading": "--reading",
}


def checked(
    path: Path, reference: Path, settings: PatchSettings, options: BagOptions
) -> dict[str, Any]:
    """Compare an encoder's features with those of a file.

    Errors as of the workflow.
    """
    encoder = settings.create_encoder()
    check = follow(check_encoder_job(path, reference, encoder, options), "encoding")
    agreement = check.agreement
    return {
        "encoder": encoder.card.identity,
        "file_encoder": check.file_encoder,
        "patches": agreement.patches,
        "cosine_median": agreement.median,
        "cosine_5th_percentile": agreement.fifth,
        "cosine_of_different_patches": agreement.chance,
    }


def link_features(
    folder: Path, features: Path, confirmed: Confirmed, why: str, key: Path | None, dry_run: bool
) -> dict[str, Any]:
    """Link a folder of features to a study's slides.

    Returns the facts to print. Files that a check refuses, or that lack a required fact, are
    not linked. With `dry_run`
    nothing is written.

    Raises
    ------
    ValueError
        As `survey_study` and `Study.link`.
    """
    with open_study(folder) as study:
        survey = follow(survey_study(study, features, confirmed, key), "reading features")
        warn([f"{one.what}: {one.why}" for one in survey.mismatches])
        facts: dict[str, Any] = {
            "passports": {match.slide: match.passport.facts for match in survey.matches}
        }
        if not dry_run:
            links = study.link(links_of(survey), why or f"features in {features.name}")
            facts["linked"] = list(links.linked)
            facts["linked already"] = list(links.same)
        refused = [match for match in survey.matches if match.passport.verdict == "refused"]
        facts["refused"] = {match.slide: _reason(match.passport) for match in refused}
        facts["failed"] = {one.what: one.why for one in survey.mismatches if one.failed}
        return facts | {"mismatches": {one.what: one.why for one in survey.mismatches}}


def _reason(report: Passport) -> str:
    missing = [f"{_OPTIONS[q.fact]}: {q.text}" for q in report.questions if q.needed]
    texts = [f"{check.name}: {check.sentence}" for check in report.checks]
    refused = [text for text, c in zip(texts, report.checks, strict=True) if c.verdict == "refused"]
    return "; ".join([*missing, *refused])
