"""Pools that are read where they lie, opened again with something else: nothing of before is taken for it."""

import os
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.pool.base import Images, Pool
from mcdal.pool.streaming.index import Index
from mcdal.pool.streaming.source import Shards
from mcdal.pool.streaming.storage import Storage

CPU = torch.device("cpu")


def noise(number: int, side: int = 8) -> bytes:
    return layouts.encoded(layouts.noise(number, side, side, 3))


def write(path: Path, numbers: range, **columns: list[object]) -> Path:
    layouts.write_parquet(path, [noise(i) for i in numbers], {"label": [i % 2 for i in numbers], **columns}, rows=4)
    return path


def reopen(data: Path | list[str], cache: Path, **fields: object) -> Pool:
    return Shards(str(data) if isinstance(data, Path) else data, **{"test_share": 0.0, **fields}).open(cache)


def seen(images: Images) -> np.ndarray:
    return torch.cat(list(images.batches([np.arange(len(images))], CPU))).numpy()


def same(pixels: np.ndarray, numbers: range) -> bool:
    return np.array_equal(pixels, np.stack([layouts.noise(i, 8, 8, 3).transpose(2, 0, 1) for i in numbers]))


def test_another_column_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", range(6), depth=[noise(100 + i) for i in range(6)])
    photos = reopen(tmp_path / "d", tmp_path / "cache")
    assert same(seen(photos.images), range(6))
    depths = reopen(tmp_path / "d", tmp_path / "cache", image_column="depth")
    assert same(seen(depths.images), range(100, 106)) and depths.fingerprint != photos.fingerprint
    members = {f"{i}.{e}": noise(n + i) for i in range(4) for e, n in (("jpg", 0), ("png", 100))}
    tar = layouts.write_tar(tmp_path / "t/a.tar", members)
    for ending, first in (("jpg", 0), ("png", 100)):
        pool = reopen(tar, tmp_path / "cache", image_column=ending, classes=["a", "b"])
        assert same(seen(pool.images), range(first, first + 4))


def test_the_same_names_elsewhere_are_other_images(tmp_path: Path) -> None:
    pools = []
    for n, place in enumerate("xy"):
        path = tmp_path / place / "d/a.parquet"
        images = [layouts.encoded(layouts.noise(n * 100 + i, 8, 8, 3), "BMP") for i in range(6)]
        layouts.write_parquet(path, images, {"label": [0, 1] * 3}, compression="none")
        os.utime(path, ns=(10**18, 10**18))
        pools.append(reopen(path.parent, tmp_path / "cache"))
        assert same(seen(pools[-1].images), range(n * 100, n * 100 + 6))
    assert pools[0].fingerprint != pools[1].fingerprint


def test_a_relist_that_fails_leaves_the_old_index_whole(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", range(6), key=[f"k{i}" for i in range(6)])
    write(tmp_path / "d/b.parquet", range(6, 12), key=[f"k{i}" for i in range(6, 12)])
    old = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "d").iterdir()}
    before = reopen(tmp_path / "d", tmp_path / "cache", id_column="key")
    write(tmp_path / "d/a.parquet", range(5, -1, -1), key=[f"k{i}" for i in range(5, -1, -1)])
    (tmp_path / "d/b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PoolError, match=r"b.parquet is not a readable"):
        reopen(tmp_path / "d", tmp_path / "cache", id_column="key", relist=True, scanners=1)
    for path, (content, time) in old.items():
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
    again = reopen(tmp_path / "d", tmp_path / "cache", id_column="key")
    assert again.images.ids == before.images.ids
    part = again.sharded.pool(again.sharded.shards[0])  # type: ignore[union-attr]
    assert part.images.ids == tuple(f"k{i}" for i in range(6)) and same(seen(part.images), range(6))


def test_an_index_that_lost_files_is_listed_again(tmp_path: Path) -> None:
    write(tmp_path / "d/a.parquet", range(6))
    before = reopen(tmp_path / "d", tmp_path / "cache")
    for path in (tmp_path / "cache").glob("index-*/shards/*"):
        path.unlink()
    again = reopen(tmp_path / "d", tmp_path / "cache")
    part = again.sharded.pool(again.sharded.shards[0])  # type: ignore[union-attr]
    assert same(seen(part.images), range(6)) and again.fingerprint == before.fingerprint


def test_what_was_set_aside_of_a_shard_is_not_of_the_next(tmp_path: Path) -> None:
    images: list[bytes | None] = [noise(0), b"no image", noise(2)]
    layouts.write_parquet(tmp_path / "d/a.parquet", images, {"label": [0, 1, 0]})
    pool = reopen(tmp_path / "d", tmp_path / "cache", bad_images="quarantine")
    assert not seen(pool.images)[1].any()
    write(tmp_path / "d/a.parquet", range(3))
    mended = reopen(tmp_path / "d", tmp_path / "cache", bad_images="quarantine", relist=True)
    assert not mended.quarantine and same(seen(mended.images), range(3))


def test_an_image_mended_in_place_is_read_with_relist(tmp_path: Path) -> None:
    folders = layouts.class_folders(tmp_path / "d", each=3)
    before = reopen(folders, tmp_path / "cache")
    (folders / "cat/001.png").write_bytes(noise(77) + b"more")
    with pytest.raises(PoolError, match=r"cat/001.png has \d+ bytes.*relist=true"):
        seen(reopen(folders, tmp_path / "cache").images)
    after = reopen(folders, tmp_path / "cache", relist=True)
    assert same(seen(after.images)[1:2], range(77, 78)) and after.fingerprint != before.fingerprint


def test_other_images_of_one_size_are_another_pool(tmp_path: Path) -> None:
    found = []
    for place, number in (("x", 0), ("y", 1)):
        for name in ("cat", "dog"):
            (tmp_path / place / "d" / name).mkdir(parents=True)
            (tmp_path / place / "d" / name / "0.ppm").write_bytes(b"P6 8 8 255\n" + bytes([number + 7]) * 192)
        found.append(reopen(tmp_path / place / "d", tmp_path / "cache").fingerprint)
    assert found[0] != found[1]


def test_listings_of_a_large_folder_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcdal.pool.streaming.files.ROWS", 4)
    (tmp_path / "d").mkdir()
    for i in range(11):
        (tmp_path / f"d/{i:02d}.png").write_bytes(noise(i))
    opened: list[str] = []
    read = Storage.read
    monkeypatch.setattr(Storage, "read", lambda self, name, *rest: opened.append(name) or read(self, name, *rest))
    pool = reopen(tmp_path / "d", tmp_path / "cache", files_per_shard=3, classes=["a", "b"])
    assert not [name for name in opened if name.startswith("folders/")]
    assert pool.images.ids == tuple(f"{i:02d}.png" for i in range(11)) and same(seen(pool.images), range(11))


def test_a_write_to_the_index_has_a_name_of_its_own(tmp_path: Path) -> None:
    from mcdal.writing import replaced

    with replaced(tmp_path / "a") as first, replaced(tmp_path / "a") as second:
        assert first != second and first.name.endswith(".part")
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert (tmp_path / "a").read_bytes() == b"1" and Index(Storage(str(tmp_path))).manifest() is None
