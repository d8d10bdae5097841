"""A campaign on images that lie in shards, on a disk or in a bucket: from its beginning to what comes out, over HTTP."""

import csv
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet
import pytest
from PIL import Image

from mcdal.campaign.beginning import Asked, stock_of
from mcdal.campaign.card import write_card
from mcdal.campaign.definition import opened
from mcdal.campaign.export import export
from mcdal.campaign.importing import import_labels
from mcdal.campaign.judging import judge
from mcdal.campaign.ledger import Given
from mcdal.campaign.originals import originals_of
from mcdal.campaign.plans import plan_of
from mcdal.campaign.predict import predict
from mcdal.campaign.progress import PICKED, accuracy
from mcdal.campaign.relisting import relist
from mcdal.campaign.showing import Pictures
from mcdal.campaign.sweep import sweep
from mcdal.campaign.tell import status
from mcdal.campaign.trained import round_model
from mcdal.campaign.trainer import train
from mcdal.campaign.web import Beside, make_app
from mcdal.device import resolve
from mcdal.errors import CampaignError, ConfigError, McdalError, PoolError
from mcdal.pool.digits import Digits
from mcdal.store import Store
from tests.campaign.conftest import begin, join
from tests.campaign.test_campaign import ENCODER, answer_all
from tests.campaign.test_web import came_in, key
from tests.pool import layouts

SHARDS, EACH = 3, 40
QUICK = ["training.epochs=1", "training.steps_per_epoch=4"]
SMALL = {"budget": 20, "start": 12, "batch": 8, "audit": 10.0, "control": 0.0, "settings": QUICK}
MUCH = {**SMALL, "control": 0.25, "easy": 0.25, "near": 0.99, "per_group": 6, "double": 0.2, "audit_answers": 2}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """PNG files of digits by number, and what they show. Every 30th is no image."""
    pool = Digits().open(tmp_path_factory.mktemp("cache"))
    images = {i: layouts.encoded(pool.images.pixels[i].squeeze()) for i in range(SHARDS * EACH)}
    images |= {i: b"no image" for i in range(7, SHARDS * EACH, 30)}
    return images, pool.targets[: SHARDS * EACH].tolist()


@pytest.fixture(scope="module")
def tars(digits, tmp_path_factory):
    """WebDataset tars whose labels are all wrong, one of them of a folder: bytes and truth by id."""
    root, (images, truth) = tmp_path_factory.mktemp("tars"), digits
    for shard in range(SHARDS):
        members = {}
        for i in range(shard * EACH, (shard + 1) * EACH):
            members |= {f"{'ab'[i % 2]}/{i:03d}.png": images[i], f"{'ab'[i % 2]}/{i:03d}.cls": b"%d" % (9 - truth[i])}
        layouts.write_tar(root / f"s{shard}.tar", members)
    ids = {i: f"s{i // EACH}/{'ab'[i % 2]}/{i:03d}" for i in images}
    return root, {ids[i]: images[i] for i in images}, {ids[i]: truth[i] for i in images}


def parquet(root, digits, shards=range(SHARDS)):
    images, truth = digits
    for shard in shards:
        some = range(shard * EACH, (shard + 1) * EACH)
        layouts.write_parquet(root / f"s{shard}.parquet", [images[i] for i in some], {"label": [9 - truth[i] for i in some]})
    ids = {i: f"s{i // EACH}:{i % EACH}" for i in images}
    return root, {ids[i]: images[i] for i in images}, {ids[i]: truth[i] for i in images}


def broken(images):
    return {id for id, content in images.items() if content == b"no image"}


def team(campaign):
    app = make_app(campaign, Beside(), ["testserver"])
    return [came_in(app, campaign, name) for name in ("Ann", "Bob")]


def answer_over_http(people, images, truth):
    """They answer until nothing is open; what they are shown are the bytes in the shard."""
    waits = True
    while waits:
        waits = False
        for client in people:
            for item in client.post("/api/next", json={"count": 6}).json()["items"]:
                assert (item["width"], item["height"]) == (8, 8)
                for address in (item["image"], item["thumb"]):
                    shown = client.get(address)
                    assert shown.content == images[item["id"]] and shown.headers["content-type"] == "image/png"
                said = {"key": key(), "id": item["id"], "verdict": "label", "value": truth[item["id"]], "seconds": 1.5}
                (result,) = client.post("/api/answers", json={"answers": [said]}).json()["results"]
                waits |= result["status"] != "refused"


def asked(campaign):
    store = Store(campaign.folder, create=False)
    try:
        return [store.asked(campaign.run_id, r.round) for r in store.rounds(campaign.run_id)]
    finally:
        store.close()


@pytest.fixture(scope="module")
def finished(tars, tmp_path_factory):
    root, images, truth = tars
    folder = tmp_path_factory.mktemp("done") / "c"
    begin(folder, root, **MUCH)
    with opened(folder) as campaign:
        people = team(campaign)
        while train(folder, "cpu") == "asks":
            answer_over_http(people, images, truth)
        yield campaign


