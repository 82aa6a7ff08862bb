"""Bytes that changed anywhere in a file of features: right values, or an error that names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foreign
import h5py
import numpy as np
import pytest
from cohorts import make_bag

from napari_wsimil.features.importers.open import open_bag
from napari_wsimil.features.store import is_finished, load_bag, save_bag

if TYPE_CHECKING:
    from napari_wsimil.features.bag import Bag

#: Opens damaged copies in a process of its own: h5py crashed or looped on some before.
_SCRIPT = """
import sys, numpy as np
from pathlib import Path
from napari_wsimil.features.importers.open import open_bag
source, target, seeds, options = sys.argv[1], Path(sys.argv[2]), *map(eval, sys.argv[3:])
whole = Path(source).read_bytes()
opened = 0
for seed in seeds:
    rng = np.random.default_rng(seed)
    data = bytearray(whole)
    span = len(data) if seed % 2 else min(len(data), 3000)
    for at in rng.integers(0, span, int(rng.integers(1, 30))):
        data[at] ^= int(rng.integers(1, 256))
    target.write_bytes(data)
    try:
        bag = open_bag(target, **options)
    except (ValueError, OSError) as error:
        assert str(target) in str(error), (seed, error)
        assert len(str(error).splitlines()) == 1, (seed, error)
    else:
        opened += 1
print(opened)
"""


#: The library looped on 115 of ours and 281 of STAMP's, and crashed on 459 of STAMP's.
_SEEDS = {
    "trident": [*range(60)],
    "clam": [*range(60)],
    "stamp": [*range(40), 281, 459, 1251],
    "own": [*range(40), 115],
}


def flipped(path: Path, seed: int, count: int) -> bytes:
    """Return the bytes of a file, some of those changed that are not 0: most are padding."""
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for at in rng.choice(np.flatnonzero(np.frombuffer(data, np.uint8)), count):
        data[at] ^= int(rng.integers(1, 256))
    return bytes(data)


def same(one: Bag, other: Bag) -> bool:
    assert one.grid is not None
    assert other.grid is not None
    sizes = [
        (g.patch_size, g.stride, g.pixels, g.mpp, g.slide_size) for g in (one.grid, other.grid)
    ]
    return (
        one.features.equal(other.features)
        and np.array_equal(one.grid.coords, other.grid.coords)
        and sizes[0] == sizes[1]
        and (one.encoder, one.synthetic, one.slide) == (other.encoder, other.synthetic, other.slide)
    )


def test_our_own_file_with_bytes_changed_is_read_right_or_named(tmp_path: Path) -> None:
    bag, whole, path = make_bag(1, 60), tmp_path / "whole.h5", tmp_path / "a.h5"
    save_bag(whole, bag)
    assert same(load_bag(whole), bag)
    outcomes = {"right": 0, "named": 0}
    for seed in range(120):
        path.write_bytes(flipped(whole, seed, 1 + seed % 4))
        try:
            read = load_bag(path)
        except ValueError as error:
            outcomes["named"] += str(path) in str(error)
        else:
            outcomes["right"] += same(read, bag)
    assert sum(outcomes.values()) == 120
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("tool", ["trident", "clam", "stamp", "own"])
def test_a_foreign_file_with_bytes_changed_never_ends_the_program(
    tmp_path: Path, tool: str
) -> None:
    options: dict[str, Any] = {}
    if tool == "trident":
        path = foreign.trident(tmp_path / "whole.h5")
    elif tool == "clam":
        path, options = foreign.clam(tmp_path, "whole"), {"patch_size": 512}
    elif tool == "stamp":
        path, options = foreign.stamp2(tmp_path / "whole.h5", 0.5), {"mpp": 0.5}
    else:
        path = tmp_path / "whole.h5"
        save_bag(path, make_bag(1, 200))
    arguments = [str(path), str(tmp_path / "x.h5"), str(_SEEDS[tool])]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments, repr(options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


@pytest.mark.parametrize("tool", ["slideflow", "lazyslide"])
def test_tensors_and_zarr_folders_with_bytes_changed_are_read_or_named(
    tmp_path: Path, tool: str
) -> None:
    options: dict[str, Any] = {}
    if tool == "slideflow":
        path, options = foreign.slideflow(tmp_path / "s", "a", 0.5), {"mpp": 0.5}
    else:
        path = foreign.lazyslide(tmp_path / "s" / "a.zarr")
    for file in filter(Path.is_file, (tmp_path / "s").rglob("*")):
        whole = file.read_bytes()
        for seed in range(25 if tool == "slideflow" else 3):
            file.write_bytes(flipped(file, seed, 1 + seed % 5))
            named = ""
            try:
                open_bag(path, **options)
            except (ValueError, OSError) as error:
                named = str(error)
            assert not named or str(path.parent) in named
            file.write_bytes(whole)


def test_a_number_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_bag(path, make_bag(1))
    with h5py.File(path, "r+") as file:
        file["features"][0, 0] += 1
    with pytest.raises(ValueError, match=r"a\.h5: damaged or edited"):
        load_bag(path)
    assert is_finished(path)


@pytest.mark.parametrize("name", ["mpp", "patch_size_level0"])
def test_a_size_that_changed_is_noticed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.h5"
    save_bag(path, make_bag(1))
    with h5py.File(path, "r+") as file:
        file["coords"].attrs[name] *= 2
    with pytest.raises(ValueError, match=r"a\.h5: damaged or edited"):
        load_bag(path)


def test_a_file_of_an_earlier_version_has_no_seal_and_opens(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_bag(path, make_bag(1))
    with h5py.File(path, "r+") as file:
        del file.attrs["content_sha256"], file["features"].attrs["sealed"]
        file["features"][0, 0] += 1
    assert len(load_bag(path)) == 12


def test_an_attribute_that_h5py_would_crash_on_is_refused(tmp_path: Path) -> None:
    path = foreign.trident(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["coords"].attrs["patch_size"]
        file["coords"].attrs.create("patch_size", np.zeros(1, np.dtype([("a", "i4")]))[0])
    with pytest.raises(ValueError, match=r"a\.h5: damaged \(attribute patch_size is of a type"):
        open_bag(path)


@pytest.mark.parametrize("size", [0, 2**40])
def test_a_heap_that_the_library_would_read_for_ever_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.h5"
    save_bag(path, make_bag(1))
    data = bytearray(path.read_bytes())
    first = data.index(b"GCOL\x01\0\0\0") + 16
    data[first : first + 2] = bytes(2)  # index 0: free space, whose size counts its header
    data[first + 8 : first + 16] = size.to_bytes(8, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"a\.h5: damaged at byte"):
        load_bag(path)
