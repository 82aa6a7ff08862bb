"""A survey says which files are of which slides, and everything that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import foreign
import pytest

from napari_wsimil.bags.checks import Verdict
from napari_wsimil.bags.exchange import open_bag
from napari_wsimil.bags.link import read_link, write_link
from napari_wsimil.bags.stated import Confirmed, Tool
from napari_wsimil.bags.survey import Survey, survey_features
from napari_wsimil.study.manifest import SlideRow

if TYPE_CHECKING:
    from pathlib import Path


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
    with pytest.raises(ValueError, match="no features in it"):
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


def test_a_link_opens_what_it_points_at_with_what_was_confirmed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    path = foreign.stamp2(tmp_path / "far" / "a.h5", 0.25)
    said = Confirmed(mpp=0.25, encoder="uni2")
    (tmp_path / "study").mkdir()
    link = tmp_path / "study" / "a.link.json"
    write_link(link, path, said)
    assert read_link(link) == (path, said)
    assert str(tmp_path) not in link.read_text()  # relative, so that both may move together
    bag = open_bag(link)
    assert bag.grid is not None
    assert bag.grid.coords.tolist() == foreign.CORNERS.tolist()
    assert bag.encoder == "uni2 (unverified)"
    assert open_bag(link, encoder="other").encoder == "other (unverified)"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"kind": "napari-wsimil link to features"}', '{"kind": "else"}']
)
def test_what_is_no_link_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.link.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.link\.json: "):
        open_bag(tmp_path / "a.link.json")


@pytest.mark.parametrize("said", ['{"mpp": "0.5"}', '{"stride": true}', '{"exec": "x"}'])
def test_a_link_says_only_what_links_say(tmp_path: Path, said: str) -> None:
    head = '"kind": "napari-wsimil link to features", "features": "a.h5"'
    (tmp_path / "a.link.json").write_text(f'{{{head}, "confirmed": {said}}}')
    with pytest.raises(ValueError, match="which a link does not"):
        open_bag(tmp_path / "a.link.json")


def test_a_link_to_a_link_is_not_followed(tmp_path: Path) -> None:
    write_link(tmp_path / "a.link.json", tmp_path / "a.link.json", Confirmed())
    with pytest.raises(ValueError, match="points at another link"):
        open_bag(tmp_path / "a.link.json")
