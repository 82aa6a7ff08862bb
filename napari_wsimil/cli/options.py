"""What the verbs of the command line take, each with its unit and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Identifying = Annotated[
    bool, typer.Option("--identifying", help="Also tell what may name a patient.")
]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features", help="Folder of <slide_id>.h5 where the manifest has no feature_path."
    ),
]
SlideMpp = Annotated[
    float | None,
    typer.Option("--slide-mpp", help="µm per level-0 pixel, against the slide's header."),
]
Weights = Annotated[Path | None, typer.Option(help="Local weights of the encoder.")]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch weights from Hugging Face; nothing is without this."),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and threads, same numbers.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AnyFile = Annotated[Path, typer.Argument(help="Slide, features, checkpoint or manifest.")]
NewSlide = Annotated[Path, typer.Argument(help="Slide to write (.tiff, .svs), or folder.")]
Recipe = Annotated[
    Path | None,
    typer.Option(help="Recipe of a cohort (.toml), written to the folder with a manifest."),
]
Size = Annotated[int, typer.Option(help="Width and height in pixels, 64 to 200,000.")]
PhantomMpp = Annotated[float, typer.Option(help="µm per pixel, 0.2 to 4.")]
Lesion = Annotated[
    list[str] | None,
    typer.Option(help="KIND=SHARE: kind A, B or C and its share of the tissue; may repeat."),
]
SlideOrCohort = Annotated[Path, typer.Argument(help="Slide, or manifest (.csv) or study of many.")]
FeatureFolder = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the .h5 files.")]
Reference = Annotated[
    Path | None,
    typer.Option("--check", help="Features of the slide by any tool, to compare with; no writing."),
]
Encoder = Annotated[str, typer.Option(help="Name of the patch encoder.")]
PatchMpp = Annotated[float, typer.Option(help="µm per pixel at which patches are seen.")]
Pixels = Annotated[int, typer.Option(help="Side of a patch in pixels of that size.")]
Overlap = Annotated[float, typer.Option(help="Share of its side a neighbor repeats.")]
Manifest = Annotated[Path, typer.Argument(help="Cohort: a CSV with a row per slide, or a study.")]
NewCheckpoint = Annotated[Path, typer.Option("--out", "-o", help="Checkpoint, .safetensors.")]
MaybeCohort = Annotated[
    Path | None,
    typer.Argument(
        help="Cohort: a CSV with a row per slide, a study, or a folder of classes with features."
    ),
]
MaybeNewCheckpoint = Annotated[
    Path | None, typer.Option("--out", "-o", help="Checkpoint, .safetensors.")
]
MaybeModelToTrain = Annotated[
    str | None,
    typer.Option("--model", help="Its name; `napari-wsimil models` tells them all; acmil if none."),
]
MaybeModel = Annotated[str | None, typer.Argument(help="Its name; all in short if none.")]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE of the model, such as branches=3; may repeat."),
]
MaybeTask = Annotated[
    Literal["classification", "survival", "cox"] | None,
    typer.Option(help="Of the manifest's label, as if none, or of its time and event."),
]
TimeUnit = Annotated[str | None, typer.Option(help="Unit of the manifest's times, for survival.")]
Schema = Annotated[
    Path | None,
    typer.Option(help="Schema of the manifest's records (.yaml), for models that read them."),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Passes over the patients, for sasha those of its first stage; "
        "the model's own if none.",
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        help="Learning rate of AdamW, for sasha that of its first stage; the model's own if none."
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(min=1, help="Patients of a step, which Cox compares; the model's own, or 16."),
]
Folds = Annotated[
    int | None, typer.Option(help="Folds where the manifest has no split; 5 if none.")
]
Fold = Annotated[int | None, typer.Option(help="Which fold tests, from 0; the first if none.")]
MaybeSeed = Annotated[
    int | None, typer.Option(min=0, help="Same seed and threads, same numbers; 0 if none.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of torch; as many as it finds if none.")
]
MixedScales = Annotated[
    bool,
    typer.Option(
        "--mixed-scales",
        help="Accept features of several µm per pixel or patch sizes; the card states the range.",
    ),
]
RunFile = Annotated[
    Path | None, typer.Option("--config", help="A saved run (.json), in place of all options.")
]
SaveRun = Annotated[Path | None, typer.Option(help="Also save what is run, as JSON.")]
Checkpoint = Annotated[Path, typer.Argument(help="Trained model, .safetensors.")]
Split = Annotated[
    str | None,
    typer.Option(help="train, validation or test; by default all it was not trained on."),
]
Draws = Annotated[int, typer.Option(min=100, help="Bootstrap draws of patients.")]
SlideOrFeatures = Annotated[
    Path, typer.Argument(help="Slide, or its features (.h5); sasha and hafed need the slide.")
]
OnePatient = Annotated[
    str | None,
    typer.Option("--patient", help="All slides of this patient of a manifest or a study."),
]
PatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side in level-0 pixels, where a features file does not state it."),
]
NewMap = Annotated[Path, typer.Argument(help=".csv, .geojson, .geojson.gz or .png.")]
MapName = Annotated[
    str | None, typer.Option("--map", help="Which map a .png shows; the main one if none.")
]
Records = Annotated[
    Path | None,
    typer.Option(
        "--manifest", help="Manifest that has the patient's record, for models that read it."
    ),
]
NotedIn = Annotated[
    Path | None, typer.Option("--study", help="Study of the slide, whose ledger notes the export.")
]
ReleaseFiles = Annotated[
    list[Path], typer.Argument(help="Weights of a paper's own program: .safetensors or state dict.")
]
ReleaseModel = Annotated[str, typer.Option("--model", help="acmil, hafed, longmil or vib.")]
LikeFeatures = Annotated[
    Path,
    typer.Option(help="Features (.h5) by the encoder of the weights, of any slide, for the card."),
]
ClassNames = Annotated[
    str, typer.Option(help="Names of the classes, in the order of the weights: normal,tumor.")
]
Query = Annotated[
    str | None, typer.Option(help="X,Y in level-0 pixels: ask about the patch there.")
]
Area = Annotated[
    str | None, typer.Option(help="X,Y,WIDTH,HEIGHT in level-0 pixels: ask about its patches.")
]
RankingName = Annotated[
    str | None, typer.Option("--map", help="Which map ranks the patches; the main one if none.")
]
RemovedArea = Annotated[
    str | None, typer.Option(help="X,Y,WIDTH,HEIGHT in level-0 pixels: take its patches away.")
]
Outcome = Annotated[
    str | None,
    typer.Option("--class", help="Whose probability is followed; the most probable if none."),
]
CurvesOut = Annotated[Path | None, typer.Option("--out", "-o", help="Curves, .csv or .png.")]
MapsOut = Annotated[
    Path | None, typer.Option("--out", "-o", help=".csv, .geojson, .geojson.gz or .png.")
]
MaybeSlide = Annotated[Path | None, typer.Argument(help="Slide, or the folder of a study.")]
ShownPatient = Annotated[str | None, typer.Option("--patient", help="Patient of the study.")]
MaybeCheckpoint = Annotated[Path | None, typer.Option(help="Trained model.")]
SlideFeatures = Annotated[Path | None, typer.Option(help="The slide's features, .h5.")]
Screenshot = Annotated[Path | None, typer.Option(help="Write the window to this .png and leave.")]
PrepareOnly = Annotated[
    bool, typer.Option("--prepare-only", help="Make the study, open no window.")
]
Folder = Annotated[
    Path | None, typer.Option(help="Where the study is kept; the user's cache if none.")
]


def examples(*lines: str) -> str:
    """Return the end of a verb's help: command lines to try."""
    return "\n".join(["Examples:", "", *(f"- `{line}`" for line in lines)])


PictureFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the pictures.")]
Theme = Annotated[Literal["dark", "light"], typer.Option(help="Of the window.")]
LooksMade = Annotated[
    int | None,
    typer.Option("--looks", min=0, help="Maps after so many looks, of sasha."),
]
Cases = Annotated[
    Path,
    typer.Option("--manifest", help="Manifest (.csv) or study folder that has the records."),
]
MaybeSlideOrFeatures = Annotated[
    Path | None,
    typer.Argument(help="Slide, or its features (.h5); all cases of the manifest if none."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE, such as ldh=210 or age=missing; may repeat."),
]
GroupsMissing = Annotated[
    list[str] | None,
    typer.Option("--missing", help="A group of fields to take away, or all; may repeat."),
]
ScenarioFile = Annotated[
    Path | None, typer.Option("--scenario", help="Changes in a file (.yaml), in place of --set.")
]
SaveScenario = Annotated[Path | None, typer.Option(help="Also save what is changed, as YAML.")]
FoldModels = Annotated[
    list[Path] | None,
    typer.Option("--fold-model", help="Trained on another fold, for the noise; may repeat."),
]
Noisy = Annotated[
    bool, typer.Option("--noise/--no-noise", help="Measure how far maps move for nothing.")
]
WhatIfFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for maps, or for the table of cases.")
]
MaybeSplit = Annotated[str | None, typer.Option(help="Only cases of train, validation or test.")]
