"""No name of a file is seen while names are hidden, whatever fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from napari.utils.notifications import notification_manager, show_error, show_warning
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QLineEdit, QTextEdit
from studies import small_study

from napari_wsimil.gui import notices
from napari_wsimil.gui.names import unnamed
from napari_wsimil.slides.geometry import SlideError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from windows import Docks

PATIENT = "DOE_JANE 1957"  # with a blank, as people name files


def visible_words() -> str:
    """Return every text, title and tooltip of the program's widgets."""
    words = []
    for widget in QApplication.allWidgets():
        words += [widget.toolTip(), widget.windowTitle(), widget.statusTip()]
        if isinstance(widget, QLabel | QAbstractButton | QLineEdit):
            words.append(widget.text())
        elif isinstance(widget, QTextEdit):
            words.append(widget.toPlainText())
        elif isinstance(widget, QComboBox):
            words += [widget.itemText(i) for i in range(widget.count())]
    return "\n".join(words)


def told(caplog: pytest.LogCaptureFixture) -> str:
    """Return all that widgets, notifications with their tracebacks, and logs say."""
    notes = [f"{note.message}\n{note}" for note in notification_manager.records]
    return "\n".join([visible_words(), *notes, caplog.text])


def by_napari(docks: Docks, path: Path) -> None:
    """Open a file as napari's menu does: an error reaches Qt, which hands it to napari."""
    with pytest.raises(SlideError) as raised:
        docks.viewer.open(path, plugin="napari-wsimil")
    notification_manager.receive_error(raised.type, raised.value, raised.tb)


def test_no_failure_names_the_file_while_names_are_hidden(
    docks: Docks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from napari_wsimil.gui.plugin import StudyDock, TrainDock

    study_dock, train_dock = StudyDock(docks.viewer), TrainDock(docks.viewer)
    docks.viewer.window.add_dock_widget(study_dock, name="Study")
    docks.viewer.window.add_dock_widget(train_dock, name="Train")
    small_study(tmp_path / "study").close()
    study_dock.open(tmp_path / "study")
    docks.wait(lambda: not study_dock.job.busy)

    def broken(suffix: str) -> Path:
        path = tmp_path / f"{PATIENT}{suffix}"
        path.write_bytes(b"this is nothing")
        return path

    failures: dict[str, Callable[[], object]] = {
        "Slide dock": lambda: docks.slide.open(broken(".svs")),
        "no file": lambda: docks.slide.open(tmp_path / f"{PATIENT} gone.svs"),
        "napari": lambda: by_napari(docks, broken(".tiff")),
        "features": lambda: docks.slide.features.open(broken(".h5")),
        "model": lambda: docks.explain.open_model(broken(".safetensors")),
        "table": lambda: study_dock.plan_import(broken(".xlsx")),
        "study": lambda: study_dock.open(tmp_path / PATIENT),
        "cohort": lambda: train_dock.cohort.open(broken(".csv")),
        "weights": lambda: train_dock.cohort.weights.choose(broken(".bin")),
        "note": lambda: show_error(f"cannot read {tmp_path}/DOE_JANE_1957.svs"),
        "warning": lambda: show_warning("DOE_JANE_1957.svs is odd"),
    }
    for shown in (False, True):
        docks.slide.names.setChecked(shown)
        for kind, fail in failures.items():
            before = len(notification_manager.records)
            fail()
            docks.idle()
            docks.wait(lambda: not (study_dock.job.busy or train_dock.job.busy))
            QApplication.processEvents()
            words = told(caplog)
            if not shown:
                assert "DOE" not in words, f"{kind}: {words[words.index('DOE') - 99 :][:200]}"
                assert "JANE" not in words, kind
            elif len(notification_manager.records) > before:
                assert "DOE" in str(notification_manager.records[-1].message), kind
    assert "DOE" in visible_words()
    docks.slide.names.setChecked(False)
    assert "DOE" not in visible_words()


def test_napari_without_our_docks_names_no_slide_either(
    make_napari_viewer: Callable[[], Viewer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_manager, "dispatch", notices._PLAIN)
    path = tmp_path / f"{PATIENT}.svs"
    path.write_bytes(b"this is nothing")
    with pytest.raises(SlideError) as raised:
        make_napari_viewer().open(path, plugin="napari-wsimil")
    notification_manager.receive_error(raised.type, raised.value, raised.tb)
    note = notification_manager.records[-1]
    assert "cannot be opened as a slide" in note.message
    assert "DOE" not in f"{note.message} {note}"


def test_words_keep_their_sense_without_names() -> None:
    path = Path("/data/ward 7/DOE, JANE.ome.tif")
    assert unnamed("DOE, JANE.ome.tif: not a TIFF", [path]) == "The file: not a TIFF"
    assert unnamed("cannot open '/data/ward 7/DOE, JANE.ome.tif'", [path]).endswith("'the file'")
    assert unnamed("no slide DOE, JANE in it", [path]) == "no slide the file in it"
    beside = "/data/ward 7/ROE.h5 and /data/ward_8/ROE_JOHN/a.h5: damaged"
    assert unnamed(beside, [path]) == "The file and the file: damaged"
    name = Path("DOE, JANE.ome.tif")  # whose folder is another one's parent too
    assert unnamed(f"{Path.cwd().parent}/x/{name}: damaged", [name]) == "The file: damaged"
    assert unnamed("the model reads no record", [Path("model.pt")]) == "the model reads no record"
    assert unnamed("at 0.5 µm/px, 20 / 30, 95 %, v1.2") == "at 0.5 µm/px, 20 / 30, 95 %, v1.2"
    assert unnamed("see /home/doe/x.svs, please") == "see the file, please"
