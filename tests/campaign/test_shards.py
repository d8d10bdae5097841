"""A campaign on images that lie in shards, on a disk or in a bucket: from its beginning to what comes out, over HTTP."""

import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet
import pytest
import torch
from sqlalchemy import select

from mcdal.campaign.beginning import Asked, stock_of
from mcdal.campaign.definition import opened
from mcdal.campaign.export import export
from mcdal.campaign.importing import import_labels
from mcdal.campaign.judging import judge
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
from mcdal.campaign_tables import answers
from mcdal.errors import CampaignError, ConfigError, McdalError, PoolError
from mcdal.pool.digits import Digits
from mcdal.store import Store
from tests.campaign.annotators import Annotator, Server, everybody_is_done
from tests.campaign.conftest import begin
from tests.campaign.test_campaign import ENCODER, answer_all
from tests.campaign.test_kill import NAMES, kill_now_and_then, link_for, work_under
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
    images |= dict.fromkeys(range(7, SHARDS * EACH, 30), b"no image")
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
        layouts.write_parquet(
            root / f"s{shard}.parquet", [images[i] for i in some], {"label": [9 - truth[i] for i in some]}
        )
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
    arms = {
        arm: {o.sample_id for o in ledger.outcomes([arm])} for arm in ("start", "strategy", "control", "easy", "audit")
    }
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
    assert (
        pool.targets is None and pool.sharded is not None and pool.sharded.pool(pool.sharded.shards[0]).targets is None
    )
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
    copies = list((tmp_path / "folders").rglob("*.png"))
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


@pytest.mark.slow
def test_a_trainer_that_is_killed_picks_the_same(tars, finished, tmp_path):
    """At the end of its pass over the shards."""
    root, _, truth = tars
    begin(tmp_path / "c", root, **MUCH)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "c")], capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},  # the same sums as here
        )  # fmt: skip
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert list((tmp_path / "c/runs").rglob("*.safetensors"))
        assert train(tmp_path / "c", "cpu") == "asks"
        assert asked(campaign) == asked(finished)


