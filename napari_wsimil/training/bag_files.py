"""Feature files of a cohort, read as bags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import open_confirmed
from napari_wsimil.slides.reading import READER_VERSION
from napari_wsimil.slides.slide import SlideError, open_slide

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import SlideRow
    from napari_wsimil.features.bag import Bag, ClinicalTokens
    from napari_wsimil.slides.reading import Reading


#: Returns the bag of a slide with the features of its sub-patches.
Closer: TypeAlias = "Callable[[SlideRow, Bag], Bag]"


@dataclass(frozen=True)
class BagFiles(Sequence["Bag"]):
    """Bags of one patient, read from files at every access.

    Attributes
    ----------
    slides, folder
        Rows of the slides and the default folder of features, see `feature_path`.
    clinical
        Tokens of the patient's record, attached to every bag.
    closer
        Adds sub-patch features to the bag of a slide, for models that need them.
    """

    slides: tuple[SlideRow, ...]
    folder: Path | None = None
    clinical: ClinicalTokens | None = None
    closer: Closer | None = None

    def __len__(self) -> int:
        return len(self.slides)

    @overload
    def __getitem__(self, index: int) -> Bag: ...
    @overload
    def __getitem__(self, index: slice) -> BagFiles: ...
    def __getitem__(self, index: int | slice) -> Bag | BagFiles:
        if isinstance(index, slice):
            return replace(self, slides=self.slides[index])
        slide = self.slides[index]
        bag = replace(bag_of_slide(slide, self.folder), clinical=self.clinical)
        return bag if self.closer is None else self.closer(slide, bag)


def bag_of_slide(slide: SlideRow, folder: Path | str | None) -> Bag:
    """Return the bag of a slide of a cohort.

    Values confirmed by the user and the slide's µm per pixel override those in the file.

    Raises
    ------
    RecordError, ValueError
        As `feature_path` and `open_bag`.
    """
    folder = None if folder is None else Path(folder)
    overrides = Confirmed.parse(slide.feature_facts)
    if overrides.mpp is None and slide.mpp is not None:
        overrides = replace(overrides, mpp=slide.mpp)
    bag = open_confirmed(feature_path(slide, folder), overrides)
    unsure = bag.reading.changed(READER_VERSION) is None
    if not unsure or slide.slide_path is None:
        return bag
    return replace(bag, reading=_with_changes(bag.reading, slide.slide_path))


@lru_cache(maxsize=4096)
def _with_changes(reading: Reading, slide: Path) -> Reading:
    """Return `reading` with its slide's changes if the slide opens."""
    try:
        with open_slide(slide) as opened:
            return reading.of(opened.reading)
    except SlideError:
        return reading  # its caveat states that this is unknown


def feature_path(slide: SlideRow, folder: Path | str | None) -> Path:
    """Return the manifest's path of features, else `<slide>.h5` in `folder`.

    Raises
    ------
    RecordError
        If the manifest has no path and no folder is given.
    """
    folder = None if folder is None else Path(folder)
    if slide.feature_path is not None:
        return slide.feature_path
    if folder is None:
        raise RecordError(f"slide {slide.slide!r} has no feature_path: give the folder of features")
    return folder / f"{slide.slide}.h5"


def require_file(path: Path | str) -> None:
    """Raise RecordError if a file of features is missing."""
    if not Path(path).exists():
        raise RecordError(f"no features at {path}: extract them first")
