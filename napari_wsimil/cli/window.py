"""Verbs that open the window: view, demo, tour."""

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
    """Open a slide or a study in napari.

    A checkpoint adds the map of its model.
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
    """Open a synthetic study with an edited clinical record.

    In this study the clinical record determines the class. One value of a patient's record is
    edited, and the map shows the shift of the attention. The study is created at the first start
    and reused later.
    """
    from napari_wsimil.gui.startup import Opening
    from napari_wsimil.workflows.demo import LIVE, TRIED, demo_folder, prepare_cases

    if not prepare_only:
        _check_window()
    study = follow(prepare_cases(folder or demo_folder()), "preparing")
    case, checkpoint = study.cases[-1], study.checkpoints[LIVE]
    if prepare_only:
        facts = {"study": study.study, "slide": case.slide, "features": case.features}
        report({**facts, "checkpoint": checkpoint, "synthetic": True}, as_json)
        return
    from napari_wsimil.gui.window import run

    opening = Opening(
        study=study.study,
        patient=case.patient,
        checkpoint=checkpoint,
        map_name="explanatory",
        tried=TRIED,
    )
    run(opening, screenshot)


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
    """Write pictures of every view of the window, and captions.md.

    The views show the demo study. It is created at the first start and reused later.
    """
    _check_window()
    from napari_wsimil.cli.tour import take_tour

    report(take_tour(out, theme, folder), as_json)


def _check_window() -> None:
    from importlib.util import find_spec

    qt = any(find_spec(binding) for binding in ("PyQt5", "PyQt6", "PySide6"))
    if not (qt and find_spec("napari") and find_spec("qtpy")):
        raise ValueError("the window is not installed: pip install 'napari-wsimil[app]'")
