r"""How fast attention follows an edited record, in the window.

    xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" \
        python benchmarks/whatif.py [--quick] [--json FILE] [--slide FILE]

It drives the real window (1366 × 768 px) on the drawn slide of `viewing.py` with 3,000, 10,000
and 50,000 patches of which 2,000 are in view: the slider of a field is moved as a hand moves
it, and the clock runs until the frame is on screen, software drawing included. The model is a
persam-live of width 512, feed-forward 2048, 3 classes and two groups of fields, untrained on
features drawn at random: what it says is worth nothing, what it takes is real.

viewport_paint_p50_ms, viewport_paint_p95_ms
    From the move of the slider to the frame in which the patches in view are of that record.
    Where they are most of the slide all are made at once.
all_paint_p50_ms, all_paint_p95_ms
    To the frame in which all patches are, and the probabilities.
gui_block_p95_ms
    The longest time in an edit that the window's thread answers nothing, beyond that of a bare
    frame drawn in between.
bare_frame_ms
    The longest time it answers nothing while a frame is drawn in which nothing changed.
update_ms, recompute_ms, speedup_vs_recompute
    New maps of all patches and new logits by the exact update, and by encoding the embedded
    patches again with the new record; medians, without the window.
error
    The largest difference between the two, of all maps and logits.
prepare_s
    What preparing the slide takes, once.

With --quick the slide is smaller, edits are fewer, and 50,000 patches are left out.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from _options import QUICK_SIDE, SIDE, run
from _report import Report, at_least, at_most
from viewing import prepare, tissue_fields

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from _report import Goal
    from _screen import Screen

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILOutput
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.study.case import Case

Figures = dict[str, float]
PACKAGES = ("napari-wsimil", "napari", "vispy", "PyQt5", "torch", "numpy")
SHAPE = {"width": 512, "feedforward": 2048}
CLASSES = ("A", "B", "C")
VISIBLE = 2_000
FIELD = "ldh"
GOALS: dict[str, dict[str, Goal]] = {
    "3k": {},
    "10k": {
        "viewport_paint_p95_ms": at_most(100),
        "all_paint_p95_ms": at_most(200),
        "speedup_vs_recompute": at_least(18),
    },
    "50k": {
        "viewport_paint_p95_ms": at_most(150),
        "all_paint_p95_ms": at_most(600),
        "speedup_vs_recompute": at_least(60),
    },
}
EVERYWHERE = {"gui_block_p95_ms": at_most(50), "error": at_most(1e-5)}


def records(count: int) -> tuple[Case, RecordFormat]:
    """Return a case of the phantom schema with a cohort drawn at random, and its format."""
    from napari_wsimil.clinical.field import Kind
    from napari_wsimil.clinical.schema import read_schema
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.study.case import Case
    from napari_wsimil.workflows.demo import SCHEMA

    schema, random = read_schema(SCHEMA), np.random.default_rng(0)
    cohort = []
    for _ in range(count):
        cells = {
            f.name: f"{random.uniform(*(f.plausible or (0, 1))):.6g}"
            if f.kind is Kind.NUMBER
            else str(random.integers(2))
            for f in schema.fields
        }
        cohort.append(schema.parse(cells))
    return Case("P1", schema, cohort[0], 0, tuple(cohort)), RecordFormat.fit(schema, cohort)


@dataclass(frozen=True)
class Edit:
    """Seconds to the frame with the patches in view, and with all; and of the longest block."""

    part: float
    whole: float
    blocked: float


class Pulse:
    """Listens for how long the window's thread answers nothing; a context manager."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.longest = 0.0
        self._last = 0.0
        self._timer = QTimer()
        self._timer.setInterval(1)
        self._timer.timeout.connect(self._beat)

    def __enter__(self) -> Pulse:
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._beat()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now


class Bench:
    """The window with a case open, and what is done in it."""

    def __init__(self, screen: Screen, report: Report, folder: Path) -> None:
        self.screen, self.report, self.folder = screen, report, folder
        self.pane = screen.window.session.pane
        self.dock = screen.window.record_dock
        self.case, self.format = records(200)
        self._part: list[int] = []
        self._whole: list[int] = []
        self.pane.prediction_state.events.prediction.connect(self._note_part)
        self.dock.follower.landed.connect(self._note_whole)

    def _note_part(self, _: object) -> None:
        self._part.append(self.screen.frames)

    def _note_whole(self, _: object) -> None:
        self._whole.append(self.screen.frames)

    def show(self, patches: int) -> None:
        """Open features of so many patches and the model, and look at some of them."""
        from _untrained import random_bag, save_untrained

        from napari_wsimil.features.store import save_bag

        tissue = self.pane.tissue
        if tissue is None:
            raise RuntimeError("the tissue was not found yet")
        save_bag(self.folder / "features.h5", random_bag(self.screen.slide, tissue, patches))
        window, path = self.screen.window, self.folder / "persam-live.safetensors"
        window.slide_dock.features.open(self.folder / "features.h5")
        self.screen.settle()
        options = {"groups": self.format.groups, **SHAPE}
        save_untrained(path, "persam-live", classes=CLASSES, record=self.format, **options)
        self.pane.show_case(self.case)
        window.explain_dock.open_model(path)
        self.screen.settle()
        window.explain_dock.run()
        self.screen.settle()
        self.pane.show_map("explanatory")
        self.dock.come_forward()
        self.screen.settle()

    @property
    def bag(self) -> Bag:
        if self.pane.prediction is None:
            raise RuntimeError("no map is shown")
        return self.pane.prediction.bag

    def look(self) -> int:
        """Look at the tissue with about `VISIBLE` patches in view; return how many there are."""
        place = tissue_fields(self.screen.slide, 2048)[0]
        low, high = 0.5, 128.0
        for _ in range(12):
            downsample = (low * high) ** 0.5
            self.screen.look(place, downsample)
            self.screen.settle()
            low, high = (downsample, high) if self.visible() < VISIBLE else (low, downsample)
        return self.visible()

    def visible(self) -> int:
        """Return how many patches are in view."""
        view, grid = self.pane.view_state.view, self.bag.grid
        if view is None or grid is None:
            raise RuntimeError("nothing is in view")
        corner = np.array([view.x - view.width / 2, view.y - view.height / 2])
        end = corner + np.array([view.width, view.height])
        inside = ((grid.coords + grid.patch_size > corner) & (grid.coords < end)).all(axis=1)
        return int(inside.sum())

    def edit(self, position: int) -> Edit:
        """Move the slider and wait until all patches are of the new record."""
        screen, slider = self.screen, self.dock.form.rows[FIELD].number.slider
        self._part, self._whole = [], []
        slider.setSliderDown(True)
        with Pulse() as pulse:
            start = time.perf_counter()
            slider.setValue(position)
            screen.wait(lambda: bool(self._whole) and screen.frames > self._whole[0])
        slider.setSliderDown(False)
        part, whole = (screen.swap(at[0]) - start for at in (self._part, self._whole))
        return Edit(part, whole, pulse.longest)

    def rest(self) -> float:
        """Draw a bare frame; return the longest time the window answered nothing."""
        with Pulse() as pulse:
            self.screen.frame()
        return pulse.longest

    def edits(self, count: int) -> tuple[list[Edit], list[float]]:
        """Return what edits took, up and down the slider, and bare frames between them."""
        positions = np.random.default_rng(1).permutation(np.linspace(40, 360, count).astype(int))
        found, bare = [], []
        for position in positions:
            self.screen.settle()
            bare.append(self.rest())
            found.append(self.edit(int(position)))
        return found, bare


