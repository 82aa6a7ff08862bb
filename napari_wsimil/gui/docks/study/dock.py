"""StudyWidget: the study that is open: its cases, tables in and out, fields and ledger."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QTabWidget, QWidget

from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.study import toolbar as study_ask
from napari_wsimil.gui.docks.study.audit_log import StudyLedger, StudyRuns
from napari_wsimil.gui.docks.study.cohort_table import StudyCohort
from napari_wsimil.gui.docks.study.cohort_view import CohortView, Said
from napari_wsimil.gui.docks.study.import_dialog import OTHER_SHEET, ImportDialog
from napari_wsimil.gui.docks.study.link_dialog import AGAIN, LinksDialog
from napari_wsimil.gui.docks.study.open_patient import CaseOpener, StudySlides
from napari_wsimil.gui.docks.study.schema_dialog import SchemaDialog
from napari_wsimil.gui.docks.study.toolbar import StudyButtons
from napari_wsimil.gui.record_saver import RecordSaver
from napari_wsimil.gui.text import added_words, study_facts
from napari_wsimil.gui.widgets.dock import DockedWidget, listen, while_alive
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.study.health import DamagedStudyError
from napari_wsimil.workflows.link_features import link_job, survey_job
from napari_wsimil.workflows.study import (
    create_study_job,
    export_table_job,
    folder_job,
    import_job,
    open_study_job,
    plan_table_job,
    read_job,
    restore_job,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.cohort.table_import.plan import ImportPlan
    from napari_wsimil.gui.session import Session
    from napari_wsimil.progress import Work
    from napari_wsimil.study.create_study import Unit
    from napari_wsimil.study.predictions import Answer, Review
    from napari_wsimil.study.pseudonyms import Key
    from napari_wsimil.workflows.link_features import Found
    from napari_wsimil.workflows.study import Opened, Planned

_NOTHING = (
    "No study is open. A study is a folder of patients, slides, clinical records and a ledger."
)


class StudyWidget(DockedWidget):
    """Sets the study of a session; `case_wanted` asks for a slide and its case to be shown."""

    case_wanted = Signal(object, object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._news = ""
        self._damaged: Path | None = None
        self._said = Said({}, {})
        self.job, self.buttons = JobRow(), StudyButtons()
        self.facts, self.news = QLabel(), QLabel()
        for label in (self.facts, self.news):
            label.setWordWrap(True)
        self.cohort, self.slides = StudyCohort(), StudySlides()
        self.ledger, self.runs = StudyLedger(), StudyRuns()
        self.cases, self.saver = CaseOpener(session, self), RecordSaver(session)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.cohort, "Patients")
        self.tabs.addTab(self.runs, "Models")
        self.tabs.addTab(self.ledger, "Ledger")
        above = QHBoxLayout()
        above.addWidget(self.facts, 1)
        for button in (self.buttons.fields, self.buttons.restore):
            above.addWidget(button)
        self.column.addLayout(above)
        for part in (self.buttons, self.job, self.news):
            self.column.addWidget(part)
        self.column.addWidget(self.tabs, 1000)
        self.column.addWidget(self.slides)
        self.column.addStretch(1)
        self._connect()
        self._show_study()

    def _connect(self) -> None:
        buttons = self.buttons
        buttons.new.clicked.connect(self._ask_new)
        buttons.open.clicked.connect(self._ask_study)
        buttons.slides.clicked.connect(self._ask_slides)
        buttons.table.clicked.connect(self._ask_table)
        buttons.features.clicked.connect(self._ask_features)
        buttons.export.clicked.connect(self._ask_export)
        buttons.fields.clicked.connect(self._ask_fields)
        buttons.restore.clicked.connect(self._ask_backup)
        self.cohort.chosen.connect(lambda name: self.slides.show_patient(self.cases.patient(name)))
        self.cohort.wanted.connect(self.open_case)
        self.cohort.corrected.connect(self.correct)
        listen(self, self._show_patient, self.saver.patient_read)
        listen(self, self._refuse, self.saver.failed)
        self.cohort.held.connect(self._show_held)
        self.slides.wanted.connect(self.open_case)
        self.cases.wanted.connect(self.case_wanted)
        self.cases.told.connect(self._say)
        self.ledger.check_button.clicked.connect(self._turn)
        self.tabs.currentChanged.connect(self._turn)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        listen(self, self._show_changed, self._pane.record_state.events.case)
        listen(self, self._show_kept, self._session.events.kept)

    @property
    def writing(self) -> bool:
        """Whether something is still being written, or a case being read."""
        return self._session.writes.busy or self.cases.busy

    # studies

    def open(self, folder: Path) -> None:
        """Open a study in the background, unless something of this one is not saved."""
        self._run_opening(open_study_job(folder))

    def create(self, folder: Path, schema: ClinicalSchema, name: str, unit: Unit) -> None:
        """Make a study and open it, in the background."""
        self._run_opening(create_study_job(folder, schema, name, unit))

    def open_slides(self, slides: Path, folder: Path) -> None:
        """Make a study of the slides in a folder and open it, in the background."""
        self._run_opening(folder_job(slides, folder))

    def restore(self, folder: Path, backup: str) -> None:
        """Restore a backup of a study and open the study, in the background."""
        if (study := self._session.study) is not None:
            study.close()  # it connects again if needed
        self._run_opening(restore_job(folder, backup))

    def _run_opening(self, job: Work[Opened]) -> None:
        if self._may_leave():
            self.job.run(job, self._show_opened, failed=self._offer_restore)

    def _offer_restore(self, _: str) -> None:
        if isinstance(self.job.error, DamagedStudyError):
            self._damaged = self.job.error.folder

    def _may_leave(self) -> bool:
        return self.cohort.may_leave() and self._pane.may_leave()

    def _show_held(self) -> None:
        self.tabs.setCurrentWidget(self.cohort)
        self.come_forward()
        self.reveal(self.cohort.correction)

    def _show_opened(self, opened: Opened) -> None:
        before = self._session.study
        if before is not None and before is not opened.study and not self._may_leave():
            opened.study.close()
            return
        memory.remember("study", str(opened.study.folder))
        if before is not None and before is not opened.study:
            self.cases.forget()
            self._pane.show_case(None)
            before.close()
        self._session.study = opened.study
        self._damaged = opened.study.folder if opened.study.is_damaged else None
        self.cases.manifest = opened.manifest
        self._said = Said(opened.answers, opened.reviews)
        self.cases.renew()
        self._say(opened.news or self._news)
        self._news = ""
        self._show_study()
        self._turn()

    # tables

    def plan_import(
        self, path: Path, schema: ClinicalSchema | None = None, sheet: str = ""
    ) -> None:
        """Read a table in the background, and show what its import will do."""
        if (study := self._session.study) is not None:
            self.job.run(plan_table_job(study, path, schema, sheet), self._ask_plan)

    def import_table(self, plan: ImportPlan, why: str, key: Key | None = None) -> None:
        """Take a table's patients in, in the background, under pseudonyms if there is a key."""
        if (study := self._session.study) is not None:
            work = import_job(study, plan, why, key)
            self.job.run(work, lambda added: self._reload(added_words(added)))

    def export(self, path: Path, time_unit: str = "", cbioportal: bool = False) -> None:
        """Write the cohort as a table, in the background."""
        if (study := self._session.study) is not None:
            job = export_table_job(study, path, time_unit, cbioportal)
            wrote = f"Wrote {path.name}."
            self.job.run(job, lambda notes: self._say(" ".join((wrote, *notes))))

    def find_features(self, folder: Path, confirmed: Confirmed) -> None:
        """Check the features in a folder in the background, and show what is found."""
        if (study := self._session.study) is not None:
            self.job.run(survey_job(study, folder, confirmed), self._ask_links)

    def set_schema(self, schema: ClinicalSchema, why: str) -> None:
        """Give the study another schema; refused in words if records do not fit it."""
        study = self._session.study
        if study is None:
            return
        self._session.writes.submit(
            partial(study.set_schema, schema, why),
            while_alive(self, lambda _: self._reload("The fields were changed.")),
            while_alive(self, self._refuse),
        )

    def _turn(self, _: object = None) -> None:
        """Read in the background what the page shows that is turned to."""
        page, study = self.tabs.currentWidget(), self._session.study
        if page is not self.cohort and study is not None and not self.job.busy:
            self.job.run(page.job(study), page.show_found)

    def _reload(self, news: str) -> None:
        """Read the patients again, and say what has come of what was done."""
        if (study := self._session.study) is not None:
            self._news = news
            self.job.run(read_job(study), self._show_opened)

    # cases

    def open_case(self, name: str, slide: str = "") -> None:
        """Show a patient as the case, with a slide or the first one, opened in the background."""
        self.cases.open(name, slide)

    def correct(self, patient: str, field: str, value: Value, why: str) -> None:
        """Correct a field of a patient's record, with an entry in the ledger."""
        shown = self.cohort.patient(patient)
        if shown is not None:
            self.saver.correct_field(shown, field, value, why)

    def _refuse(self, words: str) -> None:
        self.cohort.refuse(words)

    def _show_patient(self, patient: Patient) -> None:
        """Show a patient as the study has them now, in the table and as the case."""
        self.cohort.show_patient(patient)
        case = self._pane.case
        if case is not None and case.patient == patient.name:
            self.cases.renew()

    def _show_changed(self, _: object) -> None:
        """Show in the table what was corrected elsewhere of the case."""
        case = self._pane.case
        if case is None or self._session.study is None:
            return
        shown = self.cohort.patient(case.patient)
        if shown is not None and shown.record is not None and shown.record != case.record:
            self.cohort.show_patient(replace(shown, record=case.record))

    def _show_kept(self, kept: Answer | Review) -> None:
        """Show in the table what a model has said of a patient, or a person of that."""
        self.cohort.show_kept(kept)

    # ask

    def _ask_new(self) -> None:
        if (asked := study_ask.ask_new(self)) is not None:
            self.create(*asked)

    def _ask_study(self) -> None:
        if (folder := study_ask.ask_study(self)) is not None:
            self.open(folder)

    def _ask_backup(self) -> None:
        folder = self._damaged
        if folder is not None and (backup := study_ask.ask_backup(folder, self)) is not None:
            self.restore(folder, backup)

    def _ask_slides(self) -> None:
        if (folders := study_ask.ask_slides(self)) is not None:
            self.open_slides(*folders)

    def _ask_table(self) -> None:
        if (path := study_ask.ask_table(self)) is not None:
            self.plan_import(path)

    def _ask_plan(self, planned: Planned) -> None:
        dialog = ImportDialog(planned.plan, self, has_names=bool(planned.key.patients))
        answer, plan = dialog.exec_(), planned.plan
        if answer == OTHER_SHEET:
            self.plan_import(plan.table.path, plan.inferred.schema, dialog.sheet.currentText())
        elif answer:
            key = planned.key if dialog.names.isChecked() else None
            self.import_table(dialog.plan, dialog.why.text().strip() or "imported", key)

    def _ask_features(self) -> None:
        if (folder := study_ask.ask_features(self)) is not None:
            self.find_features(folder, Confirmed())

    def _ask_links(self, found: Found) -> None:
        dialog, study = LinksDialog(found, self), self._session.study
        answer = dialog.exec_()
        if answer == AGAIN:
            self.find_features(found.folder, dialog.confirmed)
        elif answer and study is not None:
            self.job.run(link_job(study, found, dialog.why.text().strip()), self._reload)

    def _ask_export(self) -> None:
        manifest = self.cases.manifest
        if manifest is None:
            return
        if (asked := study_ask.ask_export(manifest.endpoint, self)) is not None:
            self.export(*asked)

    def _ask_fields(self) -> None:
        if (study := self._session.study) is not None:
            dialog = SchemaDialog(study.schema, self)
            if dialog.exec_():
                self.set_schema(dialog.schema, dialog.why.text().strip())

    # show

    def _say(self, words: str) -> None:
        self.news.setText(words)
        self.news.setVisible(bool(words))

    def _show_study(self) -> None:
        study, manifest = self._session.study, self.cases.manifest
        self.slides.show_patient(None)
        self.tabs.setVisible(study is not None)
        if study is None or manifest is None or manifest.schema is None:
            self.facts.setText(_NOTHING)
            self.cohort.show_cohort(None, "")
        else:
            self.facts.setText(study_facts(study, manifest))
            view = CohortView(manifest, manifest.schema, self._said)
            self.cohort.show_cohort(view, study.read_only)
        self._refresh()

    def _refresh(self) -> None:
        self.buttons.refresh(self._session.study, self._damaged, busy=self.job.busy)
