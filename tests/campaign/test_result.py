"""The model as others use it, and predictions for what has no label: the same numbers as mcdal's own, whatever came since."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from mcdal.artifacts import Artifacts
from mcdal.campaign.definition import opened
from mcdal.campaign.example import FILES, read
from mcdal.campaign.judging import judge
from mcdal.campaign.model import export_model, load_classifier
from mcdal.campaign.predict import predict
from mcdal.campaign.progress import accuracy
from mcdal.campaign.result_commands import model as model_command
from mcdal.campaign.result_commands import predict as predict_command
from mcdal.campaign.trained import round_model
from mcdal.errors import CampaignError
from mcdal.tensors import write_tensors
from tests.campaign.played import CLASSES, GREY, TURNED, photographs, play
from tests.campaign.test_campaign import ENCODER


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    truth = photographs(folder / "images", folder / "digits")
    play(folder / "c", folder / "images", truth)
    return folder


@pytest.fixture(scope="module")
def exported(played):
    """By the command, in a process of its own."""
    command = ["campaign", "model", str(played / "c"), "--out", str(played / "model"), "--device", "cpu"]
    command += ["--format", "safetensors,pt2,torchscript"]
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "mcdal", *command], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "expected calibration error" in ran.stdout and "round 1" in ran.stdout
    return played / "model"


def own(trained, ids, temperature):
    """Probabilities by id as the loop's own pass gives them."""
    found = {}
    for images in (trained.pool.images, trained.pool.test.images):
        places = np.array([i for i, id in enumerate(images.ids) if id in ids], dtype=np.int64)
        for some, logits in trained.logits(images, places):
            found |= dict(zip(some, softmax(logits / temperature, axis=1), strict=True))
    return found


SOME = [TURNED, GREY, "a/002.jpg", "b/001.png", "a/040.jpg"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "model.onnx"])
def test_the_example_says_of_a_file_what_mcdal_says(played, exported, tmp_path, name):
    for part in ("example.py", "model.json", name):
        shutil.copy(exported / part, tmp_path / part)
    told = json.loads((tmp_path / "model.json").read_text())
    with opened(played / "c") as campaign:
        wanted = own(round_model(campaign, device="cpu"), SOME, told["temperature"])
    for id in SOME[:3] if name == "model.pt2" else SOME[:1]:
        assert said(tmp_path, played / "images" / id) == pytest.approx(
            dict(zip(CLASSES, wanted[id], strict=True)), abs=5e-6
        )


