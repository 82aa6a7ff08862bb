"""Command line: one function per verb, a few lines over the library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import SOME_FAILED, Verbs, follow, remark, report, warn
from napari_wsimil.cli.tables import study_verbs

if TYPE_CHECKING:
    from collections.abc import Sequence


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(study_verbs, name="study")


@app.callback()
def _root(
    debug: opt.Debug = False,
) -> None:
    """Whole-slide images, and where multiple-instance-learning models looked in them.

    Results go to stdout, progress to stderr; an error is one line and exit code 2. Where some
    slides or patients of many failed, each is named with the reason, the others are done, and
    the exit code is 3 (1 of `whatif`). Positions
    and sizes are level-0 pixels unless a name says otherwise. Nothing touches the network.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of a command line: 0, or 2 after an error told in one line.

    Where the reader of stdout is gone, as `head` is after its lines, Typer ends the program
    with exit code 1 and without a word.
    """
    try:
        code = app(arguments, prog_name="napari-wsimil", standalone_mode=False)
    except typer.TyperException as error:
        if message := " ".join(error.format_message().split()):
            remark(f"error: {message}")
        return 2
    except typer.Abort:
        remark("stopped")
        return 130
    return code if isinstance(code, int) else 0


@app.command(
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
    """Tell the facts of a slide, a features file (.h5), a checkpoint (.safetensors) or a
    manifest (.csv).

    Header text, label and macro pictures and patients' ids are left out unless asked for.
    """
    from napari_wsimil.cli.info import facts_of, metric_facts

    facts = facts_of(path, slide_mpp, identifying)
    if "reasons" in facts:
        facts |= metric_facts(facts["metrics"], facts.pop("reasons"), as_json)
    report(facts, as_json)


@app.command(
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
    """Write a synthetic H&E-like slide and the outlines of its lesions, or a cohort of them.

    Everything made from it says "synthetic". A recipe states sizes and lesions itself.
    """
    from napari_wsimil.synthetic import SlideRecipe, write_phantom
    from napari_wsimil.synthetic.cohort import load_recipe, write_cohort

    if recipe is not None:
        manifest = follow(write_cohort(load_recipe(recipe), path), "painting")
        report({"manifest": manifest, "synthetic": True}, as_json)
        return
    lesions = {"A": 0.06} if lesion is None else dict(map(_lesion, lesion))
    wanted = SlideRecipe(width=size, height=size, mpp=mpp, seed=seed, lesions=lesions)
    made = follow(write_phantom(path, wanted), "painting")
    report({"slide": made.path, "truth": made.truth_path, "synthetic": True}, as_json)


def _lesion(text: str) -> tuple[str, float]:
    kind, _, share = text.partition("=")
    try:
        return kind, float(share)
    except ValueError as error:
        raise ValueError(f"--lesion {text!r} is not KIND=SHARE, such as A=0.06") from error


@app.command(
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
    """Find tissue, lay patches and encode each: one HDF5 file per slide, in TRIDENT's layout.

    The hours and gigabytes it takes on this machine are told first. A run that was stopped
    goes on where it ended. With --check nothing is written: it tells how alike the encoder's
    features are to those that a file has of the same patches, before both are mixed.

    Of a cohort each slide has its own outcome: done, skipped or failed, with the reason. The
    others go on where one fails, and the exit code is 3.
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
        raise ValueError(
            "extract needs --out, a folder for the features, or --check a file of some"
        )
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


