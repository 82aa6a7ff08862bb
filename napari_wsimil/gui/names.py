"""Names: whether file names may be shown, and words without them; knows no Qt and no viewer.

File names can name a patient. They are hidden in the whole program until "Show file names" is
checked in the Slide dock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from psygnal import SignalGroupDescriptor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FILE = "the file"
_MARK = "\0"  # stands for it until all names are replaced: it has no blank
_SUFFIXES = (
    "svs|tiff?|ndpi|scn|bif|mrxs|vms|vmu|svslide|dcm|qptiff|btf|zarr|png|jpe?g|h5|hdf5|pt|pth|"
    "npy|npz|csv|tsv|xlsx|xls|parquet|json|geojson|xml|ya?ml|safetensors|onnx|bin|zip|tar|gz"
)
#: Paths and file names whatever they belong to: an absolute path, a word with a known ending.
_PATH = re.compile(r"(?<![\w.~])(?:[A-Za-z]:\\|~?/)[^\s:'\",;]*[^\s:'\",;.]")
_NAME = re.compile(rf"[\w\-.+%()]*[\w\-)]\.(?:{_SUFFIXES})\b", re.IGNORECASE)
#: Another file in the same folder, or below it.
_BELOW = r"(?:[\\/][^\s:'\",;]*[^\s:'\",;.])?"
#: A word like "model" is not replaced where it is the stem of a file: it may be the sentence's.
_PLAIN = re.compile(r"[a-z]*")


@dataclass(eq=False)
class Names:
    """Whether file names are shown; the same for all windows of the program."""

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    shown: bool = False

    def of(self, path: Path) -> str:
        """Return the name of a file or folder, or words that stand for it."""
        if self.shown:
            return path.name
        return f"a {path.suffix} file" if path.suffix else "a file or folder"

    def words(self, error: BaseException) -> str:
        """Return the words of an error, without the names of files while they are hidden."""
        words = str(error) or type(error).__name__
        return words if self.shown else unnamed(words, paths_of(error))


NAMES = Names()


def unnamed(words: str, paths: Iterable[Path] = ()) -> str:
    """Return words in which no path and no file name is left.

    Parameters
    ----------
    words
        Of an error or a note.
    paths
        Files and folders that they may name, whose names may hold blanks.
    """
    names = {name for path in paths for name in _names(path)}
    for name in sorted((name for name in names if name in words), key=len, reverse=True):
        rest = _BELOW if Path(name).is_absolute() else ""
        words = re.sub(rf"(?<!\w){re.escape(name)}{rest}(?!\w)", _MARK, words)
    words = _NAME.sub(_MARK, _PATH.sub(_MARK, words)).replace(_MARK, _FILE)
    return _FILE.capitalize() + words[len(_FILE) :] if words.startswith(_FILE) else words


def paths_of(error: BaseException) -> set[Path]:
    """Return the paths in the variables of the frames that an error came through."""
    paths = set()
    for one in _chain(error):
        for name in (getattr(one, "filename", None), getattr(one, "filename2", None)):
            if isinstance(name, str):
                paths.add(Path(name))
        trace = one.__traceback__
        while trace is not None:
            paths.update(_paths_in(trace.tb_frame.f_locals.values()))
            trace = trace.tb_next
    return paths


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the ones that it came of."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _paths_in(values: Iterable[object]) -> Iterator[Path]:
    """Yield the paths among variables, and those of our own objects among them."""
    for value in values:
        if isinstance(value, Path):
            yield value
        elif type(value).__module__.startswith("napari_wsimil."):
            own = (getattr(value, name, None) for name in ("path", "_path"))
            yield from (path for path in own if isinstance(path, Path))


def _names(path: Path) -> Iterator[str]:
    """Yield what may stand for a path in a sentence."""
    whole = path.absolute()
    yield from (str(one) for one in (path, whole, *whole.parents[:-1]) if len(one.parts) > 1)
    if path.suffix:
        yield path.name
    for part in (path.name, path.stem, path.name.partition(".")[0], *whole.parts[1:-1]):
        if len(part) > 2 and not _PLAIN.fullmatch(part):
            yield part
