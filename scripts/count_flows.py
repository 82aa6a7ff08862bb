r"""Count the files that each of the five flows of the program runs through.

    xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" \
        python scripts/count_flows.py [--list FLOW] [FLOW ...]

A flow is driven once through the doors that a user has, on small synthetic slides, and its
function calls are traced with `sys.setprofile` in every thread. Two numbers are printed:

files
    Distinct files of the package whose functions are called. Code that runs at import does
    not count: all modules are imported beforehand.
re-entries
    Functions that are called for the first time in a file which the flow had already left
    for another one. A loop counts once, and threads are followed one by one.

Each flow runs in a process of its own, so that no cache is warm. A window repaints when it
likes: its numbers may vary by one or two. `--list FLOW` prints the files of one flow in the
order in which they are first entered.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import io
import multiprocessing
import os
import pkgutil
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # processes that are spawned find the same package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from napari_wsimil.gui.window import Window

PACKAGE = ROOT / "napari_wsimil"
MODELS = ROOT / "resources" / "models"
COHORT = """\
task = "three-class"
patients = 9
slides = [1, 1]
seed = 20
ambiguous = 0.4
lesion_share = [0.06, 0.15]
validation = 0.2
test = 0.3

[slide]
width = 1280
height = 1280
mpp = 0.5
pieces = 1
folds = 0
pen_marks = 0
step = 2
"""
#: A table of the kind that leaves questions open, and their answers.
TABLE = "patient_id,OS_STATUS,OS_MONTHS,ldh\nA,1:DECEASED,3,NA\nB,0:LIVING,9,200\n"
ANSWERS = ("--answer", "NA=unknown", "--answer", "OS_STATUS: event=1:DECEASED")


class Count(NamedTuple):
    """Files of one flow in the order of their first call, and its re-entries."""

    files: tuple[str, ...]
    reentries: int


class Trace:
    """Profile function that notes package functions at their first call."""

    def __init__(self) -> None:
        self.files: dict[str, None] = {}
        self.reentries = 0
        self._seen: dict[int, CodeType] = {}  # by id: hashing a code object reads all of it
        self._thread = threading.local()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or id(code) in self._seen:
            return
        self._seen[id(code)] = code
        if _is_function(code):
            self._enter(code.co_filename)

    def _enter(self, file: str) -> None:
        left = getattr(self._thread, "file", None)
        if file != left and file in self.files:
            self.reentries += 1
        self.files.setdefault(file)
        self._thread.file = file

    @property
    def count(self) -> Count:
        names = (str(Path(file).relative_to(PACKAGE)) for file in self.files)
        return Count(tuple(names), self.reentries)


def _is_function(code: CodeType) -> bool:
    """Return whether code is a function of the package; comprehensions are part of theirs."""
    optimized = code.co_flags & inspect.CO_OPTIMIZED  # bodies of modules and classes are not
    inner = code.co_name in {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
    return bool(optimized) and not inner and code.co_filename.startswith(f"{PACKAGE}{os.sep}")


@contextmanager
def tracing() -> Iterator[Trace]:
    """Trace calls in this thread, and in all that start meanwhile."""
    trace = Trace()
    threading.setprofile(trace)
    with _pool_threads(trace):
        sys.setprofile(trace)
        try:
            yield trace
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


@contextmanager
def _pool_threads(trace: Trace) -> Iterator[None]:
    """Trace workers in the threads of Qt's pool too, which `threading` does not start."""
    if "napari" not in sys.modules:
        yield
        return
    from superqt.utils import WorkerBase

    run = WorkerBase.run

    def traced(worker: Any) -> None:
        sys.setprofile(trace)
        try:
            run(worker)
        finally:
            sys.setprofile(None)

    WorkerBase.run = traced
    try:
        yield
    finally:
        WorkerBase.run = run


def import_all() -> None:
    """Import every module of the package, so that none is imported within a flow."""
    package = importlib.import_module(PACKAGE.name)
    for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE.name}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


# material


def command(*arguments: object) -> None:
    """Run a command line without showing its output; an error is raised."""
    from napari_wsimil.cli.main import main

    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = main([str(one) for one in arguments])
    if code:
        raise RuntimeError(f"exit code {code} of {arguments}: {out.getvalue()}")


def make_slide(folder: Path) -> Path:
    path = folder / "slide.tiff"
    command("phantom", path, "--size", 2048)
    return path


def make_cohort(folder: Path) -> Path:
    """Return the manifest of nine synthetic patients with records."""
    recipe = folder / "cohort.toml"
    recipe.write_text(COHORT)
    command("phantom", folder / "cohort", "--recipe", recipe)
    return folder / "cohort" / "manifest.csv"


def make_study(folder: Path) -> Path:
    """Return a study of these patients."""
    study, manifest = folder / "study", make_cohort(folder)
    command("study", "create", study, "--schema", "phantom")
    answer = ("--answer", "event: event=1")
    command("study", "import", study, "--table", manifest, "--keep-names", *answer)
    return study


@contextmanager
def opened_window() -> Iterator[Window]:
    from napari_wsimil.gui.window import open_window, settle

    window = open_window()
    settle(window)
    try:
        yield window
    finally:
        window.viewer.close()


