"""What people see, and what comes out, where images in shards or files cannot be read as they were listed."""

import shutil

import pytest

from mcdal.campaign.definition import opened
from mcdal.campaign.export import export
from mcdal.campaign.importing import import_labels
from mcdal.campaign.originals import originals_of
from mcdal.campaign.serve import last_words
from mcdal.campaign.sweep import sweep
from mcdal.campaign.trainer import train
from mcdal.campaign.web import Beside, make_app
from mcdal.errors import MissingError, PoolError
from mcdal.pool.streaming.storage import Storage
from tests.campaign.conftest import begin
from tests.campaign.test_campaign import answer_all
from tests.campaign.test_shards_changed import EACH, SMALL, digits
from tests.campaign.test_web import came_in
from tests.pool import layouts

__all__ = ["digits"]


def ann(campaign, name="Ann"):
    return came_in(make_app(campaign, Beside(), ["testserver"]), campaign, name)


def of(client, *ids):
    items = {item["id"]: item for item in client.post("/api/next", json={"count": 48}).json()["items"]}
    return [items.get(id) for id in ids]


def test_files_that_go_or_change_while_people_work(digits, tmp_path):
    """As in a folder that is copied: one that has gone is asked about no more, one that changed is shown as it is."""
    images, truth = {}, {}
    for i in range(3 * EACH):
        id = f"{'ab'[i % 2]}/{i:03d}.png"
        (tmp_path / "photos" / id).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / id).write_bytes(digits[0][i])
        images[id], truth[id] = digits[0][i], digits[1][i]
    begin(tmp_path / "c", tmp_path / "photos", **SMALL, kind="files")
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        gone, other, late = campaign.ledger.open()[:3]
        before = originals_of(campaign).version(other)
        (tmp_path / "photos" / gone).rename(tmp_path / "kept.png")
        (tmp_path / "photos" / other).write_bytes(other_image := layouts.encoded(digits_of(images[other])))
        client = ann(campaign)
        away, shown = of(client, gone, other)
        assert away is None and client.get(shown["image"]).content == other_image != images[other]
        assert originals_of(campaign).version(other) != before
        assert sweep(campaign) == "" and gone not in campaign.ledger.open() and other in campaign.ledger.open()
        (tmp_path / "kept.png").rename(tmp_path / "photos" / gone)
        assert sweep(campaign) == "" and gone in campaign.ledger.open()
        answer_all(campaign, truth)
        (tmp_path / "photos" / late).unlink()
        assert list(originals_of(campaign).each([gone, late])) == [images[gone], None]
        assert export(campaign, "csv", tmp_path / "l.csv").gone == (late,)
        shutil.move(tmp_path / "photos", tmp_path / "away")
        assert not originals_of(campaign).can_be_read(gone)


def digits_of(content):
    """The picture upside down."""
    import io

    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))[::-1].copy()


@pytest.fixture(scope="module")
def begun(digits, tmp_path_factory):
    """On one Parquet file whose image 5 has no bytes."""
    root = tmp_path_factory.mktemp("nulls")
    images = [None if i == 5 else digits[0][i] for i in range(2 * EACH)]
    layouts.write_parquet(root / "s0.parquet", images, {})
    begin(root.with_name("nulls campaign"), root, **SMALL)
    train(root.with_name("nulls campaign"), "cpu")
    return root, root.with_name("nulls campaign")


@pytest.mark.sqlite
def test_a_labeled_image_without_bytes_stops_no_export(begun, digits, tmp_path):
    shutil.copytree(begun[1], tmp_path / "c")
    with opened(tmp_path / "c") as campaign:
        answer_all(campaign, {f"s0:{i}": digits[1][i] for i in range(2 * EACH)})
        (tmp_path / "l.csv").write_text("sample_id,label\ns0:5,3\n")
        assert import_labels(campaign, tmp_path / "l.csv", "others") == 1
        assert export(campaign, "csv", tmp_path / "out.csv").gone == ("s0:5",)


@pytest.mark.sqlite
def test_annotators_are_told_no_path_of_the_server(begun, tmp_path):
    root, _ = begun
    shutil.copytree(begun[1], tmp_path / "c")
    with opened(tmp_path / "c") as campaign:
        client = ann(campaign)
        item = client.post("/api/next", json={"count": 1}).json()["items"][0]
        (root / "s0.parquet").rename(tmp_path / "s0.parquet")
        try:
            later = ann(campaign, "Bob")  # of a server that has just begun
            shown = later.get(item["image"])
            assert (
                shown.status_code == 404 and shown.json()["message"] == f"The image {item['id']!r} cannot be shown now."
            )
            assert str(root) not in later.post("/api/next", json={"count": 2}).text
        finally:
            (tmp_path / "s0.parquet").rename(root / "s0.parquet")


@pytest.mark.sqlite
def test_a_page_lists_nothing_inside_a_request(begun, tmp_path):
    shutil.copytree(begun[1], tmp_path / "c")
    with opened(tmp_path / "c") as campaign:
        shutil.rmtree(tmp_path / "c" / "cache")
        client = ann(campaign)
        assert client.post("/api/next", json={"count": 2}).status_code == 503
        with pytest.raises(PoolError, match="are being listed"):
            originals_of(campaign, lists=False).count()
        assert sweep(campaign) == ""  # what looks after the images beside the page lists them
        assert len(client.post("/api/next", json={"count": 2}).json()["items"]) == 2
        (manifest,) = (tmp_path / "c" / "cache").glob("index-*/shards.parquet")
        manifest.unlink()  # whoever works goes on with what the server knows
        assert len(client.post("/api/next", json={"count": 2}).json()["items"]) == 2


def test_the_page_says_which_shard_has_changed(tmp_path):
    log = tmp_path / "trainer.log"
    log.write_text("error: of an earlier trainer\n")
    since = log.stat().st_size
    with log.open("a") as file:
        file.write(
            "listing shards\nerror: /pool: 1 shards are not as they were\n  s0.parquet has changed\nput them back\n\n"
        )
    assert last_words(log) == "/pool: 1 shards are not as they were; s0.parquet has changed; put them back."
    log.write_text("error: of an earlier trainer\nTraceback\nZeroDivisionError\n")
    assert last_words(log, since) == "ZeroDivisionError."
    assert last_words(log, log.stat().st_size) == "it said nothing."


def test_a_server_that_is_down_is_not_a_shard_that_has_gone(tmp_path):
    pytest.importorskip("aiohttp")
    import functools
    import http.server
    import threading

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        there = Storage(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MissingError, match=r"s0.tar does not exist"):
            there.now("s0.tar")
        server.shutdown()
        thread.join()
    with pytest.raises(PoolError, match=r"s0.tar cannot be read: .*127.0.0.1") as raised:
        there.now("s0.tar")
    assert not isinstance(raised.value, MissingError)
