"""Memory: what the window remembers between starts, in one JSON file of the user's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_config_path

from napari_wsimil.files import atomic_write
from napari_wsimil.slides.geometry import PLAUSIBLE_MPP, MppSource, Resolution

if TYPE_CHECKING:
    from napari_wsimil.slides.slide import Slide


def _file() -> Path:
    return user_config_path("napari-wsimil") / "memory.json"


def recall(key: str, default: Any = None) -> Any:
    """Return what was remembered under `key`."""
    return _read().get(key, default)


def remember(key: str, value: Any) -> None:
    """Keep a JSON value under `key`."""
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**_read(), key: value}, indent=1)
    with atomic_write(file) as part:
        part.write_text(text)


def last_folder() -> str:
    return str(recall("folder", str(Path.home())))


def remember_folder(folder: Path) -> None:
    remember("folder", str(folder))


def remember_mpp(slide: Slide, mpp: float) -> None:
    """Keep the user's answer for this slide, known again by its content."""
    remember("mpp", {**_sizes(), slide.fingerprint: mpp})


def with_remembered_mpp(slide: Slide) -> Slide:
    """Return the slide with the pixel size the user once gave for it, if any."""
    mpp = _sizes().get(slide.fingerprint)
    return slide if mpp is None else replace(slide, resolution=Resolution(mpp, MppSource.USER))


def _sizes() -> dict[str, float]:
    """Return the remembered pixel sizes in µm; what is no such size is left out."""
    found = recall("mpp", {})
    pairs = found.items() if isinstance(found, dict) else ()
    low, high = PLAUSIBLE_MPP
    return {key: mpp for key, mpp in pairs if isinstance(mpp, float) and low <= mpp <= high}


def _read() -> dict[str, Any]:
    """Return what is remembered; a damaged or unreadable file is as good as none."""
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
