"""How the command line extracts the features of many slides, each with its own outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.cli.console import sentence
from napari_wsimil.cli.slides import SlideJob, encoded
from napari_wsimil.study.create_study import is_study
from napari_wsimil.training.dataset import read_cohort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_wsimil.cli.slides import Patches


@dataclass(frozen=True)
class SlideOutcome:
    """Outcome of the extraction of one slide.

    Attributes
    ----------
    patches
        How many have features now; None where there are none.
    skipped, failed
        Why nothing was extracted: not needed or not possible, or an error; otherwise empty.
    """

    patches: int | None = None
    skipped: str = ""
    failed: str = ""

    @property
    def text(self) -> str:
        """Return a cell of a table: "done: 120 patches", or the reason why not."""
        if self.failed:
            return f"failed: {self.failed}"
        return f"skipped: {self.skipped}" if self.skipped else f"done: {self.patches} patches"


def is_cohort(path: Path) -> bool:
    """Return whether a path is a manifest or a study, not one slide."""
    return path.suffix.lower() == ".csv" or is_study(path)


def slides_of(path: Path, out: Path, mpp: float | None) -> dict[str, SlideJob | None]:
    """Return the jobs of the slides in a manifest or study, by name, with features in `out`.

    A slide without slide_path has no job.

    Raises
    ------
    ValueError
        If no slide has a slide_path.
    """
    jobs: dict[str, SlideJob | None] = {}
    for patient in read_cohort(path, None).patients:
        for row in patient.slides:
            image, target = row.slide_path, out / f"{row.slide}.h5"
            jobs[row.slide] = None if image is None else SlideJob(image, target, row.mpp or mpp)
    if not any(jobs.values()):
        raise ValueError(f"{path}: no slide has a slide_path to extract from")
    return jobs


def extract_cohort(
    jobs: Mapping[str, SlideJob | None], patches: Patches
) -> dict[str, SlideOutcome]:
    """Return the outcome of each slide of a cohort; failures do not end the others.

    Raises
    ------
    ValueError
        If there is no such encoder or its weights are missing.
    OSError
        If the disk is full.
    """
    outcomes = _outcomes([job for job in jobs.values() if job is not None], patches)
    return {
        name: SlideOutcome(skipped="no slide_path") if job is None else next(outcomes)
        for name, job in jobs.items()
    }


def _outcomes(jobs: Sequence[SlideJob], patches: Patches) -> Iterator[SlideOutcome]:
    for was_finished, bag in encoded(jobs, patches):
        if isinstance(bag, Exception):
            yield SlideOutcome(failed=sentence(bag))
        else:
            yield SlideOutcome(len(bag), "features are there already" if was_finished else "")
