"""Tour of the window with its own settings, for `tour`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from napari_wsimil.cli.console import follow


def take_tour(out: Path, theme: str, folder: Path | None) -> dict[str, Any]:
    """Write the pictures of the tour; return their names.

    napari's settings and ours are those of a first start, so that pictures are reproducible.

    Raises
    ------
    ValueError
        If a view has a problem; the message lists all problems.
    """
    from napari_wsimil.workflows.demo import demo_folder, prepare_tour

    study = follow(prepare_tour(folder or demo_folder()), "preparing")
    with tempfile.TemporaryDirectory() as settings:
        os.environ["NAPARI_CONFIG"] = str(Path(settings, "settings.yaml"))
        os.environ["XDG_CONFIG_HOME"] = settings
        from napari_wsimil.gui.tour import visit

        pictures = follow(visit(study, out, theme=theme), "touring")
    problems = [f"{one.stop.name}: {one.amiss}" for one in pictures if one.amiss]
    if problems:
        raise ValueError("; ".join(problems))
    return {"folder": out, "pictures": [one.path.name for one in pictures]}