def said(folder, image):
    ran = subprocess.run([sys.executable, folder / "example.py", image], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return {line.partition(" ")[2]: float(line.partition(" ")[0]) for line in ran.stdout.splitlines()}


def test_the_example_needs_no_mcdal_and_says_what_it_cannot_read(exported, tmp_path):
    for part in ("example.py", "model.json", "model.pt2"):
        shutil.copy(exported / part, tmp_path / part)
    (tmp_path / "mcdal.py").write_text("raise ImportError('there is no mcdal')")
    Image.new("RGBA", (30, 40), (255, 0, 0, 10)).save(tmp_path / "clear.png")
    assert sum(said(tmp_path, tmp_path / "clear.png").values()) == pytest.approx(1, abs=1e-5)
    (tmp_path / "no.png").write_text("no image")
    ran = subprocess.run([sys.executable, tmp_path / "example.py", tmp_path / "no.png"], capture_output=True, text=True)
    assert ran.returncode == 1 and "cannot be read" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.parametrize("size", [8, 16, 40, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_example_reads_files_as_the_pool_does(played, size, channels):
    from mcdal.pool.decode import Decoder
    from mcdal.pool.loading import with_channels

    for id in SOME[1:2] if channels == 1 else SOME:
        wanted = with_channels(Decoder(size).decode(played / "images" / id).pixels, channels)
        assert np.array_equal(read(played / "images" / id, channels, size)[0].transpose(1, 2, 0), wanted), id


def test_the_example_draws_a_large_jpeg_at_a_fraction_as_the_pool_does(tmp_path):
    from mcdal.pool.decode import Decoder

    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    wanted = Decoder(32).decode(tmp_path / "large.jpg").pixels
    assert np.array_equal(read(tmp_path / "large.jpg", 3, 32)[0].transpose(1, 2, 0), wanted)


def test_what_the_model_must_be_told_lies_beside_it(played, exported):
    told = json.loads((exported / "model.json").read_text())
    assert told["classes"] == list(CLASSES) and told["input"]["shape"] == [3, 16, 16] and told["round"] == 1
    assert told["labels"] == 60 and told["strategy"] == "margin" and told["calibration"]["labels"] == 30
    for name, about in told["files"].items():
        assert about["sha256"] == hashlib.sha256((exported / name).read_bytes()).hexdigest()
    assert set(told["files"]) == {"example.py", "model.pt2", "model.safetensors", "model.ts"}
    with opened(played / "c") as campaign:
        found, pool = accuracy(campaign), round_model(campaign, device="cpu").pool
    assert told["accuracy"]["value"] == pytest.approx(found.value) and told["accuracy"]["of"] == found.labels == 30
    assert told["accuracy"]["low"] == pytest.approx(found.low)
    assert told["normalisation"]["mean"] == list(pool.mean) and told["normalisation"]["std"] == list(pool.std)
    assert sum(share["of"] for share in told["recall"].values()) == 30


def test_weights_are_loaded_into_parts_of_mcdal_alone(exported, tmp_path):
    x = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    assert torch.allclose(load_classifier(exported)(x).sum(1), torch.ones(3))
    shutil.copy(exported / "model.safetensors", tmp_path)
    told = json.loads((exported / "model.json").read_text())
    for kind, words in (("os:system", "is no part of mcdal"), ("mcdal.version:x", "is no Architecture")):
        (tmp_path / "model.json").write_text(json.dumps(told | {"architecture": {"type": kind}}))
        with pytest.raises(CampaignError, match=words):
            load_classifier(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(CampaignError, match="holds no model"):
        load_classifier(tmp_path)


def test_what_cannot_be_is_said_before_anything_is_written(played, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with opened(played / "c") as campaign:
        trained = round_model(campaign, 0, "cpu")
        audit = judge(trained)
        for formats, out, words in (
            (["pt"], tmp_path / "a", "--format pt: there are safetensors, pt2, torchscript, onnx"),
            ([], tmp_path / "a", "names none"),
            (["pt2"], exported, "is not an empty folder"),
            (["onnx"], tmp_path / "a", r"needs onnxscript: pip install 'mcdal\[onnx\]'"),
        ):
            with pytest.raises(CampaignError, match=words):
                export_model(campaign, trained, audit, out, formats)
        monkeypatch.setattr("torch.export.export", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no\nway")))
        with pytest.raises(
            CampaignError, match=r"--format pt2: torch cannot write this network so \(no\): take another"
        ):
            export_model(campaign, trained, audit, tmp_path / "a", ["safetensors", "pt2"])
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(CampaignError, match="trained are the rounds 0 to 1"):
            round_model(campaign, 7, "cpu")
        with pytest.raises(CampaignError, match=r"written as \.parquet or \.csv"):
            predict(campaign, trained, 1.0, tmp_path / "p.json")


def test_an_earlier_round_is_another_model(played, tmp_path):
    model_command(played / "c", tmp_path / "zero", round=0, formats="safetensors", device="cpu")
    told = json.loads((tmp_path / "zero" / "model.json").read_text())
    assert told["round"] == 0 and told["labels"] == 40 and set(told["files"]) == {"example.py", "model.safetensors"}


def test_predictions_are_of_everything_without_a_label(played, tmp_path, capsys):
    for name in ("p.parquet", "p.csv"):
        predict_command(played / "c", tmp_path / name, device="cpu")
    out = capsys.readouterr().out
    assert "70 predictions of round 1" in out and "temperature" in out and "is rough" in out
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet")
    rows = table.to_pylist()
    with opened(played / "c") as campaign:
        labeled = {o.sample_id for o in campaign.ledger.outcomes()}
        trained = round_model(campaign, device="cpu")
        temperature = judge(trained).calibration.temperature.value
        wanted = own(trained, {row["sample_id"] for row in rows}, temperature)
    everything = {p.relative_to(played / "images").as_posix() for p in (played / "images").rglob("*.*")}
    assert {row["sample_id"] for row in rows} == everything - labeled and len(rows) == 70
    for row in rows:
        p = wanted[row["sample_id"]]
        assert row["probabilities"] == pytest.approx(p, abs=1e-6) and row["number"] == int(np.argmax(p))
        assert row["label"] == CLASSES[row["number"]] and row["probability"] == pytest.approx(max(p), abs=1e-6)
        assert row["margin"] == pytest.approx(np.sort(p)[-1] - np.sort(p)[-2], abs=1e-6)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert json.loads(about["classes"]) == list(CLASSES) and about["round"] == "1"
    assert float(about["temperature"]) == temperature
    with (tmp_path / "p.csv").open(newline="") as file:
        in_csv = list(csv.DictReader(file))
    assert [(r["sample_id"], r["label"], f"{r['probability']:.6f}") for r in rows] == [
        (r["sample_id"], r["label"], r["probability"]) for r in in_csv
    ]


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(played, tmp_path, monkeypatch):
    (tmp_path / "p.parquet").write_text("before")
    with opened(played / "c") as campaign:
        trained = round_model(campaign, device="cpu")
        done = []

        def stop(kind, **told):
            done.append(told["done"])
            if len(done) == 2:
                raise KeyboardInterrupt

        object.__setattr__(trained.plan.config.training, "measure_batch_size", 16)
        with pytest.raises(KeyboardInterrupt):
            predict(campaign, trained, 1.0, tmp_path / "p.parquet", stop)
        assert done == [16, 32] and (tmp_path / "p.parquet").read_text() == "before"
        assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]
        predict(campaign, trained, 1.0, tmp_path / "p.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "p.parquet").num_rows == 70


def test_images_that_come_and_go_change_nothing_for_the_others(played, tmp_path):
    """Mean and deviation are those of the pool at training, not of today's."""
    shutil.copytree(played / "images", tmp_path / "images")
    truth = photographs(tmp_path / "again", tmp_path / "digits")
    play(tmp_path / "c", tmp_path / "images", truth)
    predict_command(tmp_path / "c", tmp_path / "before.parquet", device="cpu")
    for i in range(40):
        Image.new("RGB", (20, 20), (255, 255, 255)).save(tmp_path / "images" / f"white{i}.png")
    Image.new("RGBA", (20, 20)).save(tmp_path / "images" / "clear.png")
    predict_command(tmp_path / "c", tmp_path / "after.parquet", device="cpu")
    before, after = (
        {row["sample_id"]: row["probabilities"] for row in pyarrow.parquet.read_table(tmp_path / name).to_pylist()}
        for name in ("before.parquet", "after.parquet")
    )
    assert len(after) == len(before) + 40 and "clear.png" not in after
    assert {id: after[id] for id in before} == before


def test_images_that_cannot_be_decoded_are_named(played, tmp_path, capsys):
    (played / "images" / "broken.png").write_text("no image")
    try:
        predict_command(played / "c", tmp_path / "p.csv", device="cpu")
    finally:
        (played / "images" / "broken.png").unlink()
    assert "broken.png has no row: not an image" in capsys.readouterr().out


def test_a_model_of_an_older_mcdal_says_what_it_does_not_know(played, tmp_path):
    shutil.copytree(played / "c", tmp_path / "c")
    with opened(tmp_path / "c") as campaign:
        artifacts = Artifacts(campaign.folder / "runs" / campaign.run_id)
        write_tensors(artifacts.folder / "round_001" / "model.safetensors", artifacts.read_model(1), {})
        trained = round_model(campaign, device="cpu")
        assert "did not keep how its images were normalised" in trained.notes[0]
        assert trained.inputs.classes == CLASSES
        (artifacts.folder / "round_001" / "model.safetensors").unlink()
        with pytest.raises(CampaignError, match="take another round"):
            round_model(campaign, device="cpu")


def test_labels_of_a_class_that_came_later_are_wrong_and_say_nothing_of_calibration(played, tmp_path):
    shutil.copytree(played / "c", tmp_path / "c")
    with opened(tmp_path / "c") as campaign:
        before = judge(round_model(campaign, device="cpu"))
        campaign.ledger.add_classes(["new"])
        from mcdal.campaign.ledger import Given
        from tests.campaign.conftest import join

        id = campaign.ledger.outcomes(["audit"])[0].sample_id
        for name in ("Ann", "Bob"):
            campaign.ledger.answer(join(campaign, name), [Given(f"later-{name}", id, "label", 10)])
        after = judge(round_model(campaign, device="cpu"))
    assert after.unknown == 1 and after.calibration.labels == 29 and after.accuracy.of == 30
    assert after.recall["new"].count == 0 and before.accuracy.count - after.accuracy.count in (0, 1)


def test_before_a_round_is_trained_there_is_nothing_to_export(played, tmp_path):
    from tests.campaign.conftest import begin

    begin(tmp_path / "c", played / "images", classes=",".join(CLASSES), audit=30.0)
    with opened(tmp_path / "c") as campaign, pytest.raises(CampaignError, match="no round is trained yet"):
        round_model(campaign, device="cpu")


@pytest.mark.slow
def test_through_an_encoder_of_ones_own(played, tmp_path):
    """The graph holds the encoder; weights alone do not bring its code, and say so."""
    (tmp_path / "flat.py").write_text(ENCODER)
    truth = photographs(tmp_path / "images", tmp_path / "digits")
    play(tmp_path / "c", tmp_path / "images", truth, encoder=f"{tmp_path / 'flat.py'}:Flat")
    model_command(tmp_path / "c", tmp_path / "m", formats="safetensors", device="cpu")
    with pytest.raises(CampaignError, match=r"take model\.pt2"):
        load_classifier(tmp_path / "m")
    command = ["campaign", "model", str(tmp_path / "c"), "--out", str(tmp_path / "pt2"), "--format", "pt2"]
    subprocess.run([sys.executable, "-m", "mcdal", *command], check=True, capture_output=True)
    told = json.loads((tmp_path / "pt2" / "model.json").read_text())
    assert told["normalisation"]["resized_to"] == [8, 8] and told["input"]["shape"] == [3, 16, 16]
    with opened(tmp_path / "c") as campaign:
        wanted = own(round_model(campaign, device="cpu"), SOME, told["temperature"])
    found = said(tmp_path / "pt2", tmp_path / "images" / SOME[2])
    assert found == pytest.approx(dict(zip(CLASSES, wanted[SOME[2]], strict=True)), abs=2e-5)


def test_onnx_says_the_same(played, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    command = ["campaign", "model", str(played / "c"), "--out", str(tmp_path / "m"), "--format", "onnx"]
    subprocess.run([sys.executable, "-m", "mcdal", *command], check=True, capture_output=True)
    told = json.loads((tmp_path / "m" / "model.json").read_text())
    with opened(played / "c") as campaign:
        wanted = own(round_model(campaign, device="cpu"), SOME, told["temperature"])
    for id in SOME[:2]:
        found = said(tmp_path / "m", played / "images" / id)
        assert found == pytest.approx(dict(zip(CLASSES, wanted[id], strict=True)), abs=2e-5)