@app.command(
    epilog=opt.examples(
        "napari-wsimil train cohort.csv -o acmil.safetensors --features features",
        "… --model abmil --option width=128 --folds 5 --fold 2",
        "… --model persam-live --schema schema.yaml",
        "… --task survival --time-unit months",
        "… --threads 2 --save-config run.json",
        "napari-wsimil train --config run.json",
    )
)
def train(
    manifest: opt.MaybeCohort = None,
    out: opt.MaybeNewCheckpoint = None,
    features: opt.Features = None,
    model: opt.MaybeModelToTrain = None,
    option: opt.ModelOption = None,
    task: opt.MaybeTask = None,
    time_unit: opt.TimeUnit = None,
    schema: opt.Schema = None,
    weights: opt.Weights = None,
    epochs: opt.Epochs = None,
    lr: opt.Lr = None,
    accumulate: opt.Accumulate = None,
    folds: opt.Folds = None,
    fold: opt.Fold = None,
    seed: opt.MaybeSeed = None,
    threads: opt.Threads = None,
    mixed_scales: opt.MixedScales = False,
    config: opt.RunFile = None,
    save_config: opt.SaveRun = None,
    as_json: opt.Json = False,
) -> None:
    """Train a model on a cohort and save it with its card.

    Patients train, choose the weights and test as the manifest's split says, or by a fold of
    patients stratified by label or event. Slides of a patient are pooled. Features are read
    from the manifest's feature_path or --features; those not there are made first, with the
    built-in encoder at 0.5 µm per pixel and 224 pixels. A run that was saved, here or in the
    window's Train dock, gives the same numbers again with --config.
    """
    from napari_wsimil.cli.info import metric_facts
    from napari_wsimil.cli.train import prepare, run_of
    from napari_wsimil.training.config import write_run
    from napari_wsimil.training.train import train_run

    given = {
        "cohort": manifest,
        "out": out,
        "features": features,
        "model": model,
        "option": option,
        "task": task,
        "time_unit": time_unit,
        "record_schema": schema,
        "encoder_weights": weights,
        "epochs": epochs,
        "lr": lr,
        "accumulate": accumulate,
        "folds": folds,
        "fold": fold,
        "seed": seed,
        "threads": threads,
        "mixed_scales": mixed_scales or None,
    }
    run = run_of(config, given)
    cohort = prepare(run, given)
    if save_config is not None:
        write_run(save_config, run)
    trained = follow(train_run(run, cohort), "training")
    card = trained.card
    warn([*card.notes, *trained.remarks, *filter(None, (trained.unnoted,))])
    facts = {"checkpoint": run.out, "model": card.model}
    report(facts | metric_facts(card.metrics, card.reasons, as_json), as_json)


@app.command(
    epilog=opt.examples(
        "napari-wsimil models",
        "napari-wsimil models acmil --json",
    )
)
def models(
    name: opt.MaybeModel = None,
    as_json: opt.Json = False,
) -> None:
    """Tell which models there are, what they need, and the options that train takes."""
    from napari_wsimil.cli.info import model_facts

    report(model_facts(name), as_json)


@app.command(
    epilog=opt.examples(
        "napari-wsimil evaluate model.safetensors cohort.csv --features features",
        "… --split validation --json",
    )
)
def evaluate(
    checkpoint: opt.Checkpoint,
    manifest: opt.Manifest,
    features: opt.Features = None,
    weights: opt.Weights = None,
    split: opt.Split = None,
    draws: opt.Draws = 1000,
    mixed_scales: opt.MixedScales = False,
    identifying: opt.Identifying = False,
    as_json: opt.Json = False,
) -> None:
    """Tell how well a model does on patients, with 95 % bootstrap intervals over patients.

    Of a study whose predictions are of slides each slide is a case of its own.
    Classes are judged by AUC, balanced accuracy and macro-F1, survival by Harrell's c-index.
    Records are read with the schema the model learned with. A study keeps what is said of its
    patients as their predictions.
    """
    from napari_wsimil.cli.console import check_weights
    from napari_wsimil.cli.info import interval_facts
    from napari_wsimil.cli.predictions import keep_evaluated, records_of
    from napari_wsimil.training.checkpoint import load_checkpoint
    from napari_wsimil.training.dataset import open_cohort
    from napari_wsimil.training.evaluate import assess
    from napari_wsimil.training.subpatch_provider import closer_for

    model, card = load_checkpoint(checkpoint)
    check_weights(card.model, weights)
    records = records_of(manifest)
    cohort = open_cohort(manifest, card.record.clinical if card.record else None)
    closer = closer_for(type(model), weights)
    work = assess(model, card, cohort, features, split, draws, closer, mixed_scales)
    found = follow(work, "evaluating")
    warn([*found.warnings, *(f"{name}: {why}" for name, why in found.failed.items())])
    keep_evaluated(manifest, card, found, records)
    counts = {"patients": found.persons, found.unit: len(found.patients)}
    facts: dict[str, Any] = counts | {"metrics": interval_facts(found.metrics, as_json)}
    if found.failed:
        facts["failed"] = len(found.failed)
    if identifying:
        facts["probabilities"] = found.patients
    report(facts, as_json)
    raise typer.Exit(SOME_FAILED if found.failed else 0)


