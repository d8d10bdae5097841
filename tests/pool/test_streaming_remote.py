"""Pools in a bucket and behind a web server: real servers on this machine."""

import functools
import http.server
import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import layouts
import numpy as np
import pyarrow
import pytest
import torch
from typer.testing import CliRunner

from mcdal.cli import app
from mcdal.errors import PoolError
from mcdal.pool.base import Pool
from mcdal.pool.streaming.source import Shards

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")
CPU = torch.device("cpu")
# Clients leave sockets to their own threads, and warn of what others do.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "verysecret"),
        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def noise(number: int) -> bytes:
    return layouts.encoded(layouts.noise(number, 8, 8, 3))


def parquet(folder: Path, shards: int = 3, each: int = 10) -> Path:
    for s in range(shards):
        labels: dict[str, list[object]] = {"label": [i % 2 for i in range(each)]}
        layouts.write_parquet(folder / f"s{s}.parquet", [noise(s * each + i) for i in range(each)], labels)
    return folder


def tar_of(path: Path, count: int) -> None:
    members = {
        f"{i}.{end}": noise(i) if end == "png" else b"%d" % (i % 2) for i in range(count) for end in ("png", "cls")
    }
    layouts.write_tar(path, members)


def reopen(cache: Path, data: str = "s3://bucket/train", **fields: object) -> Pool:
    return Shards(data, **fields).open(cache)


def everything(pool: Pool) -> dict[str, bytes]:
    """Every image of the pool, read shard by shard."""
    found = {}
    for shard in pool.sharded.shards:  # type: ignore[union-attr]
        images = pool.sharded.pool(shard).images  # type: ignore[union-attr]
        parts = [np.arange(i, min(i + 4, shard.size)) for i in range(0, shard.size, 4)]
        pixels = torch.cat(list(images.batches(parts, CPU))).numpy()
        found |= {id: image.tobytes() for id, image in zip(images.ids, pixels, strict=True)}
    return found


def at_random(pool: Pool) -> dict[str, bytes]:
    order = np.random.default_rng(0).permutation(len(pool))
    pixels = torch.cat(list(pool.images.batches(np.array_split(order, 5), CPU))).numpy()
    return {pool.images.ids[i]: image.tobytes() for i, image in zip(order, pixels, strict=True)}


