r"""How fast and how calm a large slide is browsed, alone and while a model works on it.

    xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" \
        python benchmarks/viewing.py [--quick] [--json FILE] [--slide FILE]

It works on a drawn slide, 61,440 px wide and high (256-px tiles, JPEG quality 70, as
scanners write), which is made the first time. Everything that is compared is measured
in turns within this one process, since machines change their pace; tiles by processor
time, the window by the clock.

tiles_vs_tiffslide, tiles_vs_openslide
    Processor time of a 256-px tile as an RGB array, theirs over ours, at random places of
    the whole slide; the same with `_tissue` for tiles that show tissue, where the JPEG
    decoder, which all share, takes most of the time. No tile cache helps us.
first_paint_s
    From the call that opens a slide to its first whole picture in a window already up.
rss_growth_mb
    Memory gained over random fields at mixed zooms, at most; `rss_late_mb` is what the
    second half of them adds.
jump_ratio
    Time until an unseen field at level 0 is on screen, less that of a frame with nothing
    to load, over the same for a napari image of dask arrays over tiffslide's zarr levels
    in a window of the same kind and size. Both slice asynchronously, as our application
    does: what counts is when the right pixels are on screen.
pan_p95_ratio
    95th percentile of the time from a move of the camera to the next frame, while patches
    are encoded and their map fills in, over the same while nothing runs; `maps_per_s` says
    how often the map was drawn anew meanwhile.
cancel_s, close_s
    From asking to stop to stopped; from closing the busy window to its return.
threads_left
    Threads and jobs that live on a second after the window was closed.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from _options import QUICK_SIDE, SIDE, run
from _report import Report, at_least, at_most

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from _screen import Place, Screen
    from numpy.typing import NDArray

    from napari_wsimil.slides.slide import Slide

    Reads = dict[str, Callable[[int, int], NDArray[Any]]]

BUDGET_MB = 512
PACKAGES = ("napari-wsimil", "napari", "tiffslide", "openslide-bin", "dask", "zarr", "numpy")


def prepare(path: Path, side: int) -> float:
    """Draw the slide if it is not there, and return its µm per pixel."""
    from napari_wsimil.progress import finish
    from napari_wsimil.slides.slide import open_slide
    from napari_wsimil.synthetic import SlideRecipe, write_phantom

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"drawing {path}, once", flush=True)
        finish(write_phantom(path, SlideRecipe(side, side, quality=70)))
    with open_slide(path) as slide:
        print(f"slide of {slide.dimensions[0]} × {slide.dimensions[1]} px")
        return slide.resolution.mpp or 1.0


def tissue_fields(slide: Slide, side: int) -> list[Place]:
    """Return the middles of fields of `side` px that show tissue there, in random order."""
    pixels, downsample = slide.thumbnail()
    columns, rows = (whole // side for whole in slide.dimensions)
    cells = itertools.product(range(columns), range(rows))
    middles = [(side * x + side // 2, side * y + side // 2) for x, y in cells]
    found = [
        (x, y) for x, y in middles if pixels[int(y / downsample), int(x / downsample)].max() < 225
    ]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def compare_tiles(path: Path, report: Report, count: int) -> None:
    """Report the processor time of a tile beside that of the other readers."""
    import openslide
    import tiffslide

    from napari_wsimil.slides.slide import open_slide

    with (
        open_slide(path, cache_bytes=0) as ours,
        tiffslide.TiffSlide(path) as theirs,
        openslide.OpenSlide(path) as other,
    ):
        reads: Reads = {
            "ours": lambda x, y: ours.read_region(x, y, 256, 256),
            "tiffslide": lambda x, y: theirs.read_region((x, y), 0, (256, 256), as_array=True),
            "openslide": lambda x, y: np.asarray(
                other.read_region((x, y), 0, (256, 256)).convert("RGB")
            ),
        }
        tiles = np.random.default_rng(0).integers(0, ours.levels[0].tiles, (count, 2)) * 256
        anywhere = [(int(x), int(y)) for x, y in tiles]
        tissue = [(x - 128, y - 128) for x, y in tissue_fields(ours, 256)[:count]]
        for part, places in (("", anywhere), ("_tissue", tissue)):
            spent = _in_turns(reads, places)
            for name, goal in (("tiffslide", at_least(4.5)), ("openslide", at_least(8))):
                ratio = float(np.median(spent[name] / spent["ours"]))
                both = (1e3 * float(np.median(spent[one])) for one in (name, "ours"))
                note = "{:.2f} ms against {:.2f} ms".format(*both)
                report.add(f"tiles_vs_{name}{part}", ratio, note, None if part else goal)


def _in_turns(reads: Reads, places: list[Place]) -> dict[str, NDArray[np.float64]]:
    """Return processor seconds per tile of each reader, batch by batch of the places."""
    spent: dict[str, list[float]] = {name: [] for name in reads}
    for start in range(0, len(places), 50):
        batch = places[start : start + 50]
        for name, read in reads.items():
            before = time.process_time()
            for x, y in batch:
                read(x, y)
            spent[name].append((time.process_time() - before) / len(batch))
    return {name: np.array(seconds) for name, seconds in spent.items()}


def browse(screen: Screen, report: Report, count: int) -> None:
    """Report the memory that random fields at mixed zooms add."""
    slide, random = screen.slide, np.random.default_rng(1)
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    grown = []
    for _ in range(count):
        x, y = (int(random.integers(0, side)) for side in slide.dimensions)
        screen.jump((x, y), float(2.0 ** random.integers(0, 5)))
        grown.append((process.memory_info().rss - before) / 2**20)
    note = f"{count} fields, {slide.cache.used / 2**20:.0f} MB of them in the cache"
    report.add("rss_growth_mb", max(grown), note, at_most(BUDGET_MB + 300))
    late = max(grown) - max(grown[: count // 2])
    report.add("rss_late_mb", late, "added by the second half of them")


def compare_jumps(screen: Screen, path: Path, report: Report, count: int) -> None:
    """Report how fast an unseen field is there, beside dask over tiffslide's zarr levels."""
    from _screen import Screen

    plain = Screen(screen.mpp)
    plain.open_plain(path)
    jumps: dict[Screen, list[float]] = {screen: [], plain: []}
    bare: dict[Screen, list[float]] = {screen: [], plain: []}
    for place in tissue_fields(screen.slide, 2048)[: count + 2]:
        for one in jumps:
            jumps[one].append(one.jump(place))
            bare[one].append(float(np.median([one.pan(1) for _ in range(3)])))
    net = [
        1e3 * (float(np.median(jumps[one][2:])) - float(np.median(bare[one][2:]))) for one in jumps
    ]
    frames = [1e3 * float(np.median(bare[one])) for one in jumps]
    note = "{:.0f} ms against {:.0f} ms, bare frames {:.0f} and {:.0f} ms".format(*net, *frames)
    report.add("jump_ratio", net[0] / net[1], note, at_most(0.6))
    plain.window.viewer.close()


