"""Choice of the reader for a slide file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.slides.geometry import SlideError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.slides.readers.base import Reader


def open_reader(path: Path | str) -> Reader:
    """Open a slide with tiffslide, else with OpenSlide.

    Raises
    ------
    SlideError
        No reader can open it; the message states the reason of each. After a ColorError of
        a TIFF, OpenSlide is not tried.
    """
    from napari_wsimil.slides.readers.color import ColorError
    from napari_wsimil.slides.readers.openslide import OpenSlideReader
    from napari_wsimil.slides.readers.tiffslide import TiffSlideReader

    path = Path(path)
    if not path.exists():
        raise SlideError(f"{path.name}: there is no such file in {path.parent}")
    readers: list[Callable[[Path], Reader]] = [OpenSlideReader]
    if path.is_file():
        readers.insert(0, TiffSlideReader)
    errors: list[Exception] = []
    for reader in readers:
        try:
            return reader(path)
        except SlideError as error:
            errors.append(error)
            if isinstance(error, ColorError):
                break  # OpenSlide would guess the colors
    reasons = "; ".join(str(error) for error in errors)
    raise SlideError(f"{path.name} cannot be opened as a slide: {reasons}") from errors[0]
