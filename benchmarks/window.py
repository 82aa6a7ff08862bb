r"""How fast and how calm the window answers on a slide of 50,000 patches.

    xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" \
        python benchmarks/window.py [--quick] [--json FILE] [--slide FILE]

It drives the real window (1366 × 768 px) on the drawn slide of `viewing.py`, 61,440 px wide
and high. Features are drawn at random and models are untrained: what they say is worth
nothing, what it takes is real. Figures are in ms but for memory; those that say so are beyond
a bare frame: less the median time of a frame in which nothing has changed, drawn on the same
canvas with the same layers, between the very actions it is compared with.

first_picture
    From the call that opens a slide to its first whole picture in a window already up.
field_p50, field_p95
    From looking at a field of tissue not seen before, at 1 level-0 pixel per screen pixel, to
    its whole picture; `_map` with a map of all patches, there drawn as outlines.
pan_p50, _p95, _p99; zoom_p50, _p95, _p99
    From a move of the camera to the next frame, beyond a bare one, whatever is loaded by
    then: 60 px sideways with the map filled and with it as outlines; steps of 1.2 ×
    from the whole slide to single cells and back.
map_change, threshold
    From the choice of another map, or a move of the threshold, to the frame that shows it,
    beyond a bare one; medians, `_p95` beside them.
pan_training
    As pan, while a model is trained in a job of the window.
query_N
    From a click on a patch to the frame with Querent's answer for it, median of clicks on N
    patches; `_first` is the first one, for which the slide is prepared. Not less a frame.
step, scrub
    From one look of SASHA's to the frame with the map after the next, and after one far
    away; the looks were done over again before.
memory_rise_mb
    What 2,000 actions (pan, zoom, another map, a click on a patch, a look) add after
    the first 400 of them, the decoded tiles that the cache keeps not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from _options import QUICK_SIDE, SIDE, run
from _report import Goal, Report, at_most
from viewing import prepare, tissue_fields

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from _screen import Screen
    from napari.layers import Layer

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.progress import Work

PACKAGES = ("napari-wsimil", "napari", "vispy", "PyQt5", "torch", "numpy")
#: Level-0 pixels per screen pixel at which the map is filled, and at which it is outlined.
_FILLED, _OUTLINED = 8.0, 1.0


@dataclass(frozen=True)
class Plan:
    """How much of everything is done."""

    side: int = SIDE
    patches: int = 50_000
    asked: tuple[int, ...] = (20_000, 50_000)
    looked: int = 5_000
    fields: int = 40
    moves: int = 400
    changes: int = 60
    clicks: int = 25
    steps: int = 60
    actions: int = 2_000
    warm: int = 400


QUICK = Plan(QUICK_SIDE, 10_000, (5_000, 10_000), 1_000, 12, 100, 20, 8, 20, 300, 100)


class Bench:
    """The window, what is done in it, and the report."""

    def __init__(self, screen: Screen, report: Report, plan: Plan, folder: Path) -> None:
        self.screen, self.report, self.plan, self.folder = screen, report, plan, folder
        self.dock = screen.window.explain_dock
        self.pane = screen.window.presenter.pane
        self.random = np.random.default_rng(0)

    # what is looked at

    def show(self, bag: Bag, name: str, **options: int | float | str) -> None:
        """Open an untrained model and ask it about a bag, read from a file if it can be."""
        from _untrained import save_untrained

        from napari_wsimil.features.store import save_bag

        if bag.finer is None:
            save_bag(self.folder / "features.h5", bag)
            self.screen.window.slide_dock.features.open(self.folder / "features.h5")
        else:
            self.pane.show_bag(bag)
        self.screen.settle()
        self.dock.open_model(save_untrained(self.folder / f"{name}.safetensors", name, **options))
        self.screen.settle()
        self.dock.run()
        self.screen.settle()
        self.dock.come_forward()

    def bag(self, patches: int, fine: bool = False) -> Bag:
        from _untrained import random_bag

        tissue = self.pane.tissue
        if tissue is None:
            raise RuntimeError("the tissue was not found yet")
        return random_bag(self.screen.slide, tissue, patches, fine)

    @property
    def map(self) -> Layer:
        """The layer of the map."""
        names = {one.name for one in self._shown().explanations} | {self._title()}
        return next(one for one in self.screen.window.viewer.layers if one.name in names)

    def _shown(self) -> Any:
        if self.pane.shown is None:
            raise RuntimeError("no map is shown")
        return self.pane.shown

    def _title(self) -> str:
        shown = self._shown()
        return str(shown.title(shown.explanations[self.pane.display.map_index]))

    # what is done

    def choose(self, number: int) -> None:
        """Choose a map, as from its list."""
        maps = self.dock.map.maps
        maps.setCurrentIndex(number)
        maps.activated.emit(number)

    def click(self) -> None:
        """Click a patch on the canvas."""
        grid = self.pane.places
        if grid is None:
            raise RuntimeError("there are no patches to click")
        x, y = grid.coords[self.random.integers(len(grid))] + grid.patch_size / 2
        self.screen.window.presenter.picking.pick(float(x), float(y))

    def paired(
        self, act: Callable[[], float], count: int, among: int = 20
    ) -> tuple[list[float], list[float]]:
        """Return the seconds of acts, and of bare frames drawn in turns with `among` of them."""
        acts: list[float] = []
        bare: list[float] = []
        while len(acts) < count:
            self.screen.settle()
            bare += [self.screen.frame() for _ in range(8)]
            acts += [act() for _ in range(min(among, count - len(acts)))]
        return acts, bare

    def add(
        self,
        key: str,
        seconds: Sequence[float],
        bare: Sequence[float],
        goals: dict[int, Goal | None],
    ) -> None:
        """Report percentiles of some times beyond the median of bare frames."""
        frame = 1e3 * float(np.median(bare))
        whole = f"{len(seconds)} times, a bare frame takes {frame:.1f} ms"
        for percent, goal in goals.items():
            name = key if percent == 50 and len(goals) < 3 else f"{key}_p{percent}"
            beyond = 1e3 * float(np.percentile(seconds, percent)) - frame
            self.report.add(name, beyond, whole, goal)


def measure_fields(bench: Bench, key: str, first: int, goal: Goal) -> None:
    """Report how fast unseen fields are on screen."""
    screen, count = bench.screen, bench.plan.fields
    places = tissue_fields(screen.slide, 1024)[first * count :][: count + 2]
    spent = [screen.jump(place, 1.0) for place in places][2:]
    for percent, bound in ((50, goal), (95, None)):
        value = 1e3 * float(np.percentile(spent, percent))
        bench.report.add(f"{key}_p{percent}", value, f"{len(spent)} fields", bound)


def measure_moves(bench: Bench) -> None:
    """Report pans and zooms over the map."""
    screen, plan = bench.screen, bench.plan
    place = tissue_fields(screen.slide, 2048)[0]
    for key, downsample in (("pan", _FILLED), ("pan_outlines", _OUTLINED)):
        screen.look(place, downsample)
        turns = iter(range(10 * plan.moves))
        goals = {50: None, 95: at_most(50), 99: at_most(150)}
        times = bench.paired(lambda: screen.pan(60 if next(turns) % 40 < 20 else -60), plan.moves)  # noqa: B023
        bench.add(key, *times, goals)
    screen.look(place, 32.0)
    turns = iter(range(10 * plan.moves))
    goals = {50: None, 95: at_most(100), 99: at_most(150)}
    times = bench.paired(lambda: screen.zoom(1.2 if next(turns) % 40 < 20 else 1 / 1.2), plan.moves)
    bench.add("zoom", *times, goals)


def measure_changes(bench: Bench) -> None:
    """Report other maps and thresholds."""
    screen, plan = bench.screen, bench.plan
    screen.look(tissue_fields(screen.slide, 2048)[0], _FILLED)
    numbers = iter(list(range(bench.dock.map.maps.count())) * 10 * plan.changes)
    next(numbers)
    times = bench.paired(
        lambda: screen.drawn(bench.map, lambda: bench.choose(next(numbers))), plan.changes, 1
    )
    bench.add("map_change", *times, {50: at_most(20), 95: None})
    bench.choose(0)
    shares = iter(list(range(1, 60)) * plan.changes)
    slider = bench.dock.map.threshold
    times = bench.paired(
        lambda: screen.drawn(bench.map, lambda: slider.setValue(next(shares))), plan.changes, 10
    )
    bench.add("threshold", *times, {50: at_most(20), 95: None})
    slider.setValue(0)


def training_job(cases: int, patches: int) -> Work[None]:
    """Train without end, as a job of the window."""
    from _untrained import random_cases

    from napari_wsimil.models import create_model
    from napari_wsimil.progress import Progress
    from napari_wsimil.training.fit import FitConfig, fit

    data = random_cases(cases, patches)
    model = create_model("acmil", feature_dim=data[0].bags[0].features.shape[1], classes=2)
    for _ in fit(model, data, [], FitConfig(epochs=100_000)):
        yield Progress(text="training")


def measure_training(bench: Bench) -> None:
    """Report pans while a model is trained."""
    from napari_wsimil.gui.window import wait_until

    screen, plan = bench.screen, bench.plan
    screen.look(tissue_fields(screen.slide, 2048)[0], _FILLED)
    screen.settle()
    sway = [60.0] * 20 + [-60.0] * 20
    idle: list[float] = []
    bare: list[float] = []
    busy: list[float] = []
    for _ in range(max(1, plan.moves // 100)):
        bare += [screen.frame() for _ in range(20)]
        idle += [screen.pan(step) for step in sway]
        screen.settle()
        bench.dock.job.run(training_job(20, 5_000), lambda _: None)
        wait_until(lambda: bench.dock.job.label.text() == "training")
        busy += [screen.pan(step) for step in sway]
        screen.cancel()
    bench.add("pan_idle", idle, bare, {50: None, 95: at_most(50), 99: None})
    bench.add("pan_training", busy, bare, {50: None, 95: at_most(50), 99: None})


def measure_queries(bench: Bench) -> None:
    """Report the answers to clicks."""
    screen, plan = bench.screen, bench.plan
    for patches in plan.asked:
        bench.show(bench.bag(patches), "querent")
        screen.look(tissue_fields(screen.slide, 2048)[0], _FILLED)
        screen.settle()
        first = screen.drawn(bench.map, bench.click)
        spent = []
        for _ in range(plan.clicks):
            screen.settle()
            spent.append(screen.drawn(bench.map, bench.click))
        goal = at_most(100) if patches <= 20_000 else None
        worst = f"slowest of {len(spent)} {1e3 * max(spent):.0f} ms"
        bench.report.add(f"query_{patches}", 1e3 * float(np.median(spent)), worst, goal)
        bench.report.add(f"query_{patches}_first", 1e3 * first, "with what all clicks share")


def measure_steps(bench: Bench) -> None:
    """Report steps from look to look."""
    screen, plan, player = bench.screen, bench.plan, bench.dock.steps.player
    bench.show(bench.bag(plan.looked, fine=True), "sasha", tau=0.97)
    screen.look(tissue_fields(screen.slide, 2048)[0], _FILLED)
    bench.dock.tabs.setCurrentWidget(bench.dock.steps)
    last = player.slider.maximum()
    screen.drawn(bench.map, lambda: player.go(last // 2))
    note = f"{last} looks at {plan.looked} patches"
    for key, ways in (("step", [1] * plan.steps), ("scrub", [7, -11] * (plan.steps // 2))):
        spent, bare = [], []
        for way in ways:
            screen.settle()
            bare.append(screen.frame())
            step = (player.step + way * (1 if key == "step" else last // 30)) % last
            spent.append(screen.drawn(bench.map, lambda: player.go(step)))  # noqa: B023
        value = 1e3 * (float(np.median(spent)) - float(np.median(bare)))
        bench.report.add(key, value, note, at_most(100))


def measure_memory(bench: Bench) -> None:
    """Report what many actions leave behind."""
    screen, plan, process = bench.screen, bench.plan, psutil.Process()
    player, maps = bench.dock.steps.player, bench.dock.map.maps
    acts: list[Callable[[], object]] = [
        lambda: screen.pan(float(bench.random.normal(0, 300))),
        lambda: screen.zoom(float(bench.random.choice([0.8, 1.25]))),
        lambda: bench.choose(int(bench.random.integers(maps.count()))),
        bench.click,
        lambda: player.go(int(bench.random.integers(player.slider.maximum()))),
    ]
    places = tissue_fields(screen.slide, 2048)
    sizes = []
    for number in range(plan.actions):
        if number % 50 == 0:
            screen.look(places[number // 50 % len(places)], 4.0)
        screen.frame(acts[int(bench.random.integers(len(acts)))])
        if number % 20 == 19:
            screen.settle()
            sizes.append((process.memory_info().rss - screen.slide.cache.used) / 2**20)
    warm, after = sizes[: plan.warm // 20], sizes[plan.warm // 20 :]
    rise = float(np.median(after[-5:])) - warm[-1]
    whole = process.memory_info().rss / 2**20
    note = f"highest {max(after) - warm[-1]:.0f} MB; the process has {whole:.0f} MB"
    bench.report.add("memory_rise_mb", rise, note, at_most(100))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure everything and write it down."""
    report = Report(PACKAGES)
    plan = QUICK if options.quick else Plan()
    mpp = prepare(options.slide, plan.side)
    from _screen import Screen

    bench = Bench(Screen(mpp), report, plan, folder)
    report.add("first_picture", 1e3 * bench.screen.open(options.slide), "", at_most(1000))
    measure_fields(bench, "field", 0, at_most(250))
    bench.screen.window.slide_dock.tissue_button.click()
    bench.screen.settle()
    bench.show(bench.bag(plan.patches), "acmil")
    measure_fields(bench, "field_map", 1, at_most(250))
    measure_moves(bench)
    measure_changes(bench)
    measure_training(bench)
    measure_queries(bench)
    measure_steps(bench)
    measure_memory(bench)
    report.save(options.json)


if __name__ == "__main__":
    run(__doc__ or "", measure)
