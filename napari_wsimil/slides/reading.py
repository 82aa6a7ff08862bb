"""Version of the slide readers that features were extracted with.

A corrected mistake in a reader changes the pixels read from the same file. Features extracted
earlier then describe outdated pixels. A feature file therefore stores the version of the
readers, and the later changes that apply to its slide.

Example: version 2 corrected colors other than RGB. Features of a CMYK slide from version 1
carry the caveat to extract them again; features of an RGB slide do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Version of the readers, raised when the pixels of some files change.
#: 2: colors other than RGB, see `readers.color`; positions of levels, see `readers.levels`.
READER_VERSION = 2


@dataclass(frozen=True)
class Reading:
    """Reader version of a slide, and changes that affect it.

    Attributes
    ----------
    version
        Version of the readers; 1 if not recorded, 0 for another program.
    changes
        Changes that affect this slide, such as "color", each with the version that
        introduced it; None if unknown.
    """

    version: int = 0
    changes: Mapping[str, int] | None = None

    @classmethod
    def parse(cls, version: int, changes: str | None) -> Self:
        """Return a reading from its version and `text`."""
        if changes is None:
            return cls(version)
        pairs = (part.partition("=") for part in changes.split(",") if part)
        return cls(version, {kind: int(since) for kind, _, since in pairs})

    @property
    def text(self) -> str | None:
        """Changes as stored in files ("color=2"); None if unknown."""
        if self.changes is None:
            return None
        return ",".join(f"{kind}={since}" for kind, since in sorted(self.changes.items()))

    def of(self, slide: Reading) -> Reading:
        """Return this reading with the changes of its open slide."""
        return replace(self, changes=slide.changes)

    def changed(self, version: int) -> tuple[str, ...] | None:
        """Return changes between two versions; None if unknown."""
        if version == self.version or 0 in (version, self.version):
            return ()
        if self.changes is None:
            return None
        low, high = sorted((version, self.version))
        return tuple(kind for kind, since in sorted(self.changes.items()) if low < since <= high)

    @property
    def caveat(self) -> str:
        """Warning about features of outdated pixels, or empty."""
        kinds = self.changed(READER_VERSION)
        age = "earlier" if self.version < READER_VERSION else "later"
        if kinds is None:
            return (
                f"the features were made by {'an' if age == 'earlier' else 'a'} {age} reader "
                f"(version {self.version}, now {READER_VERSION}), which reads color or levels of "
                "some slides differently: open them with their slide to check"
            )
        if not kinds:
            return ""
        named = " and ".join(kinds)
        return f"the features were made with the {age} {named} of this slide: extract them again"


#: Reading of features from another program.
UNKNOWN = Reading()
