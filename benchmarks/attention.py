"""The fast exact attentions against full scaled-dot-product attention, in the same run.

    python benchmarks/attention.py [--json FILE] [--sizes 2000,10000,50000] [--only NAME,…]
                                   [--threads 2] [--device cuda] [--autocast] [--quick]

Slides are ragged tissue of N patches, about half of its bounding square, features float32 of
width 512, random weights. For each row two clocks are read: process CPU time on one thread
(the median of its rounds), and wall time on `--threads` threads (the least of its rounds,
since what else runs on the machine can only add to it). A ratio is the baseline's time
through ours by the same clock; rounds of the two take turns. A baseline that takes longer
than ten seconds is run once and serves all rows of the run that share it.

Memory is the peak beyond what was there before, in units of one [N, d] tensor of features.
The error is the largest absolute difference from the same thing computed the slow way.

In the JSON a row is `key_10k` (the ratio by the row's own clock, or milliseconds where there
is nothing to compare with), `key_10k_cpu_ratio`, `…_wall_ratio`, `…_cpu_ms`, `…_wall_ms`,
`…_baseline_cpu_ms`, `…_baseline_wall_ms`, `…_memory` and `…_error`.

Wall times on two threads mean little on a machine that does other work: its load is told.

On a GPU times are wall times of synchronized calls. With `--autocast` both sides run in
bfloat16, and the baseline is FlashAttention; errors are those of float32 all the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _report import machine
from _speed import Row, Stopwatch, Timing, extra_memory, on_gpu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

NAMES = ("longmil", "querent", "persam", "sasha")
SIZES = (2_000, 10_000, 50_000)
PACKAGES = ("napari-wsimil", "torch", "numpy")
HEAD = f"{'':26} {'cpu':>12} {'ratio':>7} {'wall':>12} {'ratio':>7} {'memory':>7} {'error':>8}"


def figures(row: Row, ours: Timing, theirs: Timing, memory: float) -> dict[str, float]:
    """Return what is told of a row, by the ending of its key."""
    found = {"": math.nan, "_memory": memory}
    for clock in ("cpu", "wall"):
        mine, other = ours.seconds(clock), theirs.seconds(clock)
        found[f"_{clock}_ms"] = 1e3 * mine
        found[f"_baseline_{clock}_ms"] = 1e3 * other
        found[f"_{clock}_ratio"] = other / mine
    found[""] = found[f"_{row.clock}_ratio" if row.baseline else f"_{row.clock}_ms"]
    if row.error is not None:
        found["_error"] = row.error
    return {key: value for key, value in found.items() if not math.isnan(value)}


def line(key: str, row: Row, found: dict[str, float]) -> str:
    """Return the printed row; what the figure is of has a star."""
    cells = [f"{key:26}"]
    for clock in ("cpu", "wall"):
        star = "*" if clock == row.clock else " "
        cells.append(_time(found.get(f"_{clock}_ms"), row.unit) + star)
        cells.append(_cell(found.get(f"_{clock}_ratio"), ".1f", "×"))
    cells += [_cell(found.get("_memory"), ".1f", ""), _cell(found.get("_error"), "8.0e", "")]
    return " ".join(cells)


def _time(milliseconds: float | None, unit: str) -> str:
    if milliseconds is None:
        return f"{'–':>11}"
    value = milliseconds / 1e3 if unit == "s" else milliseconds
    return f"{value:8.4g} {unit:2}"


def _cell(value: float | None, form: str, unit: str) -> str:
    return f"{'–' if value is None else format(value, form) + unit:>7}"


def rows(names: list[str], n: int) -> Iterator[Row]:
    """Yield the rows of the methods at a size; on a GPU there is but the wall clock."""
    for name in names:
        for row in import_module(f"_speed_{name}").rows(n):
            yield replace(row, clock="wall") if on_gpu() else row


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Print the table; return its figures."""
    facts = machine(PACKAGES) | _device(options)
    print(" · ".join(f"{name} {value}" for name, value in facts.items()))
    print(HEAD, flush=True)
    report: dict[str, Any] = {"machine": facts}
    watch = Stopwatch(options.threads, *((2, 2.0) if options.quick else ()))
    for n in options.sizes:
        for row in rows(options.only, n):
            key = f"{row.key}_{n // 1000}k" if n >= 1000 else f"{row.key}_{n}"
            with _numbers_of(options):
                times = watch.time(row)
                memory = extra_memory(row.ours) / (4 * n * row.width)
            found = figures(row, *times, memory)
            report |= {key + ending: value for ending, value in found.items()}
            print(line(key, row, found), flush=True)
            _save(options.json, report)
    return report


def _numbers_of(options: argparse.Namespace) -> AbstractContextManager[object]:
    wanted = options.autocast
    return torch.autocast(options.device, torch.bfloat16) if wanted else nullcontext()


def _device(options: argparse.Namespace) -> dict[str, str | int]:
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else "none: not run on one"
    kind = "bfloat16 autocast" if options.autocast else "float32"
    load = f"{os.getloadavg()[0]:.1f} before the first row"
    return {"gpu": gpu, "numbers": kind, "threads": options.threads, "load": load}


def _save(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--sizes", type=_numbers, default=list(SIZES), help="N, N, …")
    parser.add_argument("--only", type=_names, default=list(NAMES), help=", ".join(NAMES))
    parser.add_argument("--threads", type=int, default=2, help="of the wall clock")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--autocast", action="store_true", help="bfloat16 on both sides")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose of {', '.join(NAMES)}")
    return names


def main() -> None:
    """Measure on the device that was asked for."""
    options = _options()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_default_device(options.device)
    run(options)


if __name__ == "__main__":
    main()
