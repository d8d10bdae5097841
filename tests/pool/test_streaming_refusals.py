"""Pools that are read where they lie: what does not belong to them, cannot be read, or contradicts itself."""

import io
import os
import sqlite3
import tarfile
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.measuring import evaluate
from mcdal.pool.base import Pool
from mcdal.pool.streaming.kept import Kept
from mcdal.pool.streaming.source import Shards
from mcdal.testing import FakeModel

CPU = torch.device("cpu")


def noise(number: int) -> bytes:
    return layouts.encoded(layouts.noise(number, 8, 8, 3))


def folder(path: Path, count: int = 2, first: int = 0) -> Path:
    path.mkdir(parents=True)
    for i in range(first, first + count):
        (path / f"{i}.png").write_bytes(noise(i))
    return path


def named(path: Path, labels: list[int], names: list[str] | None, first: int = 0) -> Path:
    """A Parquet shard whose schema may know the names of its classes, as Hugging Face writes it."""
    metadata = {} if names is None else {"metadata": layouts.hugging_face({"label": names})}
    layouts.write_parquet(path, [noise(first + i) for i in range(len(labels))], {"label": [*labels]}, **metadata)
    return path


def reopen(data: Path | list[str], cache: Path, **fields: object) -> Pool:
    return Shards(str(data) if isinstance(data, Path) else data, **{"test_share": 0.0, **fields}).open(cache)


def test_test_images_in_folders_stay_out_of_the_pool(tmp_path: Path) -> None:
    for name in ("a/cat", "test/cat", "test/dog", "train/cat"):
        folder(tmp_path / "d/set" / name)
    pool = reopen(tmp_path / "d", tmp_path / "cache", files_per_shard=8)
    assert set(pool.images.ids) == {f"set/{name}/{i}.png" for name in ("a/cat", "train/cat") for i in range(2)}
    assert set(pool.test.images.ids) == {f"set/test/{name}/{i}.png" for name in ("cat", "dog") for i in range(2)}


def test_test_images_that_cannot_be_read_are_not_counted(tmp_path: Path) -> None:
    layouts.write_parquet(tmp_path / "d/a.parquet", [noise(i) for i in range(4)], {"label": [0, 1, 0, 1]})
    images: list[bytes | None] = [noise(9), b"no image", noise(8), b"nor this"]
    layouts.write_parquet(tmp_path / "d/test.parquet", images, {"label": [0, 1, 0, 1]})
    pool = reopen(tmp_path / "d", tmp_path / "cache", bad_images="quarantine")
    model = FakeModel(2)
    said = evaluate(model, pool, batch_size=4)
    layouts.write_parquet(tmp_path / "e/a.parquet", [noise(i) for i in range(4)], {"label": [0, 1, 0, 1]})
    layouts.write_parquet(tmp_path / "e/test.parquet", [noise(9), noise(8)], {"label": [0, 0]})
    whole = reopen(tmp_path / "e", tmp_path / "cache")
    assert whole.mean == pool.mean and evaluate(model, whole, batch_size=4) == said
    again = reopen(tmp_path / "d", tmp_path / "cache", bad_images="quarantine")
    assert [bad.id for bad in again.quarantine] == ["test:1", "test:3"]
    assert again.test.positions.tolist() == [0, 2] and again.test.y.tolist() == [0, 0]
    assert evaluate(model, again, batch_size=4) == said


def test_class_names_are_the_same_in_all_shards(tmp_path: Path) -> None:
    named(tmp_path / "d/a.parquet", [0, 1], ["cat", "dog"])
    named(tmp_path / "d/b.parquet", [0, 1], ["dog", "cat"], 2)
    pool = reopen(tmp_path / "d", tmp_path / "cache")
    assert pool.classes == ("cat", "dog") and pool.targets.tolist() == [0, 1, 1, 0]  # type: ignore[union-attr]
    assert pool.sharded.pool(pool.sharded.shards[1]).targets.tolist() == [1, 0]  # type: ignore[union-attr]
    given = reopen(tmp_path / "d", tmp_path / "cache", classes=["dog", "cat"])
    assert given.targets.tolist() == [1, 0, 0, 1]  # type: ignore[union-attr]
    with pytest.raises(PoolError, match=r"a.parquet calls a class 'dog', which is none of the 2 classes \(cat, cow\)"):
        reopen(tmp_path / "d", tmp_path / "cache", classes=["cat", "cow"])
    named(tmp_path / "d/c.parquet", [0, 1], ["cat", "cow"], 4)
    with pytest.raises(PoolError, match=r"c.parquet knows the class 'cow', but a.parquet does not"):
        reopen(tmp_path / "d", tmp_path / "cache", relist=True)


def test_numbers_that_are_no_classes_are_named(tmp_path: Path) -> None:
    named(tmp_path / "d/a.parquet", [0, 1], None)
    named(tmp_path / "d/b.parquet", [0, 20_240_101], None, 2)
    with pytest.raises(PoolError, match=r"b.parquet has the label 20240101, which is no class index of 4 samples"):
        reopen(tmp_path / "d", tmp_path / "cache")