def test_an_encoder_on_parquet_and_a_shard_that_comes(digits, tmp_path):
    root, images, truth = parquet(tmp_path / "pool", digits, [0, 1])
    (tmp_path / "flat.py").write_text(ENCODER)
    begin(tmp_path / "c", root, **SMALL, encoder=f"{tmp_path / 'flat.py'}:Flat", scale="full")
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        people, before = team(campaign), originals_of(campaign)
        answer_over_http(people, images, truth)
        assert before.count() == 2 * EACH and not before.is_there("s2:5")
        parquet(root, digits, [2])
        assert train(tmp_path / "c", "cpu") == "asks"
        assert before.count() == 3 * EACH and before.is_there("s2:5")
        answer_over_http(people, images, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        known = {o.sample_id for o in campaign.ledger.outcomes()}
        assert campaign.ledger.progress(arms=PICKED).labels == 20 and not known & broken(images)
        audit = originals_of(campaign).audit()
        assert len(audit) > 10 and audit == before.in_audit(list(images))
        export(campaign, "folders", tmp_path / "out", device="cpu")
    copies = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert copies == {f"{id.replace(':', '_')}.png": images[id] for id in known}


def test_shards_that_change_or_go_are_refused_until_somebody_says_so(digits, tmp_path):
    root, images, truth = parquet(tmp_path / "pool", digits)
    begin(tmp_path / "c", root, **{**SMALL, "budget": 12})
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        shown = Pictures.of(campaign)
        there = campaign.ledger.open()
        (first,) = [id for id in there if id.startswith("s0:")][:1]
        table = pyarrow.parquet.read_table(shutil.move(root / "s0.parquet", tmp_path / "s0.parquet"))
        pyarrow.parquet.write_table(table.take([*range(1, EACH), 0]), root / "s0.parquet")
        with pytest.raises(PoolError, match=r"s0.parquet has changed since it was listed.*`mcdal campaign relist`"):
            shown.show(first, "image")
        assert not shown.is_there(first) and originals_of(campaign).is_there(first)
        assert shown.is_there(next(id for id in there if not id.startswith("s0:")))  # others go on
        with pytest.raises(
            McdalError, match=r"(?s)1 shards are not as they were.*s0.parquet has changed.*campaign relist`"
        ):
            answer_all(campaign, truth)
            train(tmp_path / "c", "cpu")
        with pytest.raises(CampaignError, match=r"s0.parquet has changed, and people were asked about its images"):
            relist(campaign)
        shutil.move(tmp_path / "s0.parquet", root / "s0.parquet")
        assert Pictures.of(campaign).show(first, "image").content == images[first]
        (root / "s2.parquet").unlink()
        with pytest.raises(McdalError, match=r"(?s)1 shards are not.*s2.parquet is missing"):
            train(tmp_path / "c", "cpu")
        assert relist(campaign).changes == ("s2.parquet is missing",)
        assert train(tmp_path / "c", "cpu") == "finished"


def test_a_shard_that_has_gone_is_asked_about_no_more(tars, tmp_path):
    root, truth = shutil.copytree(tars[0], tmp_path / "tars"), tars[2]
    begin(tmp_path / "c", root, **{**SMALL, "budget": 12})
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        (root / "s2.tar").rename(tmp_path / "s2.tar")
        waiting = campaign.ledger.open()
        gone = [id for id in waiting if id.startswith("s2/")]
        assert sweep(campaign) == "" and len(gone) > 3  # by the index they are there
        assert not any(map(Pictures.of(campaign).is_there, gone))
        with pytest.raises(PoolError, match=r"s2.tar has gone since it was listed"):
            Pictures.of(campaign).show(gone[0], "image")
        found = relist(campaign)
        assert found.changes == ("s2.tar is missing",) and found.images == (120, 80)
        assert found.withdrawn == len(gone) and sweep(campaign) == ""
        assert set(campaign.ledger.open()) == set(waiting) - set(gone)
        (tmp_path / "s2.tar").rename(root / "s2.tar")
        assert relist(campaign).images == (80, 120) and sweep(campaign) == ""
        assert set(campaign.ledger.open()) == set(waiting)
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"


def test_files_of_a_folder_that_are_not_copied(digits, tmp_path):
    """One goes, one comes, and a class is added."""
    images, truth = {}, {}
    for i, content in digits[0].items():
        id = f"{'ab'[i % 2]}/{i:03d}.png"
        (tmp_path / "photos" / id).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / id).write_bytes(content)
        images[id], truth[id] = content, digits[1][i]
    begin(tmp_path / "c", tmp_path / "photos", **SMALL, kind="files")
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        gone = campaign.ledger.open()[0]
        answer_all(campaign, truth)
        (tmp_path / "photos" / gone).rename(tmp_path / "kept.png")
        (tmp_path / "photos/a/new.png").write_bytes(images["a/000.png"])
        campaign.ledger.add_classes(["eleven"])
        assert train(tmp_path / "c", "cpu") == "asks"
        assert campaign.ledger.progress(arms=("rare",)).asked == 2
        assert originals_of(campaign).is_there("a/new.png") and not originals_of(campaign).is_there(gone)
        answer_all(campaign, {**truth, "a/new.png": 10})
        assert train(tmp_path / "c", "cpu") == "finished"
        assert export(campaign, "cvat", tmp_path / "cvat.xml").gone == (gone,)
    assert not list((tmp_path / "c/cache").rglob("*.png"))


def test_a_lance_table(digits, tmp_path):
    lance = pytest.importorskip("lance")
    images = list(digits[0].values())
    rows = {"key": [f"k{i}" for i in range(len(images))], "photo": images, "label": digits[1]}
    lance.write_dataset(pyarrow.table(rows), str(tmp_path / "pool.lance"), max_rows_per_file=EACH)
    begin(tmp_path / "c", tmp_path / "pool.lance", **SMALL, image_column="photo", id_column="key")
    with opened(tmp_path / "c") as campaign:
        assert train(tmp_path / "c", "cpu") == "asks" and campaign.campaign.kind == "lance"
        asked, shown = campaign.ledger.open(), Pictures.of(campaign)
        assert all(shown.show(id, "image").content == images[int(id[1:])] for id in asked)
        assert not {f"k{i}" for i, content in digits[0].items() if content == b"no image"}.intersection(asked)


