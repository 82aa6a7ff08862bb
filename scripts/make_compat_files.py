"""Write files of this version, which every later version must open: `tests/compat/`.

    OMP_NUM_THREADS=1 python scripts/make_compat_files.py tests/compat

A record of how they were made, not a tool for daily use: running it again replaces files of
an old version by files of the present one. Everything is made on the command line from
synthetic slides. Four files are written:

files.zip
    A study (`study`), one whose predictions are of slides (`by-slide`), checkpoints of all
    methods, a saved run, a schema, feature files, a slide and a manifest.
commands.json
    Command lines with their exit codes and the values they print.
library.json
    Values that the library reads from the same files.
verbs.json
    Verbs of the command line, with their options.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_wsimil.cli.main import app, main
from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.features.store import load_bag
from napari_wsimil.study.create_study import open_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import read_run

if TYPE_CHECKING:
    import click

COHORT = """\
task = "three-class"
patients = 9
slides = [1, 1]
seed = 7
ambiguous = 0.0
lesion_share = [0.1, 0.2]
validation = 0.25
test = 0.25

[slide]
width = 640
height = 640
mpp = 0.5
pieces = 1
folds = 0
pen_marks = 0
step = 4
"""
#: Options that keep the weights of a method small.
SMALL = {
    "abmil": {"width": 8, "attention_dim": 4},
    "acmil": {"width": 8, "attention_dim": 4, "branches": 2},
    "querent": {"width": 8, "heads": 2, "attention_dim": 4, "region_size": 4, "metadata_dim": 4},
    "longmil": {"width": 8, "attention_dim": 4, "radius": 2},
    "vib": {"width": 8, "attention_dim": 4, "keep": 6},
    "hafed": {"attention_dim": 4, "branches": 1},
    "sasha": {"attention_dim": 4, "branches": 1},
    "persam": {"width": 8, "feedforward": 8, "heads": 2, "depth": 1},
    "persam-live": {"width": 8, "feedforward": 8},
    "bd": {"width": 8, "attention_dim": 4},
}
RECORD_MODELS = ("persam", "persam-live", "bd")  # they read the patient's record
SLIDE_MODELS = ("hafed", "sasha")  # they encode parts of patches, so they need the slide
SLIDE, FEATURES = "slides/P001-S1.tiff", "study/features/P001-S1.h5"


def command(*arguments: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(one) for one in arguments])
    return code, out.getvalue(), err.getvalue()


def do(*arguments: object) -> None:
    code, _, err = command(*arguments)
    if code:
        raise RuntimeError(f"exit code {code} of {arguments}: {err}")


# files


def make_files() -> None:
    """Write all files into the working folder."""
    Path("cohort.toml").write_text(COHORT)
    do("phantom", "cohort", "--recipe", "cohort.toml")
    Path("cohort/slides").rename("slides")
    Path("cohort/manifest.csv").rename("manifest.csv")
    make_study()
    make_models()
    make_history()
    make_slide_study()
    tidy()


def make_study() -> None:
    do("study", "create", "study", "--schema", "phantom", "--name", "trial")
    answers = ("event: event=1", "outcome: name=OS", "outcome: unit=months")
    pairs = [part for answer in answers for part in ("--answer", answer)]
    do("study", "import", "study", "--table", "manifest.csv", "--keep-names", *pairs)
    do("extract", "manifest.csv", "-o", "study/features", "--pixels", 128)
    do("study", "import", "study", "--features", "study/features", "--why", "extracted")
    do("study", "schema", "study", "schema.yaml")


def make_models() -> None:
    """Train each method for an epoch: its weights are small, its opinion is not to be trusted."""
    Path("models").mkdir()
    for name, options in SMALL.items():
        given = [part for pair in options.items() for part in ("--option", "{}={}".format(*pair))]
        schema = ("--schema", "schema.yaml") if name in RECORD_MODELS else ()
        out = f"models/{name}.safetensors"
        shared = ("--features", "study/features", "--epochs", 1, "--threads", 1, *schema)
        do("train", "manifest.csv", "-o", out, "--model", name, *shared, *given)
    survival = ("--model", "abmil", "--task", "cox", "--time-unit", "months", "--epochs", 1)
    small = ("--option", "width=8", "--option", "attention_dim=4", "--threads", 1)
    out = "models/survival.safetensors"
    do("train", "manifest.csv", "-o", out, "--features", "study/features", *survival, *small)


def make_history() -> None:
    """Leave an entry of every kind in the study's audit log, a run, predictions and reviews."""
    edit, live = ("study", "edit", "study"), "models/persam-live.safetensors"
    do(*edit, "P001", "--set", "ldh=210", "--set", "fever=unknown", "--why", "lab report")
    do(*edit, "P001", "--undo")
    do(*edit, "P001", "--redo")
    do(*edit, "P002", "--set", "crp=not applicable", "--set", "age=missing", "--why", "misread")
    small = [
        part for pair in SMALL["acmil"].items() for part in ("--option", "{}={}".format(*pair))
    ]
    run = ("--model", "acmil", "--epochs", 2, "--threads", 1, *small)
    do("train", "study", "-o", "study/models/acmil.safetensors", *run, "--save-config", "run.json")
    do("evaluate", "study/models/acmil.safetensors", "study")
    for name in ("P001", "P002"):
        do("explain", live, f"study/features/{name}-S1.h5", "--manifest", "study")
    do("study", "review", "study", "P001", "--verdict", "agree")
    do("study", "review", "study", "P002", "--verdict", "disagree", "--why", "an artifact")
    changed = ("--set", "ldh=900", "--save-scenario", "scenario.yaml", "--out", "study/maps/ldh")
    do("whatif", live, FEATURES, "--manifest", "study", *changed)
    noted = ("--manifest", "study", "--study", "study")
    do("export-map", live, FEATURES, "study/maps/P001.csv", *noted)
    do("export-map", live, FEATURES, "study/maps/P001.geojson", *noted)
    do("study", "export", "study", "study/exports/patients.csv")
    text = Path("schema.yaml").read_text()
    Path("narrower.yaml").write_text(text.replace("[90.0, 3000.0]", "[100.0, 2500.0]", 1))
    do("study", "schema", "study", "narrower.yaml", "--why", "units of the new lab")
    do("study", "forget", "study", "P009", "--why", "consent withdrawn")
    do("study", "share", "study", "shared", "--key", "key.json")


