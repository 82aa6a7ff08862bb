"""Every method on data whose truth was planted: means over seeds, and what each part is for.

    python benchmarks/methods.py [--json FILE] [--only NAME,…] [--quick] [--seeds 0,1,2]
                                 [--workers 2]

A module `_method_NAME.py` has `TITLE`, a docstring that says plainly what its figures mean,
and

    def run(seed: int, quick: bool) -> dict[str, float]

which trains and measures one seed on one thread and prints nothing. It may have `CLAIMS`,
triples (sentence, key, other key): the sentence holds where the first figure is above the
second. Every claim is judged from the seeds, for or against the method: it holds where all
seeds agree and the mean difference is at least 0.01.

Figures: `accuracy` and `auc` of held-out slides; `map_auroc`, of the patches within positive
held-out slides, the mean over these, by the method's map of evidence; `ceiling`, the same of a
probe trained on the patches' own labels; the rest are the method's ablations. Data are
synthetic; training settings are chosen for bags of this size and differ from those of the
papers; no figure says how a method would do on real slides.

With `--json` a finished method and seed is written at once and not run again: after a change
of the code delete the file. The file has, per method, the mean of each figure, under
"medians" the medians, and under "runs" the figures of each seed, or fold where a method has
folds. `--quick` is one seed of smaller data.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

import torch
from _report import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Figures = dict[str, float]
    Claim = tuple[str, str, str]

#: The function of each method, as "module:function".
METHODS = {
    "maxpool": "_method_baselines:maxpool",
    "meanpool": "_method_baselines:meanpool",
    "transmil": "_method_baselines:transmil",
    "attention": "_method_baselines:attention",
    "abmil": "_method_baselines:abmil",
    "acmil": "_method_baselines:acmil",
    "querent": "_method_querent:run",
    "persam": "_method_persam:run",
    "persam-folds": "_method_personal:folds",
    "persam-edits": "_method_personal:edits",
    "painted-folds": "_method_personal:painted_folds",
    "painted-edits": "_method_personal:painted_edits",
    "longmil": "_method_longmil:run",
    "sasha": "_method_sasha:run",
    "bd": "_method_bd:run",
    "vib": "_method_vib:run",
}
SEEDS = (0, 1, 2)
#: Where it is not these, and what the numbers are where they are no seeds.
OWN_SEEDS = {
    "persam-folds": (0, 1, 2, 3, 4),
    "persam-edits": (0, 1, 2, 3),
    "painted-folds": (0, 1, 2, 3, 4),
    "painted-edits": (0, 1, 2, 3),
}
WORDS = {"persam-folds": "folds", "painted-folds": "folds"}
PACKAGES = ("napari-wsimil", "torch", "numpy")
LEAST = 0.01  # a mean difference below this is none


def load(name: str) -> tuple[Any, Callable[[int, bool], Figures]]:
    """Return the module of a method and its function."""
    module, _, function = METHODS[name].partition(":")
    loaded = import_module(module)
    return loaded, getattr(loaded, function)


def job(name: str, seed: int, quick: bool) -> Figures:
    """Return the figures of a method on a seed, and the CPU seconds they took."""
    torch.set_num_threads(1)
    started = time.process_time()
    figures = load(name)[1](seed, quick)
    return figures | {"cpu seconds": time.process_time() - started}


class Record:
    """The runs so far, kept in a file if there is one.

    Attributes
    ----------
    runs
        Figures by method and seed.
    """

    def __init__(self, path: Path | None, quick: bool) -> None:
        self.path = path
        self.head = {"machine": machine(PACKAGES), "quick": quick}
        self.runs: dict[str, dict[str, Figures]] = {}
        if path is not None and path.exists() and path.stat().st_size:
            self.runs = read_runs(path, quick)

    def add(self, name: str, seed: int, figures: Figures) -> None:
        """Keep the figures of a run, on disk too."""
        self.runs.setdefault(name, {})[str(seed)] = figures
        if self.path is not None:
            part = self.path.with_name(self.path.name + ".part")
            part.write_text(json.dumps(self.report(), indent=2) + "\n")
            part.replace(self.path)

    def report(self) -> dict[str, Any]:
        """Return the file's content."""
        means = {
            name: {key: mean(values) for key, values in columns(seeds).items()}
            for name, seeds in self.runs.items()
        }
        medians = {
            name: {key: round(median(values), 4) for key, values in columns(seeds).items()}
            for name, seeds in self.runs.items()
        }
        return self.head | means | {"medians": medians, "runs": self.runs}


