"""The room for encoded images on the disk: bounded, shared, worth nothing when it is lost."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.pool.streaming.kept import Kept
from mcdal.pool.streaming.parquet import ParquetShards
from mcdal.pool.streaming.source import Shards

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_it_never_holds_more_than_it_may(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept.sqlite", 10_000)
    for i in range(300):
        kept.put({f"id{i}": bytes([i % 256]) * 100})
    ids = [f"id{i}" for i in range(300)]
    found = kept.get(ids)
    assert 80 <= len(found) <= 100 and all(found[id] == bytes([int(id[2:]) % 256]) * 100 for id in found)
    assert Kept(tmp_path / "kept.sqlite", 10_000).get(ids) == found
    kept.put({"large": b"x" * 5000})
    assert "large" not in kept.get(["large"])


def test_a_set_that_is_too_large_still_finds_a_share_of_itself(tmp_path: Path) -> None:
    """Whoever throws out the oldest finds nothing at all when everything is read in turn."""
    kept, hits = Kept(tmp_path / "kept.sqlite", 10_000), 0
    for epoch in range(6):
        for i in range(200):
            there = kept.get([f"id{i}"])
            hits += len(there) if epoch else 0
            if not there:
                kept.put({f"id{i}": b"x" * 100})
    assert hits > 100


def test_many_threads_and_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"this is no database" * 100)
    kept = Kept(path, 1_000_000)

    def work(n: int) -> int:
        kept.put({f"id{(n * 7 + i) % 100}": b"%d" % ((n * 7 + i) % 100) for i in range(20)})
        return sum(image != id[2:].encode() for id, image in kept.get([f"id{i}" for i in range(100)]).items())

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(60))) == 0
    assert len(kept.get([f"id{i}" for i in range(100)])) == 100


def test_row_groups_are_read_once_while_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for s in range(2):
        images = [layouts.encoded(layouts.noise(s * 40 + i, 8, 8, 3)) for i in range(40)]
        layouts.write_parquet(tmp_path / f"d/s{s}.parquet", images, {"label": [i % 2 for i in range(40)]}, rows=10)
    asked = []
    fetch = ParquetShards.fetch

    def counted(self, storage, part):
        asked.append(len(part))
        return fetch(self, storage, part)

    monkeypatch.setattr(ParquetShards, "fetch", counted)
    pool = Shards(str(tmp_path / "d"), test_share=0.0).open(tmp_path / "cache")
    asked.clear()
    for position in np.random.default_rng(0).permutation(80):
        (batch,) = pool.images.batches([np.array([position])], torch.device("cpu"))
        shard, row = pool.images.ids[int(position)].removeprefix("s").split(":")
        assert np.array_equal(batch[0].numpy(), layouts.noise(int(shard) * 40 + int(row), 8, 8, 3).transpose(2, 0, 1))
    assert asked == [10] * 8
    asked.clear()
    bare = Shards(str(tmp_path / "d"), test_share=0.0, cache_gib=0.0).open(tmp_path / "cache")
    list(bare.images.batches([np.array([1, 50])], torch.device("cpu")))
    assert asked == [1, 1]


def test_what_is_kept_stays_when_other_shards_come_or_change(tmp_path: Path) -> None:
    root, cache = tmp_path / "pool", tmp_path / "cache"
    root.mkdir()
    for shard in range(2):
        write_shard(root, shard, shard)
    shards = Shards(str(root), label_column=None, classes=["a", "b"], relist=True)
    first = shards.open(cache)
    first.images.read(first.position("s0:1"))
    first.images.read(first.position("s1:1"))
    (one,) = cache.glob("encoded-*.sqlite")
    before = rows_of(one)
    write_shard(root, 1, 5)
    write_shard(root, 2, 2)
    second = shards.open(cache)
    assert second.images.read(second.position("s1:1")).float().mean() == 5
    assert second.images.read(second.position("s0:1")).float().mean() == 0
    assert list(cache.glob("encoded-*.sqlite")) == [one] and before < rows_of(one)


def write_shard(root: Path, shard: int, grey: int) -> None:
    images = [layouts.encoded(np.full((4, 4), grey, np.uint8)) for _ in range(4)]
    layouts.write_parquet(root / f"s{shard}.parquet", images, {})


def rows_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {id for (id,) in connection.execute("SELECT id FROM kept")}