def make_slide_study() -> None:
    """Make a study whose predictions are of slides."""
    do("study", "create", "by-slide", "--schema", "schema.yaml", "--unit", "slide")
    answers = ("--answer", "event: event=1")
    do("study", "import", "by-slide", "--table", "manifest.csv", "--keep-names", *answers)


def tidy() -> None:
    """Make paths relative to the folder; remove pictures, and the slides but one."""
    here = str(Path.cwd())
    Path("run.json").write_text(Path("run.json").read_text().replace(f"{here}/", ""))
    broken = Path("manifest.csv").read_text().splitlines()[:3]
    Path("broken.csv").write_text("\n".join([*broken, broken[-1].replace("P002", "P999")]) + "\n")
    for path in (*Path("slides").iterdir(), *Path("study/maps").rglob("*.png")):
        if path != Path(SLIDE):
            path.unlink()


def pack(archive: Path) -> None:
    """Write what is in the working folder into an archive; feature files are mostly zeros."""
    names = sorted(path for path in Path().rglob("*") if path.is_file())
    kept = [path for path in names if path.parts[0] not in {"cohort", "cohort.toml", "shared"}]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in kept:
            file.write(path)


# expected values


def command_lines() -> list[list[str]]:
    """Return command lines that read the files, some of them with an error."""
    models = {name: f"models/{name}.safetensors" for name in (*SMALL, "survival")}
    described = [path for name, path in models.items() if name not in RECORD_MODELS[1:]]
    lines = [["info", path] for path in (*described, SLIDE, FEATURES, "manifest.csv")]
    for name, path in models.items():
        record = ["--manifest", "study"] if name in RECORD_MODELS else []
        subject = SLIDE if name in SLIDE_MODELS else FEATURES
        lines += [[verb, path, subject, *record] for verb in ("predict", "explain")]
    live, acmil = models["persam-live"], models["acmil"]
    lines += [
        ["explain", models["querent"], FEATURES, "--query", "200,200"],
        ["explain", models["sasha"], SLIDE, "--looks", "2"],
        ["whatif", live, FEATURES, "--manifest", "study", "--set", "ldh=900"],
        ["whatif", live, FEATURES, "--manifest", "study", "--scenario", "scenario.yaml"],
        ["effect", acmil, FEATURES, "--area", "0,0,256,256"],
        ["evaluate", acmil, "manifest.csv", "--features", "study/features"],
        ["evaluate", "study/models/acmil.safetensors", "study"],
        ["predict", acmil, "manifest.csv", "--features", "study/features", "--patient", "P002"],
        ["predict", acmil, "broken.csv", "--features", "study/features"],
        ["train", "--config", "run.json"],
        ["study", "show", "study", "--runs", "--predictions"],
        ["study", "show", "study", "P001", "--predictions"],
        ["study", "show", "study", "P002"],
        ["study", "show", "by-slide"],
        ["study", "ledger", "study"],
        ["study", "root", "study", "slides", "slides"],
        ["study", "edit", "study", "P001", "--set", "ldh=333", "--why", "later"],
        ["study", "edit", "study", "P001", "--undo"],
        ["study", "edit", "study", "P001", "--set", "ldh=333"],
        ["study", "show", "study", "P009"],
        ["study", "import", "study", "--table", "study/exports/patients.csv", "--keep-names"],
        ["info", "nothing.svs"],
    ]
    return [[*line, "--json"] for line in lines]


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of JSON by their place; sentences and paths are left out."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, one in pairs for k, v in flat(one, f"{name}/{key}").items()}
    return {} if isinstance(value, str) and (" " in value or "/" in value) else {name: value}