def read_runs(path: Path, quick: bool) -> dict[str, dict[str, Figures]]:
    """Return the runs that an earlier call wrote.

    Raises
    ------
    SystemExit
        If the file is none of this benchmark, or of runs with another `quick`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs, was_quick = content["runs"], content["quick"]
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} was not written by this benchmark: name another file") from error
    if was_quick != quick:
        raise SystemExit(f"{path} is of runs with quick {was_quick}: delete it first")
    return runs


def columns(seeds: dict[str, Figures]) -> dict[str, list[float]]:
    """Return the values of each figure over the seeds that have it, in the order of seeds."""
    runs = [seeds[seed] for seed in sorted(seeds, key=int)]
    keys = dict.fromkeys(key for figures in runs for key in figures)
    return {key: [figures[key] for figures in runs if key in figures] for key in keys}


def mean(values: list[float]) -> float:
    """Return the mean, to four digits."""
    return round(fmean(values), 4)


def table(name: str, seeds: dict[str, Figures]) -> Iterator[str]:
    """Yield the lines of a method's table: figures, then what became of its claims."""
    module = load(name)[0]
    word = WORDS.get(name, "seeds")
    yield f"\n{name}: {module.TITLE} ({word} {', '.join(sorted(seeds, key=int))})"
    found = columns(seeds)
    for key, values in found.items():
        yield f"  {key:44} {fmean(values):8.3f} {_spread(name, values)}"
    for claim in getattr(module, "CLAIMS", ()):
        if claim[1] in found and claim[2] in found:
            yield f"  → {verdict(claim, found)}"


def _spread(name: str, values: list[float]) -> str:
    """Return the deviation over runs; of folds and of methods with runs of their own all values."""
    if len(values) == 1:
        return ""
    each = ", ".join(f"{value:.3f}" for value in values)
    return f"± {stdev(values):.3f}" + (
        f"  median {median(values):.3f}  ({each})" if name in OWN_SEEDS else ""
    )


def verdict(claim: Claim, found: dict[str, list[float]]) -> str:
    """Return a claim with what the seeds say of it."""
    sentence, key, other = claim
    gains = [a - b for a, b in zip(found[key], found[other], strict=True)]
    clear = abs(fmean(gains)) >= LEAST and (min(gains) > 0 or max(gains) < 0)
    judged = ("yes" if fmean(gains) > 0 else "NO, the opposite") if clear else "not seen here"
    each = ", ".join(f"{gain:+.3f}" for gain in gains)
    return f"{sentence}: {judged} ({each})"


def run(options: argparse.Namespace) -> None:
    """Run what is not done yet; print each method's table once its seeds are there.

    A run that fails is told and does not stop the others; its error is raised at the end.
    """
    record = Record(options.json, options.quick)
    print(" · ".join(f"{name} {value}" for name, value in record.head["machine"].items()))
    wanted = {name: [str(seed) for seed in _runs(name, options)] for name in options.only}
    left = [
        (name, int(seed))
        for name, seeds in wanted.items()
        for seed in seeds
        if seed not in record.runs.get(name, {})
    ]
    for name in wanted:
        if name not in dict(left):
            _print(name, record)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        jobs = {pool.submit(job, name, seed, options.quick): (name, seed) for name, seed in left}
        failed = []
        for done in as_completed(jobs):
            name, seed = jobs[done]
            if error := done.exception():
                print(f"\n{name}, seed {seed}, failed: {error!r}", flush=True)
                failed.append(error)
                continue
            record.add(name, seed, done.result())
            if all(one in record.runs[name] for one in wanted[name]):
                _print(name, record)
    if failed:
        raise failed[0]


def _runs(name: str, options: argparse.Namespace) -> Sequence[int]:
    if options.seeds:
        return options.seeds
    return (0,) if options.quick else OWN_SEEDS.get(name, SEEDS)


def _print(name: str, record: Record) -> None:
    print("\n".join(table(name, record.runs[name])), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="keep the figures here, and go on from them")
    parser.add_argument("--only", type=_names, default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--quick", action="store_true", help="one seed of smaller data")
    parser.add_argument("--seeds", type=_seeds, help="0,1,2, or folds; 0 with --quick")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8))
    return parser.parse_args()


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(METHODS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose of {', '.join(METHODS)}")
    return names


if __name__ == "__main__":
    run(_options())
