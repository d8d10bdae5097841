"""Pools that are read where they lie: index, streams, random access, changes and damage, on this disk."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.pool.base import Images, Pool
from mcdal.pool.conditions import Conditions
from mcdal.pool.streaming.images import StreamedImages
from mcdal.pool.streaming.source import Shards

CPU = torch.device("cpu")


def write(folder: Path, shards: int = 3, each: int = 10, rows: int = 4, **columns: list[object]) -> Path:
    """Shards of numbered noise, `rows` images a row group."""
    for s in range(shards):
        images = [layouts.encoded(layouts.noise(s * each + i, 8, 8, 3)) for i in range(each)]
        labels: dict[str, list[object]] = {"label": [i % 2 for i in range(each)], **columns}
        layouts.write_parquet(folder / f"s{s}.parquet", images, labels, rows=rows, compression="none")
    return folder


def reopen(data: Path, **fields: object) -> Pool:
    return Shards(str(data), **fields).open(data.parent / "cache")


def seen(images: Images, positions: np.ndarray, size: int = 7) -> np.ndarray:
    """(n, c, h, w), read in batches of `size`."""
    parts = [positions[i : i + size] for i in range(0, len(positions), size)]
    return torch.cat(list(images.batches(parts, CPU))).numpy()


def noise_of(id: str, each: int = 10) -> np.ndarray:
    shard, row = id.removeprefix("s").split(":")
    return layouts.noise(int(shard) * each + int(row), 8, 8, 3).transpose(2, 0, 1)


def test_whole_and_shards_are_the_same_images(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "data"), test_share=0.3)
    assert pool.sharded is not None and pool.targets is not None
    assert len(pool) + len(pool.test) == 30 and 3 <= len(pool.test) <= 16
    assert sum(shard.size for shard in pool.sharded.shards) == len(pool)
    in_shards, truth = [], pool.truth()
    for shard in pool.sharded.shards:
        part = pool.sharded.pool(shard)
        pixels = seen(part.images, np.arange(len(part)))
        assert len(part) == shard.size and part.targets is not None
        for id, image, target in zip(part.images.ids, pixels, part.targets, strict=True):
            assert np.array_equal(image, noise_of(id)) and truth[id] == target == int(id.split(":")[1]) % 2
        in_shards += part.images.ids
    assert in_shards == list(pool.images.ids)
    order = np.random.default_rng(0).permutation(len(pool))
    for position, image in zip(order, seen(pool.images, order), strict=True):
        assert np.array_equal(image, noise_of(pool.images.ids[position]))
    assert not set(pool.images.ids) & set(pool.test.images.ids)


def test_a_shard_is_read_in_any_order_too(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "data", shards=1, each=40, rows=7), test_share=0.0)
    assert pool.sharded is not None and len(pool.test) == 0
    images = pool.sharded.pool(pool.sharded.shards[0]).images
    whole = seen(images, np.arange(40))
    for positions in (
        np.arange(5, 40, 3),
        np.arange(39, -1, -1),
        np.array([3, 3, 4]),
        np.concatenate([np.arange(20, 40), np.arange(9)]),
    ):
        assert np.array_equal(seen(images, positions), whole[positions])
    assert np.array_equal(images.picture(11), whole[11].transpose(1, 2, 0))


def test_shards_travel_and_are_opened_without_the_index(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "data"))
    sharded, shard = pool.sharded, pool.sharded.shards[1]  # type: ignore[union-attr]
    before = seen(sharded.pool(shard).images, np.arange(shard.size))  # type: ignore[union-attr]
    there = pickle.loads(pickle.dumps(sharded.carrying([shard])))  # type: ignore[union-attr]
    (tmp_path / "cache").rename(tmp_path / "away")
    assert np.array_equal(seen(there.pool(shard).images, np.arange(shard.size)), before)
    assert not (tmp_path / "cache").exists()


def test_the_whole_travels_too(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "data"))
    order = np.random.default_rng(0).permutation(len(pool))
    before = seen(pool.images, order)
    there = pickle.loads(pickle.dumps(pool))
    assert there.images.ids == pool.images.ids and np.array_equal(seen(there.images, order), before)
    assert len(pickle.dumps(there.images)) < 5_000


def test_reading_ahead_is_bounded_and_ends_with_the_reader(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "data", shards=1, each=400, rows=50), test_share=0.0)
    images = pool.sharded.pool(pool.sharded.shards[0]).images  # type: ignore[union-attr]
    drawn = []

    def positions():
        for i in range(0, 400, 10):
            drawn.append(i)
            yield np.arange(i, i + 10)

    batches = images.batches(positions(), CPU)
    next(batches)
    time.sleep(0.3)
    assert 1 < len(drawn) < 10
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith(("read ahead", "decode"))]


def test_changes_are_named_and_listed_anew_only_when_asked(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    pool = reopen(data)
    assert reopen(data).fingerprint == pool.fingerprint
    write(tmp_path / "other", shards=1, each=12)
    (tmp_path / "other/s0.parquet").replace(data / "s0.parquet")
    (data / "s1.parquet").unlink()
    layouts.write_parquet(data / "s9.parquet", [layouts.encoded(layouts.noise(1, 8, 8, 3))] * 2, {"label": [0, 1]})
    with pytest.raises(
        PoolError, match=r"(?s)3 shards.*s0.parquet has changed.*s1.parquet is missing.*s9.parquet is new.*relist"
    ):
        reopen(data)
    with pytest.raises(PoolError, match=r"s0.parquet has changed since the pool was opened"):
        pool.sharded.pool(pool.sharded.shards[0])  # type: ignore[union-attr]
    new = reopen(data, relist=True)
    assert new.fingerprint != pool.fingerprint and len(new) + len(new.test) == 24
    assert reopen(data).fingerprint == new.fingerprint


def test_other_bytes_under_the_same_stamp_are_found(tmp_path: Path) -> None:
    data = write(tmp_path / "data", shards=1)
    pool = reopen(data, test_share=0.0)
    shard = pool.sharded.shards[0]  # type: ignore[union-attr]
    everything = np.arange(shard.size)
    seen(pool.sharded.pool(shard).images, everything)  # type: ignore[union-attr]
    path, stat = data / "s0.parquet", (data / "s0.parquet").stat()
    content = path.read_bytes()
    image = layouts.encoded(layouts.noise(5, 8, 8, 3))
    at = content.index(image)
    path.write_bytes(content[:at] + image[:-1] + b"x" + content[at + len(image) :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    images = reopen(data, test_share=0.0).sharded.pool(shard).images  # type: ignore[union-attr]
    with pytest.raises(PoolError, match=r"the shard s0.parquet holds other bytes"):
        seen(images, everything)


KILLED = """
import sys
from mcdal.pool.streaming.source import Shards
from pathlib import Path
Shards(sys.argv[1], scanners=1).open(Path(sys.argv[2]))
"""


def test_a_killed_scan_goes_on_where_it_was(tmp_path: Path) -> None:
    data = write(tmp_path / "data", shards=1, each=4)
    for i in range(1, 150):
        (data / f"s{i}.parquet").write_bytes((data / "s0.parquet").read_bytes())
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(data), str(cache)])
    while len(listed := list(cache.glob("index-*/shards/*.parquet"))) < 20:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    listed = list(cache.glob("index-*/shards/*.parquet"))
    assert 20 <= len(listed) < 150
    times = {path: path.stat().st_mtime_ns for path in listed}
    pool = reopen(data)
    assert len(pool) + len(pool.test) == 600
    assert {path: path.stat().st_mtime_ns for path in listed} == times
    assert len(list(cache.glob("index-*/shards/*.parquet"))) == 150


@pytest.mark.parametrize(("bad_images", "named"), [("quarantine", ["s1:3"]), ("convert", ["s1:3"])])
def test_bad_images_are_set_aside_while_streaming(tmp_path: Path, bad_images: str, named: list[str]) -> None:
    data = write(tmp_path / "data", shards=1)
    images: list[bytes | None] = [layouts.encoded(layouts.noise(10 + i, 8, 8, 3)) for i in range(10)]
    images[3] = b"no image"
    layouts.write_parquet(data / "s1.parquet", images, {"label": [i % 2 for i in range(10)]})
    pool = reopen(data, bad_images=bad_images, test_share=0.0)
    for _ in range(2):
        part = pool.sharded.pool(pool.sharded.shards[1])  # type: ignore[union-attr]
        assert isinstance(part.images, StreamedImages)
        pixels = seen(part.images, np.arange(10))
        assert [bad.id for bad in part.images.quarantined] == named
        assert not pixels[3].any() and np.array_equal(pixels[4], noise_of("s1:4"))
    assert [bad.id for bad in part.quarantine] == named and "not an image" in part.quarantine[0].reason
    assert [bad.id for bad in reopen(data, bad_images=bad_images, test_share=0.0).quarantine] == named
    assert not seen(pool.images, np.array([13])).any()
    refusing = reopen(data, test_share=0.0)
    with pytest.raises(PoolError, match=r"s1.parquet: s1:3: not an image.*quarantine"):
        seen(refusing.sharded.pool(refusing.sharded.shards[1]).images, np.arange(10))  # type: ignore[union-attr]
    with pytest.raises(PoolError, match=r"s1.parquet: s1:3: not an image"):
        seen(refusing.images, np.array([2, 13]))


def test_a_pool_without_labels(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    with pytest.raises(PoolError, match="there are no labels"):
        reopen(data, label_column="kind")
    pool = reopen(data, label_column=None, classes=["cat", "dog"])
    assert pool.targets is None and (len(pool), len(pool.test)) == (30, 0) and pool.classes == ("cat", "dog")
    assert pool.sharded.pool(pool.sharded.shards[0]).targets is None  # type: ignore[union-attr]
    images = [layouts.encoded(layouts.noise(i, 8, 8, 3)) for i in range(4)]
    layouts.write_parquet(data / "test-0.parquet", images, {"kind": ["dog", "cat", "dog", "cat"]})
    pool = reopen(tmp_path / "data", label_column="kind", relist=True)
    assert pool.targets is None and pool.test.y.tolist() == [1, 0, 1, 0] and pool.classes == ("cat", "dog")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    key: list[object] = [f"k{i}" for i in range(10)]
    with pytest.raises(PoolError, match=r"'k[0-9]' stands for two samples \(s0.parquet, s1.parquet\)"):
        reopen(write(tmp_path / "a", shards=2, key=key), id_column="key", test_share=0.0)
    write(tmp_path / "b", shards=2, key=key)
    (tmp_path / "b/s0.parquet").rename(tmp_path / "b/test.parquet")
    with pytest.raises(PoolError, match=r"'k[0-9]' is in the pool and in the test \(s1.parquet, test.parquet\)"):
        reopen(tmp_path / "b", id_column="key")
    with pytest.raises(PoolError, match="has the label 1, which is none of the"):
        reopen(write(tmp_path / "c"), classes=["cat"])
    with pytest.raises(PoolError, match="no column 'photo'; its columns are image, label"):
        reopen(write(tmp_path / "d"), image_column="photo")
    with pytest.raises(PoolError, match="the column 'label' is int64"):
        reopen(tmp_path / "d", image_column="label")
    with pytest.raises(PoolError, match="does not exist"):
        reopen(tmp_path / "nowhere")
    (tmp_path / "d/s0.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PoolError, match=r"s0.parquet is not a readable Parquet file"):
        reopen(tmp_path / "d")
    with pytest.raises(PoolError, match="images must have one shape"):
        layouts.write_parquet(
            tmp_path / "e/a.parquet",
            [layouts.encoded(layouts.noise(i, 8 + i, 8, 3)) for i in range(2)],
            {"label": [0, 1]},
        )
        reopen(tmp_path / "e", test_share=0.0)
    assert reopen(tmp_path / "e", test_share=0.0, size=6).shape == (3, (6, 6))


def test_the_held_out_share_stays_when_shards_come(tmp_path: Path) -> None:
    data = write(tmp_path / "data", each=100)
    before = set(reopen(data, test_share=0.25).test.images.ids)
    assert 40 < len(before) < 110
    write(tmp_path / "more", shards=4, each=100)
    (tmp_path / "more/s3.parquet").rename(data / "s3.parquet")
    after = reopen(data, test_share=0.25, relist=True)
    assert before == {id for id in after.test.images.ids if not id.startswith("s3")}
    assert before != set(reopen(data, test_share=0.25, split_seed=1).test.images.ids)


def test_a_pool_with_other_images_has_no_shards(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "data"), test_share=0.3)
    assert Conditions(copies=2).applied(pool).sharded is None
    shards = pool.sharded.shards  # type: ignore[union-attr]
    with pytest.raises(PoolError, match=r"images in shards, and \d+ in all"):
        replace(pool, sharded=pool.sharded.carrying(shards[:1]))  # type: ignore[union-attr]


def test_grey_and_colour(tmp_path: Path) -> None:
    images = [layouts.encoded(layouts.noise(i, 8, 8)) for i in range(4)]
    layouts.write_parquet(tmp_path / "d/a.parquet", images, {"label": [0, 1, 0, 1]})
    grey = reopen(tmp_path / "d", test_share=0.0)
    assert grey.shape == (1, (8, 8)) and len(grey.mean) == 1
    assert grey.mean[0] == pytest.approx(np.mean([layouts.noise(i, 8, 8) for i in range(4)]) / 255)
    assert grey.std[0] == pytest.approx(np.std([layouts.noise(i, 8, 8) for i in range(4)]) / 255)
    wide = reopen(tmp_path / "d", test_share=0.0, channels=3)
    assert np.array_equal(seen(wide.images, np.array([1]))[0], np.stack([layouts.noise(1, 8, 8)] * 3))
    layouts.write_parquet(tmp_path / "d/b.parquet", [layouts.encoded(layouts.noise(9, 8, 8, 3))] * 2, {"label": [0, 1]})
    mixed = reopen(tmp_path / "d", test_share=0.0, relist=True)
    assert mixed.shape[0] == 3 and np.array_equal(seen(mixed.images, np.array([0]))[0, 2], layouts.noise(0, 8, 8))
    narrow = reopen(tmp_path / "d", test_share=0.0, channels=1)
    with pytest.raises(PoolError, match=r"b.parquet: b:0: in colour where others are grey"):
        seen(narrow.images, np.array([4]))
