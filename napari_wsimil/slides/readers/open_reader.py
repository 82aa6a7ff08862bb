"""Choice of the reader for a slide file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.slides.geometry import SlideError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.slides.readers.base import Reader


def open_reader(path: Path | str) -> Reader:
    """Return the first reader that can open `path`: tiffslide's, else OpenSlide's.

    Raises
    ------
    SlideError
        No reader can; the message says why each refused. Where the colors of a TIFF cannot
        be known, OpenSlide is not tried.
    """
    from napari_wsimil.slides.readers.color import ColorError
    from napari_wsimil.slides.readers.openslide import OpenSlideReader
    from napari_wsimil.slides.readers.tiffslide import TiffSlideReader

    path = Path(path)
    if not path.exists():
        raise SlideError(f"{path.name}: there is no such file in {path.parent}")
    opened: list[Callable[[Path], Reader]] = [OpenSlideReader]
    if path.is_file():
        opened.insert(0, TiffSlideReader)
    refusals: list[Exception] = []
    for reader in opened:
        try:
            return reader(path)
        except SlideError as refusal:
            refusals.append(refusal)
            if isinstance(refusal, ColorError):
                break  # the next one would guess
    reasons = "; ".join(str(refusal) for refusal in refusals)
    raise SlideError(f"{path.name} cannot be opened as a slide: {reasons}") from refusals[0]