def work_and_look(screen: Screen, folder: Path, report: Report, rounds: int, steps: int) -> None:
    """Report how calm the window is while a model works, how fast it stops and closes."""
    from _untrained import save_untrained

    screen.open_model(save_untrained(folder / "untrained.safetensors"))
    place = tissue_fields(screen.slide, 2048)[0]
    idle: list[float] = []
    busy: list[float] = []
    stops: list[float] = []
    rates: list[float] = []
    for _ in range(rounds):
        idle += screen.sway(place, steps)
        screen.ask()
        drawn, start = screen.maps, time.perf_counter()
        busy += screen.sway(place, steps)
        rates.append((screen.maps - drawn) / (time.perf_counter() - start))
        stops.append(screen.cancel())
    calm, worked = (1e3 * float(np.percentile(one, 95)) for one in (idle, busy))
    medians = (1e3 * float(np.median(one)) for one in (idle, busy))
    note = f"p95 {worked:.0f} ms against {calm:.0f} ms"
    note += ", medians {1:.0f} and {0:.0f} ms".format(*medians)
    report.add("pan_p95_ratio", worked / calm, note, at_most(1.5))
    report.add("maps_per_s", float(np.mean(rates)), "maps drawn meanwhile", at_most(10))
    report.add("cancel_s", max(stops), f"slowest of {rounds}", at_most(1))
    _close_busy(screen, report)


def _close_busy(screen: Screen, report: Report) -> None:
    screen.ask()
    report.add("close_s", screen.close(), "", at_most(1))
    names = sorted(thread.name for thread in threading.enumerate() if _is_ours(thread.name))
    left = len(names) + screen.working
    report.add("threads_left", left, ", ".join(names) or "none", at_most(0))


def _is_ours(name: str) -> bool:
    return name.startswith(("read-patches", "open-slide"))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure everything and write it down."""
    report = Report(PACKAGES)
    mpp = prepare(options.slide, QUICK_SIDE if options.quick else SIDE)
    compare_tiles(options.slide, report, 500 if options.quick else 2500)
    from _screen import Screen

    screen = Screen(mpp)
    before = time.process_time()
    first = screen.open(options.slide)
    spent = time.process_time() - before
    report.add("first_paint_s", first, "first slide of a window already up", at_most(1))
    report.add("first_paint_cpu_s", spent, "processor time of all threads meanwhile")
    browse(screen, report, 40 if options.quick else 200)
    compare_jumps(screen, options.slide, report, 10 if options.quick else 40)
    work_and_look(screen, folder, report, *((2, 40) if options.quick else (3, 100)))
    report.save(options.json)


if __name__ == "__main__":
    run(__doc__ or "", measure)