def do(window: Window, *steps: Callable[[], object]) -> None:
    """Take steps in a window, each once the one before has come to its end."""
    from napari_wsimil.gui.window import settle

    for step in steps:
        step()
        settle(window)
        if window.error is not None:
            raise window.error


# the five flows


def read_slide(folder: Path) -> Count:
    """Open a slide as napari does by its path, until its pixels are drawn."""
    import napari

    from napari_wsimil.gui.window import wait_until

    slide = make_slide(folder)
    viewer = napari.Viewer()
    try:
        with tracing() as trace:
            (layer, *_) = viewer.open(slide, plugin="napari-wsimil")
            wait_until(lambda: layer.loaded)
            viewer.screenshot(flash=False)
    finally:
        viewer.close()
    return trace.count


def run_in_window(folder: Path) -> Count:
    """Press Run in the Explain dock, with slide and model open, until the map is drawn."""
    slide = make_slide(folder)
    with opened_window() as window:
        dock = window.explain_dock
        do(window, lambda: window.slide_dock.open(slide), dock.come_forward)
        do(window, lambda: dock.open_model(MODELS / "acmil.safetensors"))
        with tracing() as trace:
            do(window, dock.run_button.click)
        if window.session.pane.prediction is None:
            raise RuntimeError("no prediction after Run")
    return trace.count


def run_on_command_line(folder: Path) -> Count:
    """`explain MODEL SLIDE`."""
    slide = make_slide(folder)
    with tracing() as trace:
        command("explain", MODELS / "acmil.safetensors", slide)
    return trace.count


def edit_record(folder: Path) -> Count:
    """Drag a slider of the Record dock, save the correction, until the map is repainted."""
    study = make_study(folder)
    with opened_window() as window:
        dock, explain = window.record_dock, window.explain_dock
        do(window, lambda: window.study_dock.open(study))
        do(window, lambda: window.study_dock.open_case("P001"))
        do(window, lambda: explain.open_model(MODELS / "persam-live.safetensors"), explain.run)
        do(window, dock.come_forward, lambda: dock.mode.correct.setChecked(True))
        before = window.session.pane.prediction
        with tracing() as trace:
            do(window, lambda: _drag(window), lambda: _save(window))
        if window.session.pane.prediction is before or not _corrected(window):
            raise RuntimeError("the edit has not arrived")
    return trace.count


def _drag(window: Window) -> None:
    slider = window.record_dock.form.rows["ldh"].number.slider
    slider.setSliderDown(True)
    for position in range(40, 360, 40):
        slider.setValue(position)
    slider.setSliderDown(False)


def _save(window: Window) -> None:
    mode = window.record_dock.mode
    mode.why.setText("lab report")
    mode.save_button.click()


def _corrected(window: Window) -> bool:
    study = window.session.study
    return study is not None and study.ledger.entries("P001")[-1].field == "ldh"


def import_table(folder: Path) -> Count:
    """`study import STUDY --table TABLE` with answers to its questions."""
    study, table = folder / "study", folder / "table.csv"
    table.write_text(TABLE)
    command("study", "create", study)
    key = folder / "key.json"
    with tracing() as trace:
        command("study", "import", study, "--table", table, "--key", key, *ANSWERS)
    return trace.count


def train_model(folder: Path) -> Count:
    """`train MANIFEST` on features that are there."""
    manifest, features = make_cohort(folder), folder / "features"
    command("extract", manifest, "-o", features)
    out = folder / "model.safetensors"
    with tracing() as trace:
        command("train", manifest, "-o", out, "--features", features, "--epochs", 2)
    return trace.count


FLOWS: dict[str, tuple[str, Callable[[Path], Count]]] = {
    "read": ("a  path to layer", read_slide),
    "run": ("b  Run in the Explain dock", run_in_window),
    "explain": ("b  explain on the command line", run_on_command_line),
    "edit": ("c  slider drag to row and map", edit_record),
    "import": ("d  study import --table", import_table),
    "train": ("e  train on the command line", train_model),
}


def count(name: str) -> Count:
    """Drive one flow in this process, with settings of napari that are then gone."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["NAPARI_CONFIG"] = str(Path(folder, "settings.yaml"))
        os.environ["XDG_CONFIG_HOME"] = folder
        import_all()
        return FLOWS[name][1](Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("flow", nargs="*", help=f"some of {', '.join(FLOWS)}; all if none")
    parser.add_argument(
        "--list", metavar="FLOW", choices=FLOWS, help="print the files of this flow"
    )
    options = parser.parse_args()
    names = [options.list] if options.list else options.flow or list(FLOWS)
    context = multiprocessing.get_context("spawn")
    print(f"{'flow':32} {'files':>5} {'re-entries':>10}")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for name, counted in zip(names, pool.map(count, names), strict=True):
            print(f"{FLOWS[name][0]:32} {len(counted.files):5} {counted.reentries:10}", flush=True)
            if options.list:
                print(*(f"  {file}" for file in counted.files), sep="\n")


if __name__ == "__main__":
    main()
