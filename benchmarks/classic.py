"""Musk1 and Elephant, the classic multiple-instance benchmarks: AUC of five times ten folds.

ABMIL and ACMIL go the ordinary way (`learning.fit`), beside a support vector machine on
the mean, maximum and minimum of each bag, all on the same folds. Every setting below was
chosen beforehand for bags of a few instances and none on a test fold: no validation set,
a fixed number of epochs, no instance left out, no noise on the features.

    python benchmarks/classic.py [--quick] [--json FILE] [--data DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.models import create_model
from napari_wsimil.progress import finish
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import FitConfig, fit
from napari_wsimil.training.splits import Fold, folds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Cases = Mapping[str, Case]
    Method = Callable[[Cases, Fold, int], NDArray[np.float64]]

SETS = ("musk1", "elephant")
CONFIG = FitConfig(
    epochs=10, lr=1e-3, weight_decay=1e-2, accumulate=2, drop=0.0, noise=0.0, schedule="cosine"
)
SHAPES: dict[str, dict[str, int | float | str]] = {
    "abmil": {"width": 128, "attention_dim": 64},
    "acmil": {"width": 128, "attention_dim": 64, "masked": 2, "mask_rate": 0.5},
}


def load(path: Path) -> dict[str, Case]:
    """Return one case per bag of a file with `X`, `bag`, `bag_ids` and `y`."""
    with np.load(path, allow_pickle=False) as file:
        x, bag, ids, y = (file[name] for name in ("X", "bag", "bag_ids", "y"))
    return {
        str(name): Case(str(name), (Bag(torch.from_numpy(x[bag == name])),), int(target > 0))
        for name, target in zip(ids, y, strict=True)
    }


def mil(name: str) -> Method:
    """Return the method that trains model `name` and gives P(positive) of the test bags."""

    def scores(cases: Cases, fold: Fold, seed: int) -> NDArray[np.float64]:
        train, test = ([cases[p] for p in part] for part in (fold.train, fold.test))
        torch.manual_seed(seed)
        config = {"feature_dim": train[0].bags[0].features.shape[1], "classes": 2}
        model = create_model(name, **config, **SHAPES[name])
        finish(fit(model, train, [], FitConfig(**{**vars(CONFIG), "seed": seed})))
        answers: NDArray[np.float64] = finish(evaluate(model, test)).probabilities[:, 1].numpy()
        return answers

    return scores


def pooled(case: Case) -> NDArray[np.float32]:
    """Return mean, maximum and minimum of a bag, end to end."""
    x = case.bags[0].features.numpy()
    return np.concatenate([x.mean(axis=0), x.max(axis=0), x.min(axis=0)])


def svm(cases: Cases, fold: Fold, seed: int) -> NDArray[np.float64]:
    """Return the margins of the test bags under an RBF machine with scikit-learn's defaults."""
    machine = make_pipeline(StandardScaler(), SVC(random_state=seed))
    machine.fit([pooled(cases[p]) for p in fold.train], [cases[p].target for p in fold.train])
    margins: NDArray[np.float64] = machine.decision_function([pooled(cases[p]) for p in fold.test])
    return margins


METHODS: dict[str, Method] = {"svm": svm} | {name: mil(name) for name in SHAPES}


def run(cases: Cases, method: Method, repeats: int, count: int) -> dict[str, float]:
    """Return mean AUC over all folds, its spread over the repeats, and the seconds."""
    started = time.perf_counter()
    targets = {name: case.target for name, case in cases.items()}
    repeated = []
    for seed in range(repeats):
        aucs = [
            roc_auc_score([cases[p].target for p in fold.test], method(cases, fold, seed))
            for fold in folds(targets, count, validation=False, seed=seed)
        ]
        repeated.append(np.mean(aucs))
    return {
        "auc": float(np.mean(repeated)),
        "sd": float(np.std(repeated)),
        "seconds": time.perf_counter() - started,
    }


def machine() -> dict[str, str | int]:
    """Return what the figures were made with."""
    facts: dict[str, str | int] = {
        "platform": platform.platform(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    packages = ("napari-wsimil", "torch", "numpy", "scikit-learn")
    return facts | {name: version(name) for name in packages}


def main() -> None:
    """Print the table, and write it where asked."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("WSIMIL_DATA", beside)),
        help="folder that has mil/musk1.npz and mil/elephant.npz",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="one repeat of three folds")
    options = parser.parse_args()
    repeats, count = (1, 3) if options.quick else (5, 10)
    torch.set_num_threads(1)  # bags of a few instances gain nothing from more

    facts = machine()
    print(" · ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"AUC, mean over {repeats} × {count} folds ± spread over repeats")
    results: dict[str, dict[str, dict[str, float]]] = {}
    for data in SETS:
        cases = load(options.data / "mil" / f"{data}.npz")
        results[data] = {}
        for name, method in METHODS.items():
            found = results[data][name] = run(cases, method, repeats, count)
            print(
                f"{data:10} {name:6} {found['auc']:.3f} ± {found['sd']:.3f}"
                f" {found['seconds']:6.0f} s",
                flush=True,
            )
    if options.json:
        report = {"machine": facts, "repeats": repeats, "folds": count, "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