@app.command(
    epilog=opt.examples(
        "napari-wsimil predict model.safetensors slide.svs",
        "napari-wsimil predict model.safetensors features/slide.h5 --json",
        "napari-wsimil predict model.safetensors cohort.csv --patient P007",
    )
)
def predict(
    checkpoint: opt.Checkpoint,
    path: opt.SlideOrFeatures,
    weights: opt.Weights = None,
    slide_mpp: opt.SlideMpp = None,
    patch_size: opt.PatchSize = None,
    manifest: opt.Records = None,
    patient: opt.OnePatient = None,
    features: opt.Features = None,
    as_json: opt.Json = False,
) -> None:
    """Tell the probability of each class, or of survival and the risk, for one slide.

    A slide is encoded first, at the µm per pixel and patch size the model learned with.
    With --patient the path is a manifest or a study: the patient's slides are pooled, and it
    is told what each says alone and changes, and which drove the answer. Of a manifest or a
    study without --patient all patients are asked about; where slides or patients cannot be
    read these are named, the others go on, and the exit code is 3.
    """
    from napari_wsimil.cli.console import check_one_slide
    from napari_wsimil.workflows.slides import is_cohort

    if patient is not None or is_cohort(path):
        given = {"--slide-mpp": slide_mpp, "--patch-size": patch_size, "--manifest": manifest}
        check_one_slide(path, given)
    if patient is not None:
        from napari_wsimil.cli.patient import patient_facts, some_failed

        told = patient_facts(checkpoint, path, patient, features, weights)
        report(told, as_json)
        raise typer.Exit(SOME_FAILED if some_failed(told) else 0)
    if is_cohort(path):
        from napari_wsimil.cli.patient import cohort_facts, some_failed

        told = cohort_facts(checkpoint, path, features, weights)
        report(told, as_json)
        raise typer.Exit(SOME_FAILED if some_failed(told) else 0)
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.slides import SlideQuery, predict_path

    options = BagOptions(weights, slide_mpp, patch_size)
    asked = SlideQuery(checkpoint, path, options, manifest)
    _, found = follow(predict_path(asked), "encoding")
    warn(found.warnings)
    chances = dict(zip(found.card.outcomes, found.probabilities.tolist(), strict=True))
    facts = {"probabilities": chances, **found.scalars, "patches": len(found.bag)}
    report({**facts, "synthetic": found.bag.synthetic, "warnings": found.warnings}, as_json)


@app.command(
    epilog=opt.examples(
        "napari-wsimil explain model.safetensors slide.svs",
        "napari-wsimil explain querent.safetensors slide.h5 --query 20480,9216",
        "… --area 20480,9216,2048,2048 --out maps.csv",
        "napari-wsimil explain sasha.safetensors slide.svs --looks 20",
    )
)
def explain(
    checkpoint: opt.Checkpoint,
    path: opt.SlideOrFeatures,
    query: opt.Query = None,
    area: opt.Area = None,
    looks: opt.LooksMade = None,
    out: opt.MapsOut = None,
    map_name: opt.MapName = None,
    weights: opt.Weights = None,
    slide_mpp: opt.SlideMpp = None,
    patch_size: opt.PatchSize = None,
    manifest: opt.Records = None,
    study: opt.NotedIn = None,
    as_json: opt.Json = False,
) -> None:
    """Tell a model's maps: of the slide, as its answer about a place, or after some looks.

    Of each map its kind, its limits and the patch where it is highest; of attention also on
    how many patches it lies, by its entropy. With --out the maps are written and noted too, as
    export-map does. A model that answers no queries, or looks at all at once, says so. A study
    given as the manifest keeps what is said of its patient, unless that is after some looks.
    """
    from napari_wsimil.cli.console import asked_area, check_map
    from napari_wsimil.cli.predictions import keep_explained, subject_of
    from napari_wsimil.explain import export
    from napari_wsimil.explain.query import summaries
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.record_edits import note_export, owner_of
    from napari_wsimil.workflows.slides import SlideQuery, explain_path

    check_map(map_name, out)
    region, subject = asked_area(query, area), subject_of(manifest, path)
    noted, patient = owner_of(study, manifest, path, out)
    options = BagOptions(weights, slide_mpp, patch_size)
    asked = SlideQuery(checkpoint, path, options, manifest)
    found = follow(explain_path(asked, area=region, looks=looks), "encoding")
    warn(found.warnings)
    if subject is not None and manifest is not None and looks is None:
        keep_explained(manifest, found, subject)
    written = None if out is None else export.export_map(found, out, map_name)
    if noted is not None and written is not None:
        note_export(noted, written, patient, found.card.weights)
    facts = {"maps": summaries(found), "patches": len(found.bag), "synthetic": found.bag.synthetic}
    report(facts | ({} if written is None else {"file": written}), as_json)


