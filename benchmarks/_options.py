"""Options of the benchmarks that drive the window on the drawn slide, and settings of their own."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

if TYPE_CHECKING:
    from collections.abc import Callable

#: Side of the drawn slide in pixels.
SIDE, QUICK_SIDE = 61_440, 16_384


def run(description: str, measure: Callable[[argparse.Namespace, Path], None]) -> None:
    """Read the options and measure, with napari's settings in a folder that is then gone."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smaller slide, fewer repeats")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--slide", type=Path, help="the slide; drawn here if it is not there")
    options = parser.parse_args()
    if options.slide is None:
        side = QUICK_SIDE if options.quick else SIDE
        options.slide = user_cache_path("napari-wsimil") / f"viewing-{side}.tiff"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder, "settings.yaml"))
        os.environ["XDG_CONFIG_HOME"] = folder
        measure(options, Path(folder))
