"""How the command line takes the tour: with settings of its own, a picture after the other."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from napari_wsimil.cli.console import follow


def take_tour(out: Path, theme: str, folder: Path | None) -> dict[str, Any]:
    """Return the pictures that were written, by name.

    napari's settings and ours are those of a first start, so that pictures are alike.

    Raises
    ------
    ValueError
        If something is amiss with a view; it names all that are.
    """
    from napari_wsimil.workflows.demo import demo_folder, prepare_tour

    study = follow(prepare_tour(folder or demo_folder()), "preparing")
    with tempfile.TemporaryDirectory() as own:
        os.environ["NAPARI_CONFIG"] = str(Path(own, "settings.yaml"))
        os.environ["XDG_CONFIG_HOME"] = own
        from napari_wsimil.gui.tour import visit

        pictures = follow(visit(study, out, theme=theme), "touring")
    amiss = [f"{one.stop.name}: {one.amiss}" for one in pictures if one.amiss]
    if amiss:
        raise ValueError("; ".join(amiss))
    return {"folder": out, "pictures": [one.path.name for one in pictures]}