@app.command(
    epilog=opt.examples(
        "napari-wsimil whatif live.safetensors slide.h5 --manifest cohort.csv --set ldh=210",
        "… --set ldh=210 --set age=missing --out maps --save-scenario low.yaml",
        "napari-wsimil whatif live.safetensors --manifest study --scenario low.yaml --out low",
    )
)
def whatif(
    checkpoint: opt.Checkpoint,
    manifest: opt.Cases,
    path: opt.MaybeSlideOrFeatures = None,
    changes: opt.Changes = None,
    missing: opt.GroupsMissing = None,
    scenario: opt.ScenarioFile = None,
    save_scenario: opt.SaveScenario = None,
    fold_models: opt.FoldModels = None,
    noise: opt.Noisy = True,
    features: opt.Features = None,
    split: opt.MaybeSplit = None,
    out: opt.WhatIfFolder = None,
    weights: opt.Weights = None,
    slide_mpp: opt.SlideMpp = None,
    patch_size: opt.PatchSize = None,
    as_json: opt.Json = False,
) -> None:
    """Tell what a model would say of a slide if the patient's record were otherwise.

    Probabilities before and after, and for each map how much brighter it is overall apart from
    how far it moved, beside how far it moves when nothing changes. The record itself stays as
    it is. Without a slide all cases are asked about; one that fails is named, the others go on,
    and the exit code is 1. A study notes in its ledger what was tried, and files that leave it.
    """
    from napari_wsimil.cli.console import check_one_or_many
    from napari_wsimil.cli.whatif import cohort_facts, scenario_of, slide_facts
    from napari_wsimil.clinical.scenario import write_scenario
    from napari_wsimil.training.checkpoint import load_checkpoint
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.record_edits import note_whatif, noting
    from napari_wsimil.workflows.whatif import what_if_cohort, what_if_slide

    options = {"--weights": weights, "--slide-mpp": slide_mpp, "--patch-size": patch_size}
    many = {"--features": features, "--split": split}
    check_one_or_many(path, {**options, "--fold-model": fold_models}, many)
    loaded = load_checkpoint(checkpoint)
    card = loaded[1]
    asked = scenario_of(card, changes or (), missing or (), scenario)
    if save_scenario is not None:
        write_scenario(asked, save_scenario)
    study = noting(manifest, out)
    if path is None:
        cohort = follow(
            what_if_cohort(loaded, manifest, asked, features=features, split=split, noisy=noise),
            "asking",
        )
        told, edits = cohort_facts(card, asked, cohort, out), cohort.edits
    else:
        given, folds = BagOptions(weights, slide_mpp, patch_size), fold_models or ()
        slide = follow(
            what_if_slide(loaded, path, manifest, asked, given, fold_models=folds, noisy=noise),
            "what-if",
        )
        told, edits = slide_facts(card, slide, out), (slide.edit,)
    if study is not None:
        files = told.get("files", [told["file"]] if "file" in told else [])
        patient = "" if path is None else edits[0].patient
        why = asked.name if scenario is None else f"scenario {asked.name}"
        if not_noted := note_whatif(study, edits, files, card.weights, why, patient):
            warn([not_noted])
    report(told, as_json)
    raise typer.Exit(1 if told.get("failed") else 0)


