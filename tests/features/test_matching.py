"""A survey says which files are of which slides, and everything that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foreign
import h5py
import numpy as np
import pytest

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import Confirmed, Tool
from napari_wsimil.features.matching import Survey, survey_features
from napari_wsimil.progress import finish
from napari_wsimil.study.audit_entry import Act
from napari_wsimil.study.create_study import create_study, open_study
from napari_wsimil.study.pseudonyms import Key
from napari_wsimil.training.bag_files import bag_of_slide
from napari_wsimil.workflows.link_features import links_of, survey_study

if TYPE_CHECKING:
    from napari_wsimil.study.file_links import Linked
    from napari_wsimil.study.open_study import Study


def survey(folder: Path, *slides: SlideRow, **confirmed: Any) -> Survey:
    work = survey_features(folder, slides, Confirmed(**confirmed))
    steps = []
    while True:
        try:
            steps.append(next(work))
        except StopIteration as stop:
            assert [step.done for step in steps] == list(range(1, len(steps) + 1))
            found: Survey = stop.value
            return found


def rows(*names: str) -> list[SlideRow]:
    return [SlideRow(name) for name in names]


def test_files_find_their_slides_and_the_rest_is_listed(tmp_path: Path) -> None:
    foreign.trident(tmp_path / "a.h5")
    foreign.trident(tmp_path / "stranger.h5")
    foreign.trident(tmp_path / "short.h5", corners=foreign.CORNERS[:-1])
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    (tmp_path / "notes.txt").write_text("passed over")
    found = survey(tmp_path, *rows("a", "short", "broken", "lonely"))
    assert [(m.slide, m.features.name) for m in found.matches] == [
        ("a", "a.h5"),
        ("short", "short.h5"),
    ]
    assert found.matches[1].passport.verdict is Verdict.REFUSED
    why = {one.what: one.why for one in found.mismatches}
    assert why["stranger.h5"] == "no slide of the study has this name"
    assert "not a readable HDF5 file" in why["broken.h5"]
    assert why["lonely"] == "no features"
    assert set(why) == {"stranger.h5", "broken.h5", "lonely"}


def test_a_name_is_matched_up_to_its_first_dot_unless_two_slides_share_it(tmp_path: Path) -> None:
    foreign.trident(tmp_path / "TCGA-3X.features.h5")
    assert len(survey(tmp_path, *rows("TCGA-3X.8e2f")).matches) == 1
    assert len(survey(tmp_path, *rows("TCGA-3X.8e2f", "TCGA-3X.91aa")).matches) == 0


def test_the_file_of_a_slides_image_names_it_too(tmp_path: Path) -> None:
    foreign.trident(tmp_path / "scan7.h5")
    found = survey(tmp_path, SlideRow("p1-a", slide_path=tmp_path / "scan7.svs"))
    assert found.matches[0].slide == "p1-a"
    assert "not checked against the slide" in found.matches[0].passport.notes[0]


def test_two_files_of_one_slide_are_not_chosen_between(tmp_path: Path) -> None:
    foreign.trident(tmp_path / "a.h5")
    foreign.slideflow(tmp_path, "a", 0.5)
    found = survey(tmp_path, *rows("a"))
    assert [m.features.name for m in found.matches] == ["a.h5"]
    assert found.mismatches[0].why == "slide 'a' has features in another file"


def test_clams_job_folder_is_one_set_of_features_with_its_sizes(tmp_path: Path) -> None:
    foreign.clam(tmp_path, "a")
    (match,) = survey(tmp_path, *rows("a")).matches
    assert (match.passport.tool, match.passport.patch_size) == (Tool.CLAM, 512)
    assert match.confirmed.patches == tmp_path / "patches" / "a.h5"


def test_a_folder_of_two_encoders_is_not_chosen_between(tmp_path: Path) -> None:
    for name in ("features_uni", "features_conch"):
        (tmp_path / name).mkdir()
        foreign.trident(tmp_path / name / "a.h5")
    with pytest.raises(ValueError, match=r"has features in features_conch, features_uni"):
        survey(tmp_path, *rows("a"))
    assert len(survey(tmp_path / "features_uni", *rows("a")).matches) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no feature files in it"):
        survey(tmp_path / "empty", *rows("a"))


def test_a_real_slide_gives_its_pixel_and_checks_the_real_zarr(
    data: Path, small_slide: Path
) -> None:
    folder = data / "slides" / "CMU-1-Small-Region_wsidata"
    found = survey(folder, SlideRow("CMU-1-Small-Region", slide_path=small_slide))
    assert found.mismatches == ()
    assert found.matches[0].passport.verdict is Verdict.PASSED


def test_real_features_without_places_are_matched_with_a_warning(data: Path) -> None:
    found = survey(data / "features", *rows("TCGA-3X-AAVA-01Z-00-DX1"), encoder="ctranspath")
    (match,) = found.matches
    assert (match.passport.patches, match.passport.dim) == (180, 512)
    assert match.passport.verdict is Verdict.WARNED
    assert match.passport.questions == ()


def test_what_was_confirmed_goes_through_a_text_and_back() -> None:
    said = Confirmed(patch_size=512, pixels=256, mpp=0.2527, encoder="uni v1", table="uni_tiles")
    assert Confirmed.parse(said.text) == said
    assert Confirmed.parse("") == Confirmed()
    assert Confirmed(patches=Path("/elsewhere/p.h5")).text == ""


@pytest.mark.parametrize("text", ["patch_size=wide", "exec=x", "mpp", "patches=/etc/passwd"])
def test_a_text_confirms_only_what_can_be_confirmed(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=VALUE with a name of patch_size"):
        Confirmed.parse(text)


def study_of(folder: Path, *names: str) -> Study:
    schema = ClinicalSchema(
        name="none", fields=(Field(name="age", kind=Kind.NUMBER, group="clinical"),)
    )
    study = create_study(folder, schema)
    study.add([Patient(f"P{name}", (SlideRow(name),), "A") for name in names], "test")
    return study


def link(study: Study, folder: Path, **confirmed: Any) -> tuple[Survey, Linked]:
    found = finish(survey_study(study, folder, Confirmed(**confirmed)))
    return found, study.link(links_of(found), "features of 2024")


def test_a_study_links_in_place_and_its_slides_open_with_what_was_confirmed(
    tmp_path: Path,
) -> None:
    (tmp_path / "far").mkdir()
    path = foreign.stamp2(tmp_path / "far" / "a.h5", 0.25)
    with study_of(tmp_path / "study", "a", "b") as study:
        found, linked = link(study, tmp_path / "far", mpp=0.25, encoder="uni2")
        assert linked.linked == ("a",)
        assert [one.what for one in found.mismatches] == ["b"]
        row = study.patient("Pa").slides[0]
        assert row.feature_path == path
        assert row.feature_facts == "mpp=0.25; encoder=uni2"
        bag = bag_of_slide(row, None)
        assert bag.grid is not None
        assert bag.grid.coords.tolist() == foreign.CORNERS.tolist()
        assert bag.encoder == "uni2 (unverified)"
        kept = study.links()["a"]
        assert (kept.encoder, kept.verified) == ("uni2", False)
        assert kept.facts["number check"] == "passed: 12 features, as many coordinates"
        assert study.ledger.entries("Pa")[-1].act is Act.LINKED
        assert link(study, tmp_path / "far", mpp=0.25, encoder="uni2")[1].same == ("a",)


def test_confirmed_facts_survive_the_study_as_a_table(tmp_path: Path) -> None:
    foreign.clam(tmp_path / "clam", "a")
    with study_of(tmp_path / "study", "a") as study:
        link(study, tmp_path / "clam")
        kept = study.manifest().patients[0].slides[0]
    columns = "patient_id,slide_id,feature_path,feature_facts"
    cells = f"Pa,a,{kept.feature_path},{kept.feature_facts}"
    (tmp_path / "cohort.csv").write_text(f"{columns}\n{cells}\n")
    row = read_manifest(tmp_path / "cohort.csv").patients[0].slides[0]
    assert row.feature_facts == "patch_size=512; pixels=256"  # from CLAM's file of patches
    (tmp_path / "clam" / "patches" / "a.h5").unlink()
    assert bag_of_slide(row, None).grid is not None


def test_what_a_check_refuses_is_not_linked(tmp_path: Path) -> None:
    foreign.trident(tmp_path / "a.h5", overlap=64)
    with study_of(tmp_path / "study", "a") as study:
        found, linked = link(study, tmp_path)
        assert found.matches[0].passport.verdict is Verdict.REFUSED
        assert linked.linked == ()
        assert study.patient("Pa").slides[0].feature_path is None


def test_files_called_as_outside_find_the_slides_that_pseudonyms_stand_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "features").mkdir()
    foreign.trident(tmp_path / "features" / "TCGA-A1.h5")
    with study_of(tmp_path / "study", "P1-1") as study:
        key = Key(tmp_path / "key.json", {"Jane": "PP1-1"}, {"TCGA-A1": "P1-1", "TCGA-A2": "P9"})
        key.save()
        work = survey_study(study, tmp_path / "features", Confirmed(), key.path)
        assert [match.slide for match in finish(work).matches] == ["P1-1"]
        work = survey_study(study, tmp_path / "features", Confirmed())
        assert finish(work).matches == ()


def test_the_command_line_links_and_asks_and_refuses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "features").mkdir()
    foreign.stamp2(tmp_path / "features" / "a.h5", 0.25)
    with study_of(tmp_path / "study", "a", "b"):
        pass
    base = ["study", "import", tmp_path / "study", "--features", tmp_path / "features", "--json"]

    def told(*options: object, code: int = 0) -> dict[str, Any]:
        capfd.readouterr()
        assert main([str(one) for one in (*base, *options)]) == code
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return found

    asked = told(code=3)
    assert asked["linked"] == []
    assert asked["refused"] == {"a": "--slide-mpp: how many µm per level-0 pixel has the slide?"}
    assert asked["mismatches"] == {"b": "no features"}
    planned = told("--slide-mpp", 0.25, "--dry-run")
    assert "linked" not in planned
    assert planned["passports"]["a"]["verdict"] == "not tested"
    done = told("--slide-mpp", 0.25, "--encoder", "uni2")
    assert (done["linked"], done["refused"]) == (["a"], {})
    with open_study(tmp_path / "study") as study:
        assert study.patient("Pa").slides[0].feature_facts == "mpp=0.25; encoder=uni2"
    assert main([str(one) for one in base[:3]]) == 2
    assert "give one of --table and --features" in capfd.readouterr().err


def test_good_files_are_linked_beside_damaged_and_refused_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "features"
    files.mkdir()
    rng = np.random.default_rng(0)
    for name in "abcdefg":
        path = foreign.trident(files / f"{name}.h5")
        with h5py.File(path, "r+") as file:
            file["features"][...] = rng.normal(size=(12, 5))
    data = bytearray((files / "a.h5").read_bytes())
    for at in range(1000, 3000, 60):
        data[at] ^= 0x5A
    (files / "rotten.h5").write_bytes(bytes(data))
    (files / "f.h5").write_bytes((files / "g.h5").read_bytes())
    names = ["a", "b", "c", "d", "e", "f", "g", "rotten"]
    with study_of(tmp_path / "study", *names):
        pass
    command = ["study", "import", tmp_path / "study", "--features", files, "--json"]
    assert main([str(one) for one in command]) == 3
    out, err = capfd.readouterr()
    facts = json.loads(out)
    assert facts["linked"] == ["a", "b", "c", "d", "e"]
    assert list(facts["failed"]) == ["rotten.h5"]
    assert "damaged" in facts["failed"]["rotten.h5"]
    assert [line for line in err.splitlines() if "rotten" in line and "damaged" in line]
    assert facts["refused"] == {
        "f": "values: the features equal those of g: one of the files is misnamed",
        "g": "values: the features equal those of f: one of the files is misnamed",
    }


def test_features_of_a_slide_that_is_linked_already_are_not_linked_to_another(
    tmp_path: Path,
) -> None:
    for name, folder in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        foreign.trident(tmp_path / folder / f"{name}.h5")
    with study_of(tmp_path / "study", "a", "b") as study:
        assert link(study, tmp_path / "first")[1].linked == ("a",)
        found, linked = link(study, tmp_path / "second")
        assert linked.linked == ()
        assert "features equal those of a" in found.matches[0].passport.facts["checks"]["values"]  # type: ignore[index]
        assert link(study, tmp_path / "first")[1].same == ("a",)


def test_features_far_longer_than_those_of_the_same_encoder_are_warned_of(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    for name in "abcd":
        path = foreign.trident(tmp_path / f"{name}.h5")
        with h5py.File(path, "r+") as file:
            file["features"][...] = rng.normal(size=(12, 5)) * (100 if name == "c" else 1)
    with study_of(tmp_path / "study", *"abcd") as study:
        found, linked = link(study, tmp_path)
        assert linked.linked == tuple("abcd")
        said = {m.slide: m.passport.facts["checks"]["values"] for m in found.matches}  # type: ignore[index]
        assert said["c"].startswith("warned: features have a median length of")
        assert all(text.startswith("passed") for name, text in said.items() if name != "c")
        kept = study.links()["c"].facts
        assert str(kept["values check"]).startswith("warned")
        assert kept["median_norm"] > 100  # type: ignore[operator]
