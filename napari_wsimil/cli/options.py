"""Arguments and options of the verbs, with their units and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Identifying = Annotated[
    bool, typer.Option("--identifying", help="Also print values that may identify a patient.")
]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        help="Folder of feature files <slide_id>.h5, for slides without feature_path.",
    ),
]
SlideMpp = Annotated[
    float | None,
    typer.Option("--slide-mpp", help="µm per level-0 pixel; replaces the slide's header."),
]
Weights = Annotated[Path | None, typer.Option(help="File with the weights of the encoder.")]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Download weights from Hugging Face; never done without this option."
    ),
]
Seed = Annotated[
    int,
    typer.Option(min=0, help="Seed; equal seeds and threads give equal results."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AnyFile = Annotated[Path, typer.Argument(help="Slide, features, checkpoint or manifest.")]
NewSlide = Annotated[Path, typer.Argument(help="Slide to write (.tiff, .svs), or a folder.")]
Recipe = Annotated[
    Path | None,
    typer.Option(help="Recipe (.toml) of a cohort: writes a folder of slides with a manifest."),
]
Size = Annotated[int, typer.Option(help="Width and height in pixels, 64 to 200,000.")]
PhantomMpp = Annotated[float, typer.Option(help="µm per pixel, 0.2 to 4.")]
Lesion = Annotated[
    list[str] | None,
    typer.Option(
        help="KIND=SHARE: lesions of kind A, B or C on this share of the tissue; may repeat."
    ),
]
SlideOrCohort = Annotated[
    Path, typer.Argument(help="Slide, or the manifest (.csv) or study of a cohort.")
]
FeatureFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for the feature files (.h5).")
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--check", help="Features of this slide by another tool: compare them, write nothing."
    ),
]
Encoder = Annotated[str, typer.Option(help="Name of the patch encoder.")]
PatchMpp = Annotated[float, typer.Option(help="µm per pixel of the patches.")]
Pixels = Annotated[int, typer.Option(help="Side of a patch in pixels of --mpp.")]
Overlap = Annotated[
    float, typer.Option(help="Overlap of neighboring patches, as a share of their side.")
]
Manifest = Annotated[
    Path, typer.Argument(help="Cohort: a manifest (.csv, one row per slide) or a study.")
]
NewCheckpoint = Annotated[
    Path, typer.Option("--out", "-o", help="Checkpoint to write (.safetensors).")
]
MaybeCohort = Annotated[
    Path | None,
    typer.Argument(
        help="Cohort: a manifest (.csv, one row per slide), a study, or a folder of features "
        "with a subfolder per class."
    ),
]
MaybeNewCheckpoint = Annotated[
    Path | None, typer.Option("--out", "-o", help="Checkpoint to write (.safetensors).")
]
MaybeModelToTrain = Annotated[
    str | None,
    typer.Option(
        "--model", help="Name of the model; `napari-wsimil models` lists them. Default: acmil."
    ),
]
MaybeModel = Annotated[
    str | None, typer.Argument(help="Name of a model. Default: a summary of all.")
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", help="NAME=VALUE: an option of the model, such as branches=3; may repeat."
    ),
]
MaybeTask = Annotated[
    Literal["classification", "survival", "cox"] | None,
    typer.Option(
        help="Predict the label (classification) or time and event. Default: classification."
    ),
]
TimeUnit = Annotated[
    str | None, typer.Option(help="Unit of the times in the manifest, for survival.")
]
Schema = Annotated[
    Path | None,
    typer.Option(help="Schema (.yaml) of the clinical records, for models that use records."),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Passes over the training patients; sasha: of its first stage. "
        "Default: set by the model.",
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        help="Learning rate of AdamW; sasha: of its first stage. Default: set by the model."
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Patients per optimizer step; Cox compares these. Default: set by the model, or 16.",
    ),
]
Folds = Annotated[
    int | None, typer.Option(help="Number of folds, if the manifest has no split. Default: 5.")
]
Fold = Annotated[int | None, typer.Option(help="Fold of the test set, counted from 0. Default: 0.")]
MaybeSeed = Annotated[
    int | None,
    typer.Option(min=0, help="Seed; equal seeds and threads give equal results. Default: 0."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads of PyTorch. Default: chosen by PyTorch."),
]
MixedScales = Annotated[
    bool,
    typer.Option(
        "--mixed-scales",
        help="Accept features with several µm per pixel or patch sizes; the checkpoint card "
        "states their range.",
    ),
]
RunFile = Annotated[
    Path | None,
    typer.Option("--config", help="Saved run (.json); replaces all other training options."),
]
SaveRun = Annotated[Path | None, typer.Option(help="Also save this run as JSON.")]
Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint of a trained model (.safetensors).")]
Split = Annotated[
    str | None,
    typer.Option(help="train, validation or test. Default: all patients not used in training."),
]
Draws = Annotated[int, typer.Option(min=100, help="Number of bootstrap samples of patients.")]
SlideOrFeatures = Annotated[
    Path,
    typer.Argument(help="Slide, or its features (.h5); sasha and hafed require the slide."),
]
OnePatient = Annotated[
    str | None,
    typer.Option("--patient", help="Pool all slides of this patient of the manifest or study."),
]
PatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side of a patch in level-0 pixels, if the feature file lacks it."),
]
NewMap = Annotated[Path, typer.Argument(help="File to write: .csv, .geojson, .geojson.gz or .png.")]
MapName = Annotated[
    str | None, typer.Option("--map", help="Map in the .png. Default: the main map.")
]
Records = Annotated[
    Path | None,
    typer.Option(
        "--manifest", help="Manifest or study with the patient's record, for models that use it."
    ),
]
NotedIn = Annotated[
    Path | None,
    typer.Option("--study", help="Study of the slide; the export is added to its audit log."),
]
ReleaseFiles = Annotated[
    list[Path],
    typer.Argument(help="Weights from the authors' program: .safetensors or a plain state dict."),
]
ReleaseModel = Annotated[
    str, typer.Option("--model", help="Name of the model: acmil, hafed, longmil or vib.")
]
LikeFeatures = Annotated[
    Path,
    typer.Option(
        help="Features (.h5) of any slide, made by the encoder of these weights; for the card."
    ),
]
ClassNames = Annotated[
    str, typer.Option(help="Class names in the order of the weights, such as normal,tumor.")
]
Query = Annotated[
    str | None,
    typer.Option(help="X,Y in level-0 pixels: maps for the patch at this position."),
]
Area = Annotated[
    str | None,
    typer.Option(help="X,Y,WIDTH,HEIGHT in level-0 pixels: maps for the patches in this area."),
]
RankingName = Annotated[
    str | None,
    typer.Option("--map", help="Map that ranks the patches. Default: the main map."),
]
RemovedArea = Annotated[
    str | None,
    typer.Option(help="X,Y,WIDTH,HEIGHT in level-0 pixels: remove the patches in this area."),
]
Outcome = Annotated[
    str | None,
    typer.Option(
        "--class", help="Class, or survival outcome, to measure. Default: the most probable one."
    ),
]
CurvesOut = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write the curves to this .csv or .png.")
]
MapsOut = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write the maps to this .csv, .geojson, .geojson.gz or .png."),
]
MaybeSlide = Annotated[Path | None, typer.Argument(help="Slide, or folder of a study.")]
ShownPatient = Annotated[
    str | None, typer.Option("--patient", help="Patient of the study to show.")
]
MaybeCheckpoint = Annotated[
    Path | None, typer.Option(help="Checkpoint of a trained model (.safetensors).")
]
SlideFeatures = Annotated[Path | None, typer.Option(help="Features of the slide (.h5).")]
Screenshot = Annotated[
    Path | None, typer.Option(help="Write the window to this .png, then close it.")
]
PrepareOnly = Annotated[
    bool, typer.Option("--prepare-only", help="Create the study; open no window.")
]
Folder = Annotated[
    Path | None, typer.Option(help="Folder of the demo study. Default: in the user's cache.")
]


def examples(*lines: str) -> str:
    """Return the examples at the end of a verb's help."""
    return "\n".join(["Examples:", "", *(f"- `{line}`" for line in lines)])


PictureFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")]
Theme = Annotated[Literal["dark", "light"], typer.Option(help="Theme of the window.")]
LooksMade = Annotated[
    int | None,
    typer.Option("--looks", min=0, help="Maps after this number of steps, for sasha."),
]
Cases = Annotated[
    Path,
    typer.Option("--manifest", help="Manifest (.csv) or study with the clinical records."),
]
MaybeSlideOrFeatures = Annotated[
    Path | None,
    typer.Argument(help="Slide, or its features (.h5). Default: all cases of the manifest."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="FIELD=VALUE: edit a field, such as ldh=210 or age=missing; may repeat."
    ),
]
GroupsMissing = Annotated[
    list[str] | None,
    typer.Option("--missing", help="Set a group of fields, or all fields, to missing; may repeat."),
]
ScenarioFile = Annotated[
    Path | None,
    typer.Option("--scenario", help="Saved edits (.yaml); replaces --set and --missing."),
]
SaveScenario = Annotated[Path | None, typer.Option(help="Also save the edits as YAML.")]
FoldModels = Annotated[
    list[Path] | None,
    typer.Option(
        "--fold-model",
        help="Checkpoint trained on another fold, for the baseline variability; may repeat.",
    ),
]
Noisy = Annotated[
    bool,
    typer.Option(
        "--noise/--no-noise", help="Measure the baseline variability: map shifts without an edit."
    ),
]
WhatIfFolder = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for the maps, or for the table of cases."),
]
MaybeSplit = Annotated[
    str | None,
    typer.Option(help="Only cases of this set: train, validation or test. Default: all."),
]
