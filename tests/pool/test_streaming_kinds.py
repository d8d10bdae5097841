"""Tars, and files by themselves: what their shards are, what is read of them, what is refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.pool.base import Pool
from mcdal.pool.streaming.source import Shards

CPU = torch.device("cpu")


def noise(number: int) -> bytes:
    return layouts.encoded(layouts.noise(number, 8, 8, 3))


def reopen(data: Path, **fields: object) -> Pool:
    return Shards(str(data), **fields).open(data.parent / "cache")


def everything(pool: Pool) -> dict[str, np.ndarray]:
    found = {}
    for shard in pool.sharded.shards:  # type: ignore[union-attr]
        images = pool.sharded.pool(shard).images  # type: ignore[union-attr]
        parts = [np.arange(i, min(i + 4, shard.size)) for i in range(0, shard.size, 4)]
        found |= dict(zip(images.ids, torch.cat(list(images.batches(parts, CPU))).numpy(), strict=True))
    pixels = torch.cat(list(pool.images.batches([np.arange(len(pool))[::-1].copy()], CPU))).numpy()[::-1]
    for id, image in zip(pool.images.ids, pixels, strict=True):
        assert np.array_equal(image, found[id])
    return found


def test_tars_in_folders_with_labels_of_both_kinds(tmp_path: Path) -> None:
    members = {}
    for i in range(5):
        members |= {
            f"x/{i}.jpg.png": noise(i),
            f"x/{i}.seg.png": noise(99),
            f"x/{i}.json": json.dumps({"kind": "ab"[i % 2]}).encode(),
        }
    layouts.write_tar(tmp_path / "d/train/a-0.tar", members)
    layouts.write_tar(tmp_path / "d/test/a-0.tar", members)
    pool = reopen(tmp_path / "d", label_column="kind", image_column="jpg.png")
    assert pool.images.ids == tuple(f"train/a-0/x/{i}" for i in range(5)) and pool.classes == ("a", "b")
    assert pool.test.images.ids[0] == "test/a-0/x/0" and pool.targets.tolist() == [0, 1, 0, 1, 0]  # type: ignore[union-attr]
    for i, image in enumerate(everything(pool).values()):
        assert np.array_equal(image, layouts.noise(i, 8, 8, 3).transpose(2, 0, 1))
    plain = layouts.write_tar(
        tmp_path / "e/a.tar", {"0.png": noise(0), "0.cls": b"cat\n", "1.png": noise(1), "1.cls": b"dog"}
    )
    assert reopen(plain, test_share=0.0).classes == ("cat", "dog")
    bare = layouts.write_tar(tmp_path / "f/a.tar", {"0.png": noise(0), "1.png": noise(1)})
    assert reopen(bare, classes=["p", "q"]).targets is None


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"0.png": b"", "0.jpg": b""}, "the sample '0' has 2 images among .png, .jpg"),
        ({"0.json": b"{}"}, "the sample '0' has 0 images among .json"),
        ({"0.png": b"", "1.png": b"", "0.cls": b"1"}, "the sample '0' comes twice"),
        ({"0.png": b"", "0.cls": b"1", "1.png": b""}, "a/1 has no label, but others in a.tar have"),
        ({"0.png": b"", "0.cls": b"1", "1.png": b"", "1.cls": b"x"}, "all alike; here are int, str"),
        ({"0.png": b"", "0.json": b"{"}, "the JSON of '0' cannot be read"),
    ],
)
def test_tars_that_do_not_fit_are_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    with pytest.raises(PoolError, match=said):
        reopen(layouts.write_tar(tmp_path / "d/a.tar", members).parent)


def test_damaged_tars_are_refused(tmp_path: Path) -> None:
    path = layouts.write_tar(tmp_path / "d/a.tar", {f"{i}.png": noise(i) for i in range(4)})
    whole = path.read_bytes()
    for length in (700, 1024, 1300, 2048):
        path.write_bytes(whole[:length])
        with pytest.raises(PoolError, match=r"a.tar is not a readable tar file"):
            reopen(path.parent, classes=["a", "b"])
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(PoolError, match=r"a.tar is not a readable tar file"):
        reopen(path.parent, classes=["a", "b"])
    (path.parent / "b.parquet").write_bytes(b"")
    with pytest.raises(PoolError, match=r"has Parquet files and tars"):
        reopen(path.parent)


def test_files_are_put_into_shards(tmp_path: Path) -> None:
    data = layouts.class_folders(tmp_path / "d/train", ("ant", "bee", "cat"), each=10)
    layouts.class_folders(tmp_path / "d/test", ("ant", "cat"), each=3)
    pool = reopen(tmp_path / "d", files_per_shard=12)
    names = [shard.name for shard in pool.sharded.shards]  # type: ignore[union-attr]
    assert names == ["train/ant:0", "train/bee:2", "train/cat:4"] and pool.classes == ("ant", "bee", "cat")
    assert (len(pool), len(pool.test)) == (30, 6) and pool.images.ids[11] == "train/bee/001.png"
    found = everything(pool)
    assert np.array_equal(found["train/cat/007.png"], layouts.noise(2007, 8, 8, 3).transpose(2, 0, 1))
    (data / "ant/999.png").write_bytes(noise(1))
    with pytest.raises(PoolError, match=r"(?s)shards are not as they were.*train/ant:0 has changed"):
        reopen(tmp_path / "d", files_per_shard=12)
    (data / "bee/000.png").write_bytes(noise(1) + b"more")
    with pytest.raises(PoolError, match=r"bee/000.png has \d+ bytes, and had \d+ when it was listed"):
        everything(pool)


def test_files_of_one_folder_have_no_labels(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for i in range(5):
        (tmp_path / f"d/{i}.png").write_bytes(noise(i))
    (tmp_path / "d/readme.txt").write_text("no image")
    with pytest.raises(PoolError, match=r"no labels"):
        reopen(tmp_path / "d")
    pool = reopen(tmp_path / "d", classes=["a", "b"], files_per_shard=2)
    assert pool.targets is None and [s.size for s in pool.sharded.shards] == [2, 2, 1]  # type: ignore[union-attr]
    everything(pool)
    with pytest.raises(PoolError, match=r"id_column is 'key', but files has no columns"):
        reopen(tmp_path / "d", id_column="key")
    with pytest.raises(PoolError, match=r"the folder .*nowhere does not exist"):
        reopen(tmp_path / "nowhere")


KILLED = """
import sys
from mcdal.pool.streaming.source import Shards
from pathlib import Path
Shards(sys.argv[1], scanners=1).open(Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_search_through_folders_goes_on(tmp_path: Path) -> None:
    image = noise(0)
    for i in range(150):
        (tmp_path / f"d/c{i % 3}/f{i}").mkdir(parents=True)
        (tmp_path / f"d/c{i % 3}/f{i}/{i}.png").write_bytes(image)
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "d"), str(cache)])
    while len(list(cache.glob("index-*/folders/*.parquet"))) < 20:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    times = {path: path.stat().st_mtime_ns for path in cache.glob("index-*/folders/*.parquet")}
    assert 20 <= len(times) < 154
    pool = reopen(tmp_path / "d", test_share=0.0)
    assert len(pool) == 150 and {path: path.stat().st_mtime_ns for path in times} == times
