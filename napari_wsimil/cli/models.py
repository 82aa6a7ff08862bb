"""Verbs for models: train, evaluate, models, import-weights."""

from __future__ import annotations

from typing import Any

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import SOME_FAILED, follow, report, warn

verbs = typer.Typer()


@verbs.command(
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
    """Train a model on a cohort and save a checkpoint.

    The split column of the manifest defines training, validation and test set. Without it,
    cross-validation folds are made by patient, stratified by label or event. The validation set
    selects the best weights. All slides of a patient are pooled.

    Features are read from the manifest's feature_path or from --features. Missing features are
    extracted first, with the built-in encoder at 0.5 µm per pixel and 224 pixels. A saved run,
    from --save-config or from the Train dock, gives the same numbers again with --config.
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


@verbs.command(
    epilog=opt.examples(
        "napari-wsimil models",
        "napari-wsimil models acmil --json",
    )
)
def models(
    name: opt.MaybeModel = None,
    as_json: opt.Json = False,
) -> None:
    """List the models, their requirements and their training options."""
    from napari_wsimil.cli.model_facts import model_facts

    report(model_facts(name), as_json)


@verbs.command(
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
    """Evaluate a model on patients, with 95 % bootstrap intervals.

    Metrics are AUC, balanced accuracy and macro-F1 for classes, and Harrell's c-index for survival;
    intervals are over patients. In a study with predictions per slide, each slide is a case.
    Clinical records are read with the schema of the checkpoint. If the cohort is a study, it
    stores the predictions for its patients.
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
    assessment = follow(work, "evaluating")
    warn([*assessment.warnings, *(f"{name}: {why}" for name, why in assessment.failed.items())])
    keep_evaluated(manifest, card, assessment, records)
    counts = {"patients": assessment.persons, assessment.unit: len(assessment.patients)}
    facts: dict[str, Any] = counts | {"metrics": interval_facts(assessment.metrics, as_json)}
    if assessment.failed:
        facts["failed"] = len(assessment.failed)
    if identifying:
        facts["probabilities"] = assessment.patients
    report(facts, as_json)
    raise typer.Exit(SOME_FAILED if assessment.failed else 0)


@verbs.command(
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
    """Convert weights of the authors' program to a checkpoint.

    No code in the file is executed. Weights without a counterpart in our model are listed. If a
    weight of our model is missing, nothing is written.
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
