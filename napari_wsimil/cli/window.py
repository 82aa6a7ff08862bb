"""Verbs that open the window."""

from __future__ import annotations

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import follow, report

verbs = typer.Typer()


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil view slide.svs",
        "napari-wsimil view slide.svs --checkpoint model.safetensors --screenshot map.png",
    )
)
def view(
    path: opt.MaybeSlide = None,
    checkpoint: opt.MaybeCheckpoint = None,
    features: opt.SlideFeatures = None,
    manifest: opt.Records = None,
    patient: opt.ShownPatient = None,
    screenshot: opt.Screenshot = None,
) -> None:
    """Open a slide, or a study with a patient, in napari with our docks, and a model's map over
    it if one is given.
    """
    _check_window()
    from napari_wsimil.gui.startup import opening_of
    from napari_wsimil.gui.window import run

    run(opening_of(path, checkpoint, features, manifest, patient), screenshot)


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil demo",
        "napari-wsimil demo --screenshot out/demo.png",
    )
)
def demo(
    prepare_only: opt.PrepareOnly = False,
    screenshot: opt.Screenshot = None,
    folder: opt.Folder = None,
    as_json: opt.Json = False,
) -> None:
    """Open a synthetic study, built so that the record decides: with one value of a patient's
    record tried on, the map tells where attention moved.

    The study is made the first time and kept afterwards.
    """
    from napari_wsimil.gui.startup import Opening
    from napari_wsimil.workflows.demo import LIVE, TRIED, demo_folder, prepare_cases

    if not prepare_only:
        _check_window()
    made = follow(prepare_cases(folder or demo_folder()), "preparing")
    case, checkpoint = made.cases[-1], made.checkpoints[LIVE]
    if prepare_only:
        facts = {"study": made.study, "slide": case.slide, "features": case.features}
        report({**facts, "checkpoint": checkpoint, "synthetic": True}, as_json)
        return
    from napari_wsimil.gui.window import run

    shown = Opening(
        study=made.study,
        patient=case.patient,
        checkpoint=checkpoint,
        map_name="explanatory",
        tried=TRIED,
    )
    run(shown, screenshot)


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil tour --out pictures",
        "napari-wsimil tour --out pictures --theme light",
    )
)
def tour(
    out: opt.PictureFolder,
    theme: opt.Theme = "dark",
    folder: opt.Folder = None,
    as_json: opt.Json = False,
) -> None:
    """Write a picture of every view of the window on the demo study, and captions.md.

    The study is made the first time and kept afterwards.
    """
    _check_window()
    from napari_wsimil.cli.tour import take_tour

    report(take_tour(out, theme, folder), as_json)


def _check_window() -> None:
    from importlib.util import find_spec

    qt = any(find_spec(binding) for binding in ("PyQt5", "PyQt6", "PySide6"))
    if not (qt and find_spec("napari") and find_spec("qtpy")):
        raise ValueError("the window is not installed: pip install 'napari-wsimil[app]'")
