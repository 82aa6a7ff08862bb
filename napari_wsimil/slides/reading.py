"""Reading: which version of the readers gave a slide's pixels.

The pixels that we read from the same file may change, when a mistake is corrected. Features
then are of pixels that nobody reads any more. A file of features therefore keeps the version
of the readers, and what of its slide has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Version of the pixels that the readers give, raised when those of some files change.
#: 2: colors other than RGB, see `readers.color`; places of levels, see `readers.levels`.
READER_VERSION = 2


@dataclass(frozen=True)
class Reading:
    """How the pixels of a slide were read.

    Attributes
    ----------
    version
        Of the readers; 1 from before versions were kept, 0 of another program.
    changes
        What of this slide is read otherwise than once, such as "color", and the version since
        which it is read as now; None if unknown.
    """

    version: int = 0
    changes: Mapping[str, int] | None = None

    @classmethod
    def parse(cls, version: int, changes: str | None) -> Self:
        """Return a reading from its number and the `text` of its changes."""
        if changes is None:
            return cls(version)
        pairs = (part.partition("=") for part in changes.split(",") if part)
        return cls(version, {kind: int(since) for kind, _, since in pairs})

    @property
    def text(self) -> str | None:
        """Return the changes as text for a file, such as "color=2"; None if unknown."""
        if self.changes is None:
            return None
        return ",".join(f"{kind}={since}" for kind, since in sorted(self.changes.items()))

    def of(self, slide: Reading) -> Reading:
        """Return this reading with the changes that its slide, opened now, states."""
        return replace(self, changes=slide.changes)

    def changed(self, version: int) -> tuple[str, ...] | None:
        """Return what readers of another version read otherwise; None if unknown."""
        if version == self.version or 0 in (version, self.version):
            return ()
        if self.changes is None:
            return None
        low, high = sorted((version, self.version))
        return tuple(kind for kind, since in sorted(self.changes.items()) if low < since <= high)

    @property
    def caveat(self) -> str:
        """Return how features of these pixels differ from those made now; empty if alike."""
        kinds = self.changed(READER_VERSION)
        age = "earlier" if self.version < READER_VERSION else "later"
        if kinds is None:
            return (
                f"the features were made by {'an' if age == 'earlier' else 'a'} {age} reader "
                f"(version {self.version}, now {READER_VERSION}), which reads the color or the "
                "levels of some slides differently: open them with their slide to see if it is one"
            )
        if not kinds:
            return ""
        named = " and ".join(kinds)
        return f"the features were made with the {age} {named} of this slide: extract them again"


#: Of features that another program made.
UNKNOWN = Reading()