def test_parquet_in_a_bucket(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    local = parquet(tmp_path / "train")
    bucket.put(str(local), "bucket/", recursive=True)
    pool = reopen(tmp_path / "cache")
    here = Shards(str(local)).open(tmp_path / "cache")
    assert pool.images.ids == here.images.ids and pool.fingerprint == here.fingerprint
    assert everything(pool) == everything(here) == at_random(pool)
    bucket.rm("bucket/train/s1.parquet")
    bucket.put(str(parquet(tmp_path / "other", shards=1, each=12) / "s0.parquet"), "bucket/train/s0.parquet")
    with pytest.raises(PoolError, match=r"(?s)2 shards.*s0.parquet has changed.*s1.parquet is missing"):
        reopen(tmp_path / "cache")
    with pytest.raises(PoolError, match=r"s3://bucket/train/s0.parquet has changed"):
        pool.sharded.pool(pool.sharded.shards[0])  # type: ignore[union-attr]


def test_a_shard_that_is_overwritten_by_others_is_noticed(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    bucket.put(str(parquet(tmp_path / "train")), "bucket/", recursive=True)
    pool = reopen(tmp_path / "cache")
    others = s3fs.S3FileSystem(skip_instance_cache=True)
    others.pipe_file("bucket/train/s0.parquet", others.cat_file("bucket/train/s1.parquet"))
    with pytest.raises(PoolError, match=r"s3://bucket/train/s0.parquet has changed"):
        pool.sharded.pool(pool.sharded.shards[0])  # type: ignore[union-attr]


def test_images_are_asked_for_once(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    bucket.put(str(parquet(tmp_path / "train")), "bucket/", recursive=True)
    pool = reopen(tmp_path / "cache")
    before = at_random(pool)
    bucket.rm("bucket/train", recursive=True)
    assert at_random(pool) == before
    with pytest.raises(PoolError, match=r"s3://bucket/train/s0.parquet"):
        everything(pool)


KILLED = """
import signal
import subprocess
import sys
from mcdal.pool.streaming.source import Shards
from pathlib import Path
Shards('s3://bucket/train', scanners=2).open(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_scan_of_a_bucket_goes_on_where_it_was(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    content = (parquet(tmp_path / "train", shards=1) / "s0.parquet").read_bytes()
    for s in range(80):
        bucket.pipe_file(f"bucket/train/s{s:02d}.parquet", content)
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(cache)])
    while len(list(cache.glob("index-*/shards/*.parquet"))) < 10:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    times = {path: path.stat().st_mtime_ns for path in cache.glob("index-*/shards/*.parquet")}
    assert 10 <= len(times) < 80
    pool = reopen(cache)
    assert len(pool) + len(pool.test) == 800 and {path: path.stat().st_mtime_ns for path in times} == times


def test_an_index_in_the_bucket(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    bucket.put(str(parquet(tmp_path / "train")), "bucket/", recursive=True)
    pool = reopen(tmp_path / "cache", index="s3://bucket/index")
    before = everything(pool)
    assert bucket.glob("bucket/index/*/shards.parquet") and not list((tmp_path / "cache").glob("index-*"))
    assert everything(reopen(tmp_path / "elsewhere", index="s3://bucket/index")) == before


def test_files_and_tars_in_a_bucket(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    folders = layouts.class_folders(tmp_path / "files")
    bucket.put(str(folders), "bucket/", recursive=True)
    pool = reopen(tmp_path / "cache", "s3://bucket/files", files_per_shard=4)
    here = Shards(str(folders), files_per_shard=4).open(tmp_path / "cache")
    assert pool.classes == ("cat", "dog") and len(pool.sharded.shards) == 3  # type: ignore[union-attr]
    assert pool.images.ids == here.images.ids
    assert everything(pool) == everything(here) == at_random(pool)
    tar_of(tmp_path / "tars/a-0.tar", 8)
    bucket.put(str(tmp_path / "tars"), "bucket/", recursive=True)
    pool = reopen(tmp_path / "cache", "s3://bucket/tars/a-0.tar")
    assert everything(pool) == everything(Shards(str(tmp_path / "tars")).open(tmp_path / "cache")) == at_random(pool)


def test_what_is_not_there_is_named_and_no_secret_is_told(
    tmp_path: Path, bucket: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PoolError, match=r"s3://bucket/nowhere: no shard found|s3://bucket/nowhere does not exist"):
        reopen(tmp_path / "cache", "s3://bucket/nowhere", kind="parquet")
    with pytest.raises(PoolError, match=r"s3://elsewhere/x") as caught:
        reopen(tmp_path / "cache", "s3://elsewhere/x", kind="parquet")
    assert "secret" not in str(caught.value)
    with pytest.raises(PoolError, match="credentials in the environment") as caught:
        reopen(tmp_path / "cache", "https://me:verysecret@host/x")
    assert "verysecret" not in str(caught.value)
    with pytest.raises(PoolError, match="credentials in the environment"):
        reopen(tmp_path / "cache", "https://host/x.parquet?sig=verysecret")
    with pytest.raises(PoolError, match="nonsense:// is no protocol"):
        reopen(tmp_path / "cache", "nonsense://x")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(PoolError, match=r"gs://bucket/x needs gcsfs: pip install 'mcdal\[gcs\]'"):
        reopen(tmp_path / "cache", "gs://bucket/x")


def test_a_lance_table_in_a_bucket(tmp_path: Path, bucket: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    lance = pytest.importorskip("lance")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    rows = {
        "key": [f"k{i}" for i in range(20)],
        "image": [noise(i) for i in range(20)],
        "label": [i % 2 for i in range(20)],
    }
    lance.write_dataset(pyarrow.table(rows), "s3://bucket/pool.lance", max_rows_per_file=8)
    pool = reopen(tmp_path / "cache", "s3://bucket/pool.lance", id_column="key")
    assert len(pool.sharded.shards) == 3 and everything(pool) == at_random(pool)  # type: ignore[union-attr]


@pytest.mark.slow
def test_mcdal_run_shards_from_a_bucket(tmp_path: Path, bucket: s3fs.S3FileSystem) -> None:
    bucket.put(str(parquet(tmp_path / "train", each=20)), "bucket/", recursive=True)
    quick = {
        "source.size": "8", "model.width": "4", "training.epochs": "1", "training.steps_per_epoch": "4",
        "training.batch_size": "8", "protocol.start": "10", "protocol.budget": "5", "protocol.rounds": "2",
    }  # fmt: skip
    words = [
        "run",
        "shards",
        "--data",
        "s3://bucket/train",
        "--scale",
        "small",
        "--out",
        str(tmp_path / "runs"),
        "--json",
    ]
    ran = CliRunner().invoke(app, [*words, *(word for item in quick.items() for word in ("--set", "=".join(item)))])
    assert ran.exit_code == 0 and '"labels": 15' in ran.output, ran.output
    assert "verysecret" not in ran.output
    assert not [
        path for path in (tmp_path / "runs").rglob("*") if path.is_file() and b"verysecret" in path.read_bytes()
    ]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's own server, with the range requests that it lacks."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if "Range" not in self.headers or not path.is_file():
            return super().send_head()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        content = path.read_bytes()
        end = min(int(last or len(content) - 1), len(content) - 1)
        part = content[int(first) : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        return io.BytesIO(part)

    def end_headers(self):
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Ranges, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_shards_behind_a_web_server(tmp_path: Path, web: str) -> None:
    pytest.importorskip("aiohttp")
    local = parquet(tmp_path / "train")
    here = everything(Shards(str(local)).open(tmp_path / "cache"))
    pool = reopen(tmp_path / "cache", f"{web}/train")
    assert everything(pool) == here == at_random(pool)
    listed = Shards([f"{web}/train/s0.parquet", f"{web}/train/s2.parquet"], test_share=0.0).open(tmp_path / "cache")
    assert len(listed) == 20 and everything(listed).keys() == at_random(listed).keys()
    tar_of(tmp_path / "tars/a-0.tar", 8)
    tars = reopen(tmp_path / "cache", f"{web}/tars")
    assert everything(tars) == at_random(tars)
    with pytest.raises(PoolError, match=r"/nowhere"):
        reopen(tmp_path / "cache", f"{web}/nowhere")