def expect(archive: Path, line: list[str]) -> dict[str, Any]:
    """Return what a command line prints in a folder of its own."""
    with unpacked(archive):
        code, out, _ = command(*line)
    return {"arguments": line, "code": code, "values": flat(json.loads(out)) if out else {}}


@contextlib.contextmanager
def unpacked(archive: Path) -> Any:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with zipfile.ZipFile(archive) as file:
            file.extractall()
        yield


def library_values(archive: Path) -> dict[str, Any]:
    """Return values that the library reads."""
    with unpacked(archive), open_study("study") as study:
        models = {path.stem: load_checkpoint(path) for path in sorted(Path("models").iterdir())}
        bag, run, schema = load_bag(FEATURES), read_run("run.json"), read_schema("schema.yaml")
        patients = study.manifest().patients
        return {
            "weights": {
                name: float(sum(one.abs().sum() for one in model.state_dict().values()))
                for name, (model, _) in models.items()
            },
            "cards": {name: card.weights for name, (_, card) in models.items()},
            "features": [*bag.features.shape, float(bag.features.abs().sum())],
            "coords": [] if bag.grid is None else bag.grid.coords.tolist(),
            "run": [run.model, run.fit.epochs, run.threads, run.cohort.name],
            "schema": [field.name for field in schema.fields],
            "records": {one.name: one.record.digest() for one in patients if one.record},
            "outcomes": {one.name: [one.label, one.split, one.time, one.event] for one in patients},
            "links": {name: link.path.name for name, link in study.links().items()},
            "log": [[one.act, one.patient, one.hash] for one in study.ledger.entries()],
            "runs": [[one.method, one.model, one.patients] for one in study.runs.read()],
            "predictions": {
                name: [one.model, dict(one.probabilities)]
                for name, one in study.predictions.latest().items()
            },
            "reviews": {name: one.verdict for name, one in study.reviews.latest().items()},
        }


# verbs


def verbs_of(verb: click.Command, path: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return a verb and those below it with their options: flags, and those with a value."""
    options = [one for one in verb.params if one.param_type_name == "option"]
    flags = [name for one in options if one.is_flag for name in (*one.opts, *one.secondary_opts)]
    values = [name for one in options if not one.is_flag for name in one.opts]
    below = getattr(verb, "commands", {}).items()
    found = [{"verb": path, "flags": flags, "values": values}]
    return found + [line for name, one in below for line in verbs_of(one, (*path, name))]


def write(path: Path, value: Any) -> None:
    """Write a list or a dictionary as JSON, each of its entries on a line."""
    pairs = value.items() if isinstance(value, dict) else ((None, one) for one in value)
    entries = [
        ("" if key is None else f"{json.dumps(key)}: ") + json.dumps(one) for key, one in pairs
    ]
    first, last = "{}" if isinstance(value, dict) else "[]"
    path.write_text("\n".join([first, ",\n".join(entries), last]) + "\n")


def make(target: Path) -> None:
    archive = target / "files.zip"
    with tempfile.TemporaryDirectory(prefix="compat-") as folder, contextlib.chdir(folder):
        make_files()
        pack(archive)
    expected = [expect(archive, line) for line in command_lines()]
    write(target / "commands.json", expected)
    write(target / "library.json", library_values(archive))
    write(target / "verbs.json", verbs_of(typer.main.get_command(app)))


if __name__ == "__main__":
    os.environ["LOGNAME"] = "ada"  # who the audit log names
    make(Path(sys.argv[1]).absolute())