def test_files_of_a_folder_are_listed_by_every_round(photos, tmp_path):
    begin(tmp_path / "c", photos[0])
    with opened(tmp_path / "c") as campaign, pytest.raises(CampaignError, match="there is nothing to list"):
        relist(campaign)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"kind": "zip"}, CampaignError, "--kind zip: there are auto, parquet, tar"),
        (
            {"classes": ""},
            CampaignError,
            "0 class given: two are the least .*labels that lie beside images are not read",
        ),
        ({"fan_out": True, "near": 0.97}, ConfigError, "leave --fan-out out"),
        ({"budget": 500}, CampaignError, "has 120 images; 10 of them are for the audit, which leaves 110"),
        ({"audit": 200.0}, CampaignError, "leaves 0 for a budget"),
        ({"kind": "parquet"}, PoolError, "no shard found"),
        ({"image_column": "jpg"}, PoolError, "member ending in .jpg"),
        ({"id_column": "key"}, PoolError, "has no columns"),
    ],
)
def test_what_cannot_be_begun_on_shards(tars, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        begin(tmp_path / "c", tars[0], **{**SMALL, **changes})
    assert not (tmp_path / "c" / "mcdal.db").exists()


def test_which_images_are_read_where_they_lie(tars, digits, photos, tmp_path):
    assert stock_of(Asked(str(photos[0])), tmp_path / "c").kind is None
    assert stock_of(Asked(str(photos[0]), "auto"), tmp_path / "c").kind == "files"
    assert stock_of(Asked(str(tars[0])), tmp_path / "c").kind == "tar"
    one = stock_of(Asked(str(tars[0] / "s1.tar")), tmp_path / "c")
    assert len(one) == EACH and one.kind == "tar"
    bound = one.audit_bound(0, 7)
    assert len(stock_of(Asked(str(tars[0])), tmp_path / "c").ids) == 3 * EACH and 0 < bound < 1
    both = shutil.copytree(tars[0], tmp_path / "both")
    parquet(both, digits, [0])
    with pytest.raises(PoolError, match="--kind parquet or tar"):
        stock_of(Asked(str(both)), tmp_path / "c")
    assert stock_of(Asked(str(both), "parquet"), tmp_path / "c").kind == "parquet"
    (both / "x.png").write_bytes(digits[0][0])  # image files beside tables: a folder of images, as ever
    assert stock_of(Asked(str(both)), tmp_path / "c").kind is None
    with pytest.raises(CampaignError, match="are for shards"):
        stock_of(Asked(str(both), id_column="key"), tmp_path / "c")
    for where in (str(tars[0]), f"file://{tars[0]}"):
        with pytest.raises(CampaignError, match="lies within"):
            stock_of(Asked(where), tars[0] / "c")


@pytest.fixture
def bucket(monkeypatch):
    """With credentials in the environment; nothing of these may be kept."""
    s3fs, moto = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "verysecret"), ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.slow
# Clients leave sockets to their own threads, and warn of what others do.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"
)
def test_a_campaign_in_a_bucket(bucket, tars, tmp_path, monkeypatch):
    root, images, truth = tars
    url = f"s3://bucket/{root.name}"
    bucket.put(str(root), "bucket/", recursive=True)
    with pytest.raises(PoolError, match="no shard found"):
        begin(tmp_path / "none", "s3://bucket/nothing", **SMALL, kind="tar")
    with pytest.raises(PoolError, match=r"s3://bucket/nothing does not exist.*--images"):
        begin(tmp_path / "none", "s3://bucket/nothing", **SMALL)
    begin(tmp_path / "c", url, **{**SMALL, "budget": 12})
    with opened(tmp_path / "c") as campaign:
        assert campaign.campaign.images == url and campaign.campaign.files is None
        train(tmp_path / "c", "cpu")
        answer_over_http(team(campaign), images, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        export(campaign, "csv", tmp_path / "l.csv")
        assert len((tmp_path / "l.csv").read_text().splitlines()) == 1 + len(campaign.ledger.outcomes())
    kept = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"verysecret" in path.read_bytes()]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    bucket.clear_instance_cache()
    with pytest.raises(PoolError, match=r"s3://bucket/tars.* read.*redentials"):
        begin(tmp_path / "d", url, **SMALL)


@pytest.mark.slow
def test_server_and_trainer_are_killed_while_people_work(tars, tmp_path):
    """As on a folder: nothing that was acknowledged is lost or doubled."""
    root, _, truth = tars
    begin(tmp_path / "c", root, **{**SMALL, "budget": 40, "start": 20, "batch": 10, "audit": 15.0, "control": 0.2})
    server = Server(tmp_path / "c")
    server.start()
    try:
        people = [Annotator(server, link_for(server, i), name, truth, 10, 0.05, 0.1, i) for i, name in enumerate(NAMES)]
        work_under(people, lambda: kill_now_and_then(server))
    finally:
        server.stop()
    with opened(tmp_path / "c") as campaign:
        outcomes = {o.sample_id for o in campaign.ledger.outcomes() if o.verdict == "label"}
        everybody_is_done(campaign, 40)
        assert status(campaign)["state"] == "finished"
        with campaign.database.read() as connection:
            kept = {row.key: row.sample_id for row in connection.execute(select(answers))}
    acknowledged = {key: said[0] for person in people for key, said in person.acknowledged.items()}
    assert {key: kept[key] for key in acknowledged} == acknowledged and outcomes <= set(kept.values())