def test_a_list_of_folders_is_read_alone(tmp_path: Path) -> None:
    for place, n in (("x", 0), ("y", 2), ("z", 4)):
        named(tmp_path / place / "A.PARQUET", [0, 1], None, n)
        folder(tmp_path / "files" / place, first=n)
    pool = reopen([str(tmp_path / "x"), str(tmp_path / "z")], tmp_path / "cache")
    assert pool.images.ids == ("x/A:0", "x/A:1", "z/A:0", "z/A:1")
    files = reopen([str(tmp_path / "files/x"), str(tmp_path / "files/z")], tmp_path / "cache")
    assert files.images.ids == ("x/0.png", "x/1.png", "z/4.png", "z/5.png") and files.classes == ("x", "z")
    (tmp_path / "x/notes.txt").write_text("")
    with pytest.raises(PoolError, match=r"notes.txt is neither a folder nor a .parquet file"):
        reopen([str(tmp_path / "x/A.PARQUET"), str(tmp_path / "x/notes.txt")], tmp_path / "cache")
    with pytest.raises(PoolError, match=r"the folder .*0.png is no folder"):
        reopen([str(tmp_path / "files/x/0.png"), str(tmp_path / "files/z")], tmp_path / "cache", kind="files")


def test_folders_that_cannot_be_read_and_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path / "d/in/a.parquet", [0, 1], None)
    (tmp_path / "d/in/round").symlink_to(tmp_path / "d", target_is_directory=True)
    with pytest.raises(PoolError, match=r"in/round leads back to a folder that it lies in"):
        reopen(tmp_path / "d", tmp_path / "cache")
    (tmp_path / "d/in/round").unlink()
    (tmp_path / "d/other").symlink_to(tmp_path / "d/in", target_is_directory=True)
    assert len(reopen(tmp_path / "d", tmp_path / "cache")) == 4
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("/other"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PoolError, match=r"d/other cannot be read \(Permission denied\)"):
        reopen(tmp_path / "d", tmp_path / "cache")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder(tmp_path / "d/cat")
    folder(tmp_path / "d/dog")
    broken = os.fsencode(tmp_path / "d/cat") + b"/\xff.png"
    try:
        Path(os.fsdecode(broken)).write_bytes(noise(1))
    except OSError:
        pytest.skip("this file system takes no such names")
    with pytest.raises(PoolError, match=r"udcff.png' is not UTF-8"):
        reopen(tmp_path / "d", tmp_path / "cache")


@pytest.mark.parametrize("url", ["s3://KEY:topsecret@bucket/x", "s3://KEY:top/secret@bucket/x", "s3://KEY:t?secret@b"])
def test_secrets_in_urls_are_not_said(tmp_path: Path, url: str) -> None:
    with pytest.raises(PoolError, match="credentials in the environment") as caught:
        Shards(url).open(tmp_path)
    assert "secret" not in str(caught.value) and "KEY" not in str(caught.value)


def test_links_in_tars(tmp_path: Path) -> None:
    path = layouts.write_tar(tmp_path / "d/a.tar", {"0.png": noise(0), "0.cls": b"0"})

    def add(name: str, kind: bytes, target: str = "") -> None:
        """A member without content, and its label."""
        with tarfile.open(path, "a") as tar:
            member, label = tarfile.TarInfo(name), tarfile.TarInfo(name[:-4] + ".cls")
            member.type, member.linkname, label.size = kind, target, 1
            tar.addfile(member)
            tar.addfile(label, io.BytesIO(b"1"))

    add("1.png", tarfile.LNKTYPE, "0.png")
    pool = reopen(tmp_path / "d", tmp_path / "cache")
    part = pool.sharded.pool(pool.sharded.shards[0])  # type: ignore[union-attr]
    pixels = torch.cat(list(part.images.batches([np.arange(2)], CPU))).numpy()
    assert np.array_equal(pixels[0], pixels[1]) and pixels.any() and part.images.ids == ("a/0", "a/1")
    whole = path.read_bytes()
    for name, kind, target, said in (
        ("2.png", tarfile.LNKTYPE, "gone.png", "'2.png' is a link to 'gone.png', which is not in it"),
        ("2.png", tarfile.SYMTYPE, "0.png", "'2.png' is a symbolic link"),
        ("2.png", tarfile.FIFOTYPE, "", "'2.png' is of the type b'6'"),
    ):
        path.write_bytes(whole)
        add(name, kind, target)
        with pytest.raises(PoolError, match=said):
            reopen(tmp_path / "d", tmp_path / "cache", relist=True)
    path.write_bytes(whole)
    add("3.png", tarfile.REGTYPE)
    add("3.PNG", tarfile.REGTYPE)
    with pytest.raises(PoolError, match=r"the sample '3' has two members that end in .png"):
        reopen(tmp_path / "d", tmp_path / "cache", relist=True)


def test_room_that_cannot_be_used_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def listen(event: str, **about: object) -> None:
        said.append(str(about["text"]))

    (tmp_path / "file").write_bytes(b"")
    nowhere = Kept(tmp_path / "file/kept.sqlite", 1_000, listen)
    nowhere.put({"a": b"x"})
    assert nowhere.get(["a"]) == {} and len(said) == 1 and "are not kept" in said[0]
    monkeypatch.setattr("mcdal.pool.streaming.kept.WAIT", 0.05)
    path = tmp_path / "kept.sqlite"
    first = Kept(path, 1_000, listen)
    first.put({"a": b"x"})
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    held = Kept(path, 1_000, listen)
    held.put({"b": b"y"})
    held.put({"b": b"y"})
    assert held.get(["a"]) == {} and len(said) == 2 and "locked" in said[1]
    other.rollback()
    other.close()
    assert Kept(path, 1_000, listen).get(["a", "b"]) == {"a": b"x"} and len(said) == 2
