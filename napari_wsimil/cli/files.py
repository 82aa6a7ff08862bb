"""Verbs for files: info, phantom, extract."""

from __future__ import annotations

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import SOME_FAILED, follow, report

verbs = typer.Typer()


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil info slide.svs",
        "napari-wsimil info model.safetensors --json",
    )
)
def info(
    path: opt.AnyFile,
    slide_mpp: opt.SlideMpp = None,
    identifying: opt.Identifying = False,
    as_json: opt.Json = False,
) -> None:
    """Print facts of a slide, features, checkpoint or manifest.

    Feature files are .h5, checkpoints .safetensors and manifests .csv; any other file is read as
    a slide. Header text, label and macro images and patient ids are omitted; add --identifying to
    print them.
    """
    from napari_wsimil.cli.info import facts_of, metric_facts

    facts = facts_of(path, slide_mpp, identifying)
    if "reasons" in facts:
        facts |= metric_facts(facts["metrics"], facts.pop("reasons"), as_json)
    report(facts, as_json)


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil phantom demo.tiff",
        "napari-wsimil phantom b.tiff --size 60000 --seed 3 --lesion B=0.05",
        "napari-wsimil phantom folder --recipe cohort.toml",
    )
)
def phantom(
    path: opt.NewSlide,
    recipe: opt.Recipe = None,
    size: opt.Size = 8192,
    mpp: opt.PhantomMpp = 0.5,
    lesion: opt.Lesion = None,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Write a synthetic H&E-like slide with lesions, or a cohort.

    The outlines of the lesions are written beside the slide. All results on synthetic slides are
    labeled "synthetic". A recipe defines sizes and lesions of a cohort.
    """
    from napari_wsimil.synthetic import SlideRecipe, write_phantom
    from napari_wsimil.synthetic.cohort import load_recipe, write_cohort

    if recipe is not None:
        manifest = follow(write_cohort(load_recipe(recipe), path), "painting")
        report({"manifest": manifest, "synthetic": True}, as_json)
        return
    lesions = {"A": 0.06} if lesion is None else dict(map(_lesion, lesion))
    slide_recipe = SlideRecipe(width=size, height=size, mpp=mpp, seed=seed, lesions=lesions)
    slide = follow(write_phantom(path, slide_recipe), "painting")
    report({"slide": slide.path, "truth": slide.truth_path, "synthetic": True}, as_json)


def _lesion(text: str) -> tuple[str, float]:
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError as error:
        raise ValueError(f"--lesion {text!r} is not KIND=SHARE, such as A=0.06") from error


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil extract slide.svs -o features",
        "napari-wsimil extract cohort.csv -o features --mpp 0.5 --pixels 224",
        "napari-wsimil extract slide.svs --check features/slide.h5",
    )
)
def extract(
    path: opt.SlideOrCohort,
    out: opt.FeatureFolder = None,
    encoder: opt.Encoder = "stain-texture",
    weights: opt.Weights = None,
    mpp: opt.PatchMpp = 0.5,
    pixels: opt.Pixels = 224,
    overlap: opt.Overlap = 0.0,
    download: opt.Download = False,
    slide_mpp: opt.SlideMpp = None,
    check: opt.Reference = None,
    patch_size: opt.PatchSize = None,
    as_json: opt.Json = False,
) -> None:
    """Find tissue, create patches, and encode them as features.

    The result is one HDF5 file per slide, in TRIDENT's layout. The expected hours and gigabytes on
    this machine are printed first. An interrupted run continues with the same command.

    With --check nothing is written. The features of the encoder are compared with those in a file
    of the same patches: check that they agree before you mix both.

    For a cohort, each slide is listed as done, skipped or failed, with the reason. A failed slide
    does not stop the others; the exit code is then 3.
    """
    from napari_wsimil.workflows.pipeline import BagOptions, PatchSettings, SlideJob
    from napari_wsimil.workflows.slides import encode_cohort, encode_one, is_cohort, jobs_of

    settings = PatchSettings(encoder, weights, mpp, pixels, overlap, download)
    if check is not None:
        from napari_wsimil.cli.link import checked

        options = BagOptions(slide_mpp=slide_mpp, patch_size=patch_size)
        report(checked(path, check, settings, options), as_json)
        return
    if out is None:
        raise ValueError("extract needs --out FOLDER for the features, or --check FILE to compare")
    if not is_cohort(path):
        job = SlideJob(path, out / f"{path.stem}.h5", slide_mpp)
        bag = follow(encode_one(job, settings), "encoding")
        report({"folder": out, "patches": {path.stem: len(bag)}}, as_json)
        return
    work = encode_cohort(jobs_of(path, out, slide_mpp), settings)
    outcomes = follow(work, "encoding")
    counts = {name: one.patches for name, one in outcomes.items() if one.patches is not None}
    table = {name: one.text for name, one in outcomes.items()}
    report({"folder": out, "patches": counts, "outcomes": table}, as_json)
    raise typer.Exit(SOME_FAILED if any(one.failed for one in outcomes.values()) else 0)
