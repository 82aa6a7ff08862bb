"""Verbs of predictions: maps, queries, what-if, occlusion."""

from __future__ import annotations

import typer

from napari_wsimil.cli import options as opt
from napari_wsimil.cli.console import SOME_FAILED, follow, report, warn

verbs = typer.Typer()


@verbs.command(
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


@verbs.command(
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


@verbs.command(
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


@verbs.command(
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


@verbs.command(
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
