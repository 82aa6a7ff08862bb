"""Every slide of a cohort has its own outcome, and one that fails does not end the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_wsimil.cli.main import main
from napari_wsimil.features.store import load_bag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, dict[str, Any], str]]

PATCHES = ("--mpp", 1, "--pixels", 64)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, the JSON on stdout, and stderr."""

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else {}, err

    return run


def write_slide(path: Path, seed: int) -> Path:
    """Write a stained slide of 1024 px at 0.5 µm per pixel, lossy as scanners do."""
    pixels = np.full((1024, 1024, 3), 245, np.uint8)
    noise = np.random.default_rng(seed).integers(-20, 20, (800, 800, 3))
    pixels[100:900, 100:900] = noise + np.array((180, 90, 160))
    header = "Aperio Image Library v1\r\n1024x1024|AppMag = 20|MPP = 0.5"
    how = {"compression": "jpeg", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, tile=(256, 256), description=header, **how)
    return path


def spoil_tile(path: Path, number: int) -> None:
    """Overwrite a tile of the first level with nonsense."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        place, size = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xde\xad" * (size // 2))


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Five slides: good, one bad tile, good, one that is not there, one without a path."""
    rows = ["patient_id,slide_id,slide_path,label"]
    for number, name in enumerate(("first", "spoiled", "last")):
        write_slide(tmp_path / f"{name}.svs", number)
        rows.append(f"P{number},{name},{name}.svs,{'ab'[number % 2]}")
    rows += ["P3,gone,gone.svs,a", "P4,pathless,,b"]
    spoil_tile(tmp_path / "spoiled.svs", 5)
    path = tmp_path / "cohort.csv"
    path.write_text("\n".join(rows))
    return path


def test_a_bad_slide_does_not_end_an_extraction(run: Run, cohort: Path) -> None:
    out = cohort.with_name("out")
    code, facts, _ = run("extract", cohort, "-o", out, *PATCHES)
    assert code == 3
    outcomes = facts["outcomes"]
    assert list(outcomes) == ["first", "spoiled", "last", "gone", "pathless"]
    assert set(facts["patches"]) == {"first", "last"}
    for name in ("first", "last"):
        assert outcomes[name] == f"done: {facts['patches'][name]} patches"
        assert len(load_bag(out / f"{name}.h5")) == facts["patches"][name]
    assert outcomes["spoiled"].startswith("failed: spoiled.svs: level 0, tile (1, 1)")
    assert outcomes["gone"].startswith("failed: gone.svs: there is no such file")
    assert outcomes["pathless"] == "skipped: no slide_path"


def test_an_extraction_begun_again_skips_what_is_there_and_names_what_is_damaged(
    run: Run, cohort: Path
) -> None:
    out = cohort.with_name("out")
    run("extract", cohort, "-o", out, *PATCHES)
    write_slide(cohort.with_name("spoiled.svs"), 1)
    write_slide(cohort.with_name("gone.svs"), 3)
    (out / "spoiled.h5").unlink(missing_ok=True)
    code, facts, _ = run("extract", cohort, "-o", out, *PATCHES)
    assert code == 0
    assert facts["outcomes"]["first"] == "skipped: features are there already"
    assert facts["outcomes"]["gone"].startswith("done: ")
    assert set(facts["patches"]) == {"first", "spoiled", "last", "gone"}
    (out / "first.h5").write_bytes(b"rotten")
    code, facts, _ = run("extract", cohort, "-o", out, *PATCHES)
    assert code == 3
    assert "first.h5: not a readable HDF5 file" in facts["outcomes"]["first"]
    assert facts["outcomes"]["last"] == "skipped: features are there already"


def test_training_names_all_slides_that_cannot_be_encoded(run: Run, cohort: Path) -> None:
    parts = ("split", "train", "train", "validation", "test", "test")
    lines = zip(cohort.read_text().splitlines(), parts, strict=True)
    cohort.write_text("\n".join(f"{line},{part}" for line, part in lines))
    where = ("-o", cohort.with_name("m.safetensors"), "--features", cohort.with_name("out"))
    code, _, err = run("train", cohort, *where)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error")]
    assert "2 slides cannot be encoded: spoiled.svs" in line
    assert "gone.svs: there is no such file" in line
    assert cohort.with_name("out").joinpath("last.h5").exists()


def test_one_slide_alone_fails_with_one_line(run: Run, cohort: Path) -> None:
    out = cohort.with_name("out")
    code, _, err = run("extract", cohort.with_name("spoiled.svs"), "-o", out, *PATCHES)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: spoiled.svs: level 0, tile (1, 1)")


def test_a_cohort_without_any_slide_is_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cohort.csv"
    path.write_text("patient_id,slide_id,label\nP1,a,x\nP2,b,y")
    code, _, err = run("extract", path, "-o", tmp_path / "out")
    assert code == 2
    assert "no slide has a slide_path" in err


def test_the_help_names_the_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "the exit code is 3" in " ".join(capfd.readouterr().out.split())