def test_a_campaign_on_tars(finished, tars):
    _, images, truth = tars
    ledger = finished.ledger
    told = status(finished)
    assert told["state"] == "finished" and told["budget"] == {"labels": 20, "of": 20}
    assert told["agreement"]["images"] >= 9 and accuracy(finished).labels == told["audit"]["labels"]
    arms = {arm: {o.sample_id for o in ledger.outcomes([arm])} for arm in ("start", "strategy", "control", "easy", "audit")}
    assert [len(arms[arm]) for arm in ("start", "strategy", "control", "easy")] == [12, 4, 2, 2]
    bad = broken(images)
    assert 10 - len(bad) <= len(arms["audit"]) <= 10 and not set.union(*arms.values()) & bad
    store = Store(finished.folder, create=False)
    labels = store.labels(finished.run_id)
    store.close()
    assert len(labels) == 20 and labels == {id: truth[id] for id in labels} and not labels.keys() & arms["audit"]


def test_what_was_not_asked_about_cannot_be_told_from_the_shards(finished):
    """Every label in the tars is wrong: none is known to the pool, nor lies in the index."""
    pool = plan_of(finished.campaign, finished.folder).config.source.open(finished.folder / "cache")
    assert pool.targets is None and pool.sharded is not None and pool.sharded.pool(pool.sharded.shards[0]).targets is None
    listed = list((finished.folder / "cache").glob("index-*/shards/*.parquet"))
    assert len(listed) == SHARDS and not any("label" in pyarrow.parquet.read_schema(path).names for path in listed)
    assert not any(path.is_file() and path.suffix in (".npy", ".jpg") and "pixels" in path.name
                   for path in (finished.folder / "cache").rglob("*"))  # fmt: skip


def test_exports_hold_the_bytes_of_the_shard(finished, tars, tmp_path):
    _, images, truth = tars
    export(finished, "csv", tmp_path / "l.csv")
    with (tmp_path / "l.csv").open(newline="") as file:
        rows = {row["sample_id"]: row for row in csv.DictReader(file)}
    assert {id: int(row["label"]) for id, row in rows.items()} == {id: truth[id] for id in rows}
    assert all(row["sha256"] == hashlib.sha256(images[id]).hexdigest() for id, row in rows.items())
    export(finished, "folders", tmp_path / "folders", device="cpu")
    copies = [path for path in (tmp_path / "folders").rglob("*.png")]
    assert len(copies) == len(rows) and {path.read_bytes() for path in copies} == {images[id] for id in rows}
    export(finished, "huggingface", tmp_path / "hf", device="cpu")
    found = [row for path in (tmp_path / "hf/data").iterdir() for row in pyarrow.parquet.read_table(path).to_pylist()]
    assert {row["sample_id"]: row["image"]["bytes"] for row in found} == {id: images[id] for id in rows}
    card = (tmp_path / "hf/README.md").read_text()
    assert f"of {len(images)} images" in card and "the audit and the start set" in card
    with pytest.raises(CampaignError, match="lie in shards"):
        export(finished, "cvat", tmp_path / "cvat.xml")


def test_predictions_are_of_all_that_can_be_read(finished, tars, tmp_path):
    _, images, _ = tars
    trained = round_model(finished, device="cpu")
    found = predict(finished, trained, 1.0, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        ids = {row["sample_id"] for row in csv.DictReader(file)}
    labeled = {o.sample_id for o in finished.ledger.outcomes() if o.verdict == "label"}
    assert ids == images.keys() - labeled - broken(images) and found.count == len(ids)
    assert {image.id for image in found.unreadable} == broken(images)
    assert judge(trained).accuracy.of == accuracy(finished).labels


def test_labels_of_others_are_taken_by_id(finished, tars, tmp_path):
    _, images, _ = tars
    (tmp_path / "l.csv").write_text("sample_id,label\ns9/none,3\n")
    with pytest.raises(CampaignError, match="images that the campaign does not have: 's9/none'"):
        import_labels(finished, tmp_path / "l.csv", "others")
    assert originals_of(finished).known(["s9/none", *images]) == images.keys()


KILLED = """
import os, signal, sys
from pathlib import Path
from mcdal.campaign import commands
from mcdal.passes import here
from mcdal.store import Store
from mcdal.campaign.trainer import train

real, seen = Store.begin_round, []
def begin_round(self, run_id, round, *rest):
    if round == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, run_id, round, *rest)
Store.begin_round = begin_round
train(Path(sys.argv[1]), "cpu")
"""


def test_a_trainer_that_is_killed_picks_the_same(tars, finished, tmp_path):
    """At the end of its pass over the shards."""
    root, _, truth = tars
    begin(tmp_path / "c", root, **MUCH)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "c")], capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert list((tmp_path / "c/runs").rglob("*.safetensors"))
        assert train(tmp_path / "c", "cpu") == "asks"
        assert asked(campaign) == asked(finished)
