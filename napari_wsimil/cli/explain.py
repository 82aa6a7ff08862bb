"""Verbs for predictions: predict, explain, whatif, effect, export-map."""

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
    """Predict the class probabilities, or survival and risk, of slides.

    A slide is encoded first, at the µm per pixel and patch size of the model's training. With
    --patient, the path is a manifest or a study: the patient's slides are pooled. The result also
    lists each slide's own prediction, the change it causes, and the slide with the largest change.

    For a manifest or a study without --patient, all patients are predicted. Slides and patients
    that cannot be read are listed, the others continue, and the exit code is 3.
    """
    from napari_wsimil.cli.console import check_one_slide
    from napari_wsimil.workflows.slides import is_cohort

    if patient is not None or is_cohort(path):
        given = {"--slide-mpp": slide_mpp, "--patch-size": patch_size, "--manifest": manifest}
        check_one_slide(path, given)
    if patient is not None:
        from napari_wsimil.cli.patient import patient_facts, some_failed

        facts = patient_facts(checkpoint, path, patient, features, weights)
        report(facts, as_json)
        raise typer.Exit(SOME_FAILED if some_failed(facts) else 0)
    if is_cohort(path):
        from napari_wsimil.cli.patient import cohort_facts, some_failed

        facts = cohort_facts(checkpoint, path, features, weights)
        report(facts, as_json)
        raise typer.Exit(SOME_FAILED if some_failed(facts) else 0)
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.slides import SlideQuery, predict_path

    options = BagOptions(weights, slide_mpp, patch_size)
    query = SlideQuery(checkpoint, path, options, manifest)
    _, prediction = follow(predict_path(query), "encoding")
    warn(prediction.warnings)
    probabilities = dict(
        zip(prediction.card.outcomes, prediction.probabilities.tolist(), strict=True)
    )
    facts = {"probabilities": probabilities, **prediction.scalars, "patches": len(prediction.bag)}
    report(
        {**facts, "synthetic": prediction.bag.synthetic, "warnings": prediction.warnings}, as_json
    )


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
    """List a model's maps of a slide; write them with --out.

    Each map is listed with its kind, its limits and its highest patch; attention also with its
    effective number of patches (from its entropy). --query and --area give maps for a patch or an
    area, for models that support queries. --looks gives maps after a number of steps, for
    sequential models such as sasha.

    With --out the maps are written, as by export-map. If --manifest is a study, it stores the
    prediction for its patient, except with --looks.
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
    request = SlideQuery(checkpoint, path, options, manifest)
    prediction = follow(explain_path(request, area=region, looks=looks), "encoding")
    warn(prediction.warnings)
    if subject is not None and manifest is not None and looks is None:
        keep_explained(manifest, prediction, subject)
    written = None if out is None else export.export_map(prediction, out, map_name)
    if noted is not None and written is not None:
        note_export(noted, written, patient, prediction.card.weights)
    facts = {
        "maps": summaries(prediction),
        "patches": len(prediction.bag),
        "synthetic": prediction.bag.synthetic,
    }
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
    """Rerun a model on an edited clinical record.

    Prints the probabilities before and after the edit. For each map it prints the mean change
    ("brighter": how much brighter the map is overall), the total variation ("moved": the share
    of the map that moved to other patches) and two more measures of the map shift, beside the
    baseline variability ("noise": the shift without any edit). The stored record stays unchanged.

    Without a slide, all cases are predicted; a failed case is listed, the others continue, and
    the exit code is 1. A study records the edits and the written files in its audit log.
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
    scenario_ = scenario_of(card, changes or (), missing or (), scenario)
    if save_scenario is not None:
        write_scenario(scenario_, save_scenario)
    study = noting(manifest, out)
    if path is None:
        cohort = follow(
            what_if_cohort(
                loaded, manifest, scenario_, features=features, split=split, noisy=noise
            ),
            "predicting",
        )
        facts, edits = cohort_facts(card, scenario_, cohort, out), cohort.edits
    else:
        bag_options, folds = BagOptions(weights, slide_mpp, patch_size), fold_models or ()
        slide = follow(
            what_if_slide(
                loaded, path, manifest, scenario_, bag_options, fold_models=folds, noisy=noise
            ),
            "what-if",
        )
        facts, edits = slide_facts(card, slide, out), (slide.edit,)
    if study is not None:
        files = facts.get("files", [facts["file"]] if "file" in facts else [])
        patient = "" if path is None else edits[0].patient
        why = scenario_.name if scenario is None else f"scenario {scenario_.name}"
        if problem := note_whatif(study, edits, files, card.weights, why, patient):
            warn([problem])
    report(facts, as_json)
    raise typer.Exit(1 if facts.get("failed") else 0)


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
    """Measure how removing top-ranked patches, or an area, changes the prediction.

    The patches are ranked by a map. The model runs again while more and more of the top patches
    are removed (deletion), and with only those (insertion), and the same with random patches: 100
    or more passes. With --area it runs once without the patches in this area. With --study the
    written curves are added to its audit log.
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
    request = SlideQuery(checkpoint, path, options, manifest)
    model, prediction = follow(predict_path(request), "encoding")
    warn(prediction.warnings)
    if region is not None:
        report(removal_facts(model, prediction, region, outcome), as_json)
        return
    facts = curve_facts(model, prediction, map_name, outcome, out, seed)
    if noted is not None and out is not None:
        note_export(noted, out, patient, prediction.card.weights)
    report(facts, as_json)


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
    """Write maps as a table, QuPath tiles or a picture.

    Positions are in level-0 pixels. The export contains no name of a slide or patient. With --study
    its audit log records the patient, the file and the model of the map.
    """
    from napari_wsimil.cli.console import check_map
    from napari_wsimil.explain import export
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.record_edits import note_export, owner_of
    from napari_wsimil.workflows.slides import SlideQuery, predict_path

    check_map(map_name, out)
    noted, patient = owner_of(study, manifest, path, out)
    options = BagOptions(weights, slide_mpp, patch_size)
    request = SlideQuery(checkpoint, path, options, manifest)
    _, prediction = follow(predict_path(request), "encoding")
    warn(prediction.warnings)
    written = export.export_map(prediction, out, map_name)
    if noted is not None:
        note_export(noted, written, patient, prediction.card.weights)
    report(
        {"file": written, "patches": len(prediction.bag), "synthetic": prediction.bag.synthetic},
        as_json,
    )