def alone(bench: Bench, repeats: int) -> dict[str, float]:
    """Return medians of the exact update and of a pass from embedded patches, and their error."""
    from napari_wsimil.models.persam.live import PersAMLive
    from napari_wsimil.progress import finish

    loaded = bench.pane.model
    if loaded is None or not isinstance(loaded.model, PersAMLive):
        raise RuntimeError("another model is open")
    model, records = loaded.model, bench.case.cohort
    bags = [replace(bench.bag, clinical=bench.format.tokens(record)) for record in records]
    start = time.perf_counter()
    live = finish(model.prepare(bags[0]))
    spent = time.perf_counter() - start
    with torch.inference_mode():
        x = model.embed(bags[0])
        updates, again, errors = [], [], []
        for bag in bags[1 : repeats + 1]:
            taken, updated = timed(lambda: live.edit(bag.clinical).output())  # noqa: B023
            updates.append(taken)
            taken, whole = timed(lambda: model.answer(x, bag))  # noqa: B023
            again.append(taken)
            errors.append(difference(updated, whole))
    return {
        "update_ms": 1e3 * float(np.median(updates)),
        "recompute_ms": 1e3 * float(np.median(again)),
        "speedup_vs_recompute": float(np.median(again) / np.median(updates)),
        "error": max(errors),
        "prepare_s": spent,
    }


def timed(act: Callable[[], MILOutput]) -> tuple[float, MILOutput]:
    """Return the seconds that something takes, and what came of it."""
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found


def difference(one: MILOutput, other: MILOutput) -> float:
    """Return the largest difference of maps and logits."""
    pairs = [(one.logits, other.logits)]
    pairs += [
        (a.scores, b.scores)
        for a, b in zip(one.explanations, other.explanations, strict=True)
        if a.name != "attention"  # a share, of the size of 1 / N
    ]
    return max((a - b).abs().max().item() for a, b in pairs)


def measure_size(bench: Bench, key: str, patches: int, edits: int, repeats: int) -> Figures:
    """Return the figures of a slide of so many patches."""
    bench.show(patches)
    visible = bench.look()
    bench.edit(20)  # prepares the slide
    found, bare = bench.edits(edits)
    frame = float(np.median(bare))
    figures: Figures = {"patches": patches, "visible": visible}
    for name, seconds in (
        ("viewport_paint", [one.part for one in found]),
        ("all_paint", [one.whole for one in found]),
    ):
        for percent in (50, 95):
            figures[f"{name}_p{percent}_ms"] = 1e3 * float(np.percentile(seconds, percent))
    blocked = [one.blocked - frame for one in found]
    figures["gui_block_p95_ms"] = 1e3 * float(np.percentile(blocked, 95))
    figures["bare_frame_ms"] = 1e3 * frame
    figures |= alone(bench, repeats)
    for name, value in figures.items():
        goal = GOALS[key].get(name) or EVERYWHERE.get(name)
        bench.report.add(f"{key} {name}", value, f"{edits} edits", goal)
    return figures


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure everything and write it down."""
    report = Report(PACKAGES)
    mpp = prepare(options.slide, QUICK_SIDE if options.quick else SIDE)
    from _screen import Screen

    bench = Bench(Screen(mpp), report, folder)
    bench.screen.open(options.slide)
    bench.screen.window.slide_dock.tissue_button.click()
    bench.screen.settle()
    sizes = {"3k": 3_000, "10k": 10_000, "50k": 50_000}
    if options.quick:
        del sizes["50k"]
    found = {
        key: measure_size(bench, key, patches, 10 if options.quick else 60, 3)
        for key, patches in sizes.items()
    }
    if options.json is not None:
        options.json.write_text(json.dumps({**found, "machine": report.machine}, indent=2) + "\n")


if __name__ == "__main__":
    run(__doc__ or "", measure)
