"""Clinical records: from manifest and schema through training to every prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from records import with_inputs

from napari_wsimil.cli.main import main
from napari_wsimil.cli.model_facts import model_facts
from napari_wsimil.clinical.encoding import encode, fit_statistics
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import ClinicalSchema, read_schema
from napari_wsimil.cohort.manifest import SlideRow
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.explain.predict import predict, predict_patient
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.models import MODELS
from napari_wsimil.models.card import Card
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.bag_files import BagFiles
from napari_wsimil.training.cases import loss_of
from napari_wsimil.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from napari_wsimil.training.config import RunConfig
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.training.evaluate import assess
from napari_wsimil.training.options import options_of, parsed_options
from napari_wsimil.training.train import train_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

D = 6
SCHEMA = """
name: ward
inputs: [age, smoker, ldh]
fields:
- {name: age, kind: number, group: interview, unit: years}
- {name: smoker, kind: boolean, group: interview}
- {name: ldh, kind: number, group: blood, unit: U/L, columns: [LDH (U/L)]}
- {name: note, kind: category, group: blood, values: [a, b]}
"""
SPLITS = ("train", "train", "train", "train", "validation", "validation", "test", "test")


def make_bag(seed: int, n: int = 12) -> Bag:
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    places = np.stack(np.unravel_index(np.arange(n), (4, 3)), axis=1).astype(np.int64) * 448
    grid = PatchGrid(places, patch_size=448, stride=448, pixels=224, mpp=0.5)
    return Bag(x, encoder="ink-1", grid=grid)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the features, schema and records of 16 patients, and a model of them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("records")
    (folder / "schema.yaml").write_text(SCHEMA)
    rows = ["patient_id,slide_id,feature_path,split,label,age,smoker,LDH (U/L),note"]
    for k in range(16):
        save_bag(folder / f"s{k}.h5", make_bag(k))
        label, split = ("A", "B")[k % 2], SPLITS[k // 2]
        ldh = 200 + 100 * (k % 2) + k if k != 3 else ""
        smoker = ("yes", "no", "unknown")[k % 3]
        rows.append(f"p{k},s{k},s{k}.h5,{split},{label},{40 + k},{smoker},{ldh},a")
    save_bag(folder / "s16.h5", make_bag(16))
    rows.append("silent,s16,s16.h5,test,A,,,,")
    (folder / "cohort.csv").write_text("\n".join(rows))
    assert main(train_command(folder, folder / "live.safetensors")) == 0
    return folder


def train_command(folder: Path, out: Path, model: str = "persam-live") -> list[str]:
    schema = ["--schema", str(folder / "schema.yaml")]
    return [
        *("train", str(folder / "cohort.csv"), "-o", str(out), *schema),
        *("--model", model, "--option", "width=16", "--epochs", "2"),
    ]


def quick_run(study: Path, out: Path) -> RunConfig:
    return RunConfig(cohort=study / "cohort.csv", out=out, model="abmil", threads=1)


def changed(study: Path, target: Path, **columns: str | None) -> Path:
    """Write the manifest with columns renamed, or emptied where there is no name."""
    head, *rows = (study / "cohort.csv").read_text().splitlines()
    names = head.split(",")
    cells = [row.split(",") for row in rows]
    for row in cells:
        row[2] = str(study / row[2])
        for column, name in columns.items():
            row[names.index(column)] = row[names.index(column)] if name else ""
    names = [columns.get(name) or name for name in names]
    target.write_text("\n".join(",".join(row) for row in [names, *cells]))
    return target


def ward(folder: Path) -> ClinicalSchema:
    return read_schema(folder / "schema.yaml")


def read_json(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return content


# the format


def test_tokens_are_the_records_channels_and_say_what_is_there(study: Path) -> None:
    manifest = read_manifest(study / "cohort.csv", ward(study))
    records = [p.record for p in manifest.patients if p.record is not None]
    found = RecordFormat.fit(ward(study), records)
    assert found.groups == "8,4"
    expected = encode(ward(study), records[3], fit_statistics(ward(study), records))
    tokens = found.tokens(records[3])
    for value, wanted in zip(tokens.values, expected.values, strict=True):
        assert value.dtype == torch.float32
        np.testing.assert_array_equal(value.numpy(), wanted)
    assert tokens.present.tolist() == [True, False]
    nothing = found.tokens(None)
    assert nothing.present.tolist() == [False, False]
    assert [len(value) for value in nothing.values] == [8, 4]


def test_a_format_comes_back_from_json_with_the_same_tokens(study: Path) -> None:
    manifest = read_manifest(study / "cohort.csv", ward(study))
    records = [p.record for p in manifest.patients if p.record is not None]
    found = RecordFormat.fit(ward(study), records)
    again = RecordFormat.model_validate_json(found.model_dump_json())
    assert again == found
    for one, other in zip(
        found.tokens(records[0]).values, again.tokens(records[0]).values, strict=True
    ):
        assert torch.equal(one, other)


def test_a_schema_without_inputs_makes_no_format(study: Path) -> None:
    with pytest.raises(RecordError, match="ward: no field is an input"):
        RecordFormat.fit(with_inputs(ward(study), ()), [])


def test_another_schema_is_refused_naming_the_fields(study: Path) -> None:
    found = RecordFormat.fit(ward(study), [])
    found.check(ward(study))
    found.check(with_inputs(ward(study), ()))  # the same fields, whatever else may be shown
    fields = ward(study).fields
    other = ClinicalSchema(
        name="other", fields=(fields[0].model_copy(update={"unit": "days"}), fields[1])
    )
    with pytest.raises(RecordError, match=r"model's, ward: without ldh, with another age$"):
        found.check(other)
    with pytest.raises(RecordError, match="without age, smoker, ldh"):
        found.check(None)


# training


def test_the_card_says_how_records_are_read(study: Path) -> None:
    model, card = load_checkpoint(study / "live.safetensors")
    assert card.model == "persam-live"
    assert card.config["groups"] == model.config["groups"] == "8,4"
    assert card.config["width"] == 16
    assert "values" in card.config
    assert card.record is not None
    assert card.record.clinical == ward(study)
    assert "of the training patients 8 have interview, 7 have blood; " in card.data
    assert card.data.endswith("a deviation from the paper")


def test_statistics_are_of_training_records_alone(study: Path) -> None:
    card = load_checkpoint(study / "live.safetensors")[1]
    assert card.record is not None
    ages = np.arange(40, 48)  # the first 8 patients train
    spread = {"mean": ages.mean(), "sd": ages.std(), "min": 40, "max": 47}
    assert card.record.statistics["age"] == spread


def test_a_card_whose_groups_are_not_its_models_is_refused(study: Path, tmp_path: Path) -> None:
    model, card = load_checkpoint(study / "live.safetensors")
    assert card.record is not None
    fewer = RecordFormat.fit(with_inputs(ward(study), ("age",)), [])
    with pytest.raises(ValueError, match="card says groups 4, its config 8,4"):
        Card.model_validate(card.model_dump() | {"record": fewer})
    save_checkpoint(tmp_path / "again.safetensors", model, card)
    assert load_checkpoint(tmp_path / "again.safetensors")[1].record == card.record


@pytest.mark.parametrize("name", ["persam", "bd"])
def test_other_models_that_read_records_are_trained_alike(
    study: Path, tmp_path: Path, run: Run, name: str
) -> None:
    out = tmp_path / "model.safetensors"
    assert run(*train_command(study, out, name))[0] == 0
    code, said, err = run("evaluate", out, study / "cohort.csv", "--draws", 100, "--json")
    assert code == 0
    assert read_json(said)["patients"] == 5
    assert "1 of 5 patients have no record" in err


def test_bags_of_a_patient_have_the_tokens_whenever_they_are_read(study: Path) -> None:
    card = load_checkpoint(study / "live.safetensors")[1]
    assert card.record is not None
    tokens = card.record.tokens(None)
    files = BagFiles((SlideRow("s0"), SlideRow("s1")), study, tokens)
    assert files[1].clinical is tokens
    assert files[:1][0].clinical is tokens
    assert torch.equal(files[1].features, load_bag(study / "s1.h5").features)


@pytest.mark.parametrize(
    ("model", "schema", "names"),
    [
        ("persam-live", False, "give the schema"),
        ("abmil", True, "does not use clinical records. Drop the schema, or choose bd, persam"),
    ],
)
def test_records_and_models_that_do_not_go_together_are_refused(
    study: Path, tmp_path: Path, run: Run, model: str, schema: bool, names: str
) -> None:
    where = ("train", study / "cohort.csv", "-o", tmp_path / "no.safetensors", "--model", model)
    code, _, err = run(*where, *(("--schema", study / "schema.yaml") if schema else ()))
    assert code == 2
    assert names in err.splitlines()[-1]


def test_a_table_without_an_inputs_column_is_refused_but_an_empty_one_is_missing(
    study: Path, tmp_path: Path, run: Run
) -> None:
    model = study / "live.safetensors"
    other = changed(study, tmp_path / "other.csv", **{"LDH (U/L)": "lactate", "age": "years"})
    code, _, err = run("evaluate", model, other)
    assert code == 2
    assert "no column for age, ldh, required by the model" in err.splitlines()[-1]
    with pytest.raises(RecordError, match="no column for age, ldh"):
        read_cohort(other, ward(study))
    empty = changed(study, tmp_path / "empty.csv", age=None)
    assert run("evaluate", model, empty, "--draws", 100)[0] == 0
    assert (
        run("evaluate", model, changed(study, tmp_path / "n.csv", note="n"), "--draws", 100)[0] == 0
    )


def test_patients_of_another_schema_are_not_assessed(study: Path) -> None:
    model, card = load_checkpoint(study / "live.safetensors")
    manifest = read_manifest(study / "cohort.csv")
    with pytest.raises(RecordError, match="without age, smoker, ldh"):
        finish(assess(model, card, manifest))


# prediction


def test_the_manifests_record_is_read_for_a_slide(study: Path, run: Run) -> None:
    model, cohort = study / "live.safetensors", study / "cohort.csv"
    command = ("predict", model, study / "s5.h5", "--json", "--manifest", cohort)
    code, out, err = run(*command)
    assert (code, "missing" in err) == (0, False)
    loaded, card = load_checkpoint(model)
    record = read_manifest(cohort, ward(study)).patients[5].record
    expected = predict(loaded, card, load_bag(study / "s5.h5"), record)
    chances = dict(zip(card.classes, expected.probabilities.tolist(), strict=True))
    assert read_json(out)["probabilities"] == pytest.approx(chances)
    code, _, err = run("predict", model, study / "s5.h5", "--manifest", study / "no.csv")
    assert code == 2
    (study / "elsewhere.h5").write_bytes((study / "s5.h5").read_bytes())
    code, _, err = run("predict", model, study / "elsewhere.h5", "--manifest", cohort)
    assert code == 2
    assert "no slide 'elsewhere'" in err


def test_a_map_is_exported_of_the_record_that_is_given(study: Path, run: Run) -> None:
    maps = []
    for extra in ((), ("--manifest", study / "cohort.csv")):
        out = study / "map.csv"
        assert run("export-map", study / "live.safetensors", study / "s5.h5", out, *extra)[0] == 0
        maps.append(out.read_text())
    assert maps[0] != maps[1]


def test_a_prediction_without_a_record_says_that_all_is_missing(study: Path, run: Run) -> None:
    code, out, err = run("predict", study / "live.safetensors", study / "s5.h5", "--json")
    assert code == 0
    assert "warning: the model uses a clinical record, but all its fields are missing here" in err
    assert read_json(out)["warnings"]


def test_another_record_is_another_answer_for_slide_and_patient(study: Path) -> None:
    model, card = load_checkpoint(study / "live.safetensors")
    bag = load_bag(study / "s5.h5")
    young, old = (ward(study).parse({"age": age, "ldh": "300"}) for age in ("20", "90"))
    one, other = (predict(model, card, bag, record) for record in (young, old))
    assert not torch.equal(one.logits, other.logits)
    assert one.bag.clinical is not None
    assert "age 20 is outside the 40 to 47 years of the training records" in one.warnings[0]
    patient = predict_patient(model, card, "eve", [bag, bag], old)
    torch.testing.assert_close(patient.logits, other.logits)
    assert patient.scalars == {}


def test_tokens_that_a_bag_has_stay_unless_a_record_is_given(study: Path) -> None:
    model, card = load_checkpoint(study / "live.safetensors")
    assert card.record is not None
    tokens = card.record.tokens(ward(study).parse({"age": "70"}))
    bag = replace(load_bag(study / "s5.h5"), clinical=tokens)
    assert predict(model, card, bag).bag.clinical is tokens
    again = predict(model, card, bag, ward(study).parse({"age": "30"})).bag.clinical
    assert again is not None
    assert not torch.equal(again.values[0], tokens.values[0])


def test_a_record_for_a_model_that_reads_none_is_refused(
    study: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "abmil.safetensors"
    cohort = study / "cohort.csv"
    assert run("train", cohort, "-o", out, "--model", "abmil", "--epochs", 1)[0] == 0
    code, _, err = run("predict", out, study / "s5.h5", "--manifest", cohort)
    assert code == 2
    assert "abmil reads no clinical record" in err
    told = read_json(run("info", out, "--json")[1])
    assert (told["task"], told["record"], told["survival"]) == ("classification", None, None)


# training that cannot go on, or could not be saved


def diverging(at: int) -> Callable[..., dict[str, torch.Tensor]]:
    """Return `loss_of`, whose call number `at` gives a loss that is no number."""
    calls = count(1)

    def loss(*args: Any) -> dict[str, torch.Tensor]:
        terms = loss_of(*args)
        return {k: v * torch.nan for k, v in terms.items()} if next(calls) == at else terms

    return loss


def test_weights_kept_before_training_diverged_are_saved_and_named(
    study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "kept.safetensors"
    monkeypatch.setattr("napari_wsimil.training.fit.loss_of", diverging(at=10))  # of 8 patients
    code, _, err = run("train", study / "cohort.csv", "-o", out, "--model", "abmil")
    assert code == 2
    assert "became nan in epoch 2" in err
    assert f"weights before it were kept, in {out}" in " ".join(err.split())
    model, card = load_checkpoint(out)
    assert "training stopped in epoch 2: a loss or gradient became nan" in card.data
    assert 'patient "' not in card.data
    assert model.standardize.mean.any()


def test_nothing_is_saved_nor_said_to_be_where_the_first_epoch_diverged(
    study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "none.safetensors"
    monkeypatch.setattr("napari_wsimil.training.fit.loss_of", diverging(at=3))
    code, _, err = run("train", study / "cohort.csv", "-o", out, "--model", "abmil")
    assert code == 2
    assert "were kept" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.pt", "end in .safetensors"),
        ("missing/model.safetensors", "No such file"),
        ("folder.safetensors", "is a folder"),
    ],
)
def test_where_no_checkpoint_can_be_written_nothing_is_trained(
    study: Path, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    work = train_run(quick_run(study, tmp_path / name))
    with pytest.raises(CheckpointError, match=said):
        next(work)


def test_asking_whether_a_file_can_be_written_leaves_it(study: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"old")
    next(train_run(quick_run(study, target)))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


# options


def test_options_are_of_their_defaults_types() -> None:
    found = parsed_options("acmil", ["branches=3", "mask_rate=1e-1", "stkim=bernoulli"])
    assert found == {"branches": 3, "mask_rate": 0.1, "stkim": "bernoulli"}
    assert type(found["branches"]) is int


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("branches=few", "branches=few: 'few' is not a whole number"),
        ("mask_rate=x", "'x' is not a number"),
        ("depth=3", "acmil takes width=256, attention_dim=128, branches=5"),
        ("classes=3", "acmil takes"),
        ("branches", "acmil takes"),
    ],
)
def test_an_option_that_a_model_does_not_have_is_refused(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        parsed_options("acmil", [text])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_tells_its_method_and_each_option(name: str) -> None:
    facts = model_facts(name)
    assert len(facts["method"]) > 20
    assert facts["does"].endswith(".")
    assert "classification" in facts["tasks"]
    assert facts["training"]["epochs"] >= 1
    for option, said in facts["options"].items():
        assert isinstance(said["default"], int | float | str), option
        assert said["means"], option
    assert not {"feature_dim", "classes", "groups"} & set(facts["options"])


def test_the_models_are_told_on_the_command_line(run: Run) -> None:
    code, out, _ = run("models", "--json")
    assert code == 0
    assert set(read_json(out)) == set(MODELS)
    assert read_json(out)["acmil"]["options"]["branches"] == options_of("acmil")["branches"].default
    assert "record" in read_json(out)["persam-live"]["needs"]
    assert read_json(run("models", "abmil", "--json")[1])["tasks"] == [
        "classification",
        "survival",
        "cox",
    ]
    code, _, err = run("models", "resnet")
    assert code == 2
    assert "resnet" in err