@app.command(
    epilog=opt.examples(
        "napari-wsimil effect acmil.safetensors slide.h5 --out curves.png",
        "napari-wsimil effect acmil.safetensors slide.h5 --area 20480,9216,2048,2048",
        "… --map 'evidence: tumor' --class tumor --out curves.csv",
    )
)
def effect(
    checkpoint: opt.Checkpoint,
    path: opt.SlideOrFeatures,
    map_name: opt.RankingName = None,
    area: opt.RemovedArea = None,
    outcome: opt.Outcome = None,
    out: opt.CurvesOut = None,
    seed: opt.Seed = 0,
    weights: opt.Weights = None,
    slide_mpp: opt.SlideMpp = None,
    patch_size: opt.PatchSize = None,
    manifest: opt.Records = None,
    study: opt.NotedIn = None,
    as_json: opt.Json = False,
) -> None:
    """Tell what the patches that a map ranks first do to the answer, or those of an area.

    The model is asked again: as more and more of them are taken away, and of them alone,
    beside as many at random; for an area once, without it. A hundred and more passes. With
    --study its ledger keeps where the curves went.
    """
    from napari_wsimil.cli.console import asked_area, check_effect
    from napari_wsimil.cli.occlusion import curve_facts, removal_facts
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.record_edits import note_export, owner_of
    from napari_wsimil.workflows.slides import SlideQuery, predict_path

    check_effect(area, map_name, out)
    region = asked_area(None, area)
    noted, patient = owner_of(study, manifest, path, out)
    options = BagOptions(weights, slide_mpp, patch_size)
    asked = SlideQuery(checkpoint, path, options, manifest)
    model, found = follow(predict_path(asked), "encoding")
    warn(found.warnings)
    if region is not None:
        report(removal_facts(model, found, region, outcome), as_json)
        return
    told = curve_facts(model, found, map_name, outcome, out, seed)
    if noted is not None and out is not None:
        note_export(noted, out, patient, found.card.weights)
    report(told, as_json)


@app.command(
    "export-map",
    epilog=opt.examples(
        "napari-wsimil export-map model.safetensors slide.svs map.geojson",
        "… slide.h5 map.png --map attention",
    ),
)
def export_map(
    checkpoint: opt.Checkpoint,
    path: opt.SlideOrFeatures,
    out: opt.NewMap,
    map_name: opt.MapName = None,
    weights: opt.Weights = None,
    slide_mpp: opt.SlideMpp = None,
    patch_size: opt.PatchSize = None,
    manifest: opt.Records = None,
    study: opt.NotedIn = None,
    as_json: opt.Json = False,
) -> None:
    """Write where a model looked: a table, tiles for QuPath, or a picture.

    Squares are in level-0 pixels. The export names no slide and no patient. With --study its
    ledger keeps which patient's map went where, by which model.
    """
    from napari_wsimil.cli.console import check_map
    from napari_wsimil.explain import export
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.record_edits import note_export, owner_of
    from napari_wsimil.workflows.slides import SlideQuery, predict_path

    check_map(map_name, out)
    noted, patient = owner_of(study, manifest, path, out)
    options = BagOptions(weights, slide_mpp, patch_size)
    asked = SlideQuery(checkpoint, path, options, manifest)
    _, found = follow(predict_path(asked), "encoding")
    warn(found.warnings)
    written = export.export_map(found, out, map_name)
    if noted is not None:
        note_export(noted, written, patient, found.card.weights)
    report({"file": written, "patches": len(found.bag), "synthetic": found.bag.synthetic}, as_json)


@app.command(
    "import-weights",
    epilog=opt.examples(
        "napari-wsimil import-weights ckpt.pth --model acmil --features slide.h5 "
        "--classes normal,tumor -o acmil.safetensors",
    ),
)
def import_weights(
    files: opt.ReleaseFiles,
    out: opt.NewCheckpoint,
    model: opt.ReleaseModel,
    features: opt.LikeFeatures,
    classes: opt.ClassNames,
    patch_size: opt.PatchSize = None,
    as_json: opt.Json = False,
) -> None:
    """Make a checkpoint of weights in the naming of a paper's own program.

    No code of the file is run. Weights that our model has no place for are told; if one of
    ours is missing, nothing is written.
    """
    from datetime import date

    from napari_wsimil.cli.console import class_names
    from napari_wsimil.features.importers.open import open_bag
    from napari_wsimil.training.checkpoint import save_checkpoint
    from napari_wsimil.training.import_weights import import_release

    names = class_names(classes)
    like = open_bag(features, patch_size=patch_size)
    today = date.today().isoformat()
    imported, card, taken = import_release(files, model, like, names, today)
    save_checkpoint(out, imported, card)
    warn(card.notes)
    report({"checkpoint": out, "config": card.config, "left out": taken.unexpected}, as_json)


@app.command(
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


@app.command(
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


@app.command(
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


if __name__ == "__main__":
    sys.exit(main())
