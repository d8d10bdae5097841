from pathlib import Path

import layouts
import numpy as np
import pytest

from mcdal.errors import PoolError
from mcdal.pool.base import Pool
from mcdal.pool.parquet import Parquet


def images(count: int, first: int = 0) -> list[bytes | None]:
    return [layouts.encoded(layouts.noise(first + i, 8, 8, 3)) for i in range(count)]


def reopen(data: Path | list[Path], **fields: object) -> Pool:
    folder = data if isinstance(data, Path) else data[0].parent
    return Parquet(data, **fields).open(folder.parent / "cache")


def number_of(pool: Pool, position: int, count: int = 40) -> int:
    """Which of the noise images stands at a position."""
    picture = pool.images.picture(position)
    return next(i for i in range(count) if np.array_equal(layouts.noise(i, 8, 8, 3), picture))


@pytest.mark.parametrize("plain", [False, True])
def test_a_share_of_the_rows_is_held_out(tmp_path: Path, plain: bool) -> None:
    for shard in range(2):
        labels: dict[str, list[object]] = {"label": [i % 2 for i in range(10)]}
        layouts.write_parquet(tmp_path / "data" / f"s{shard}.parquet", images(10, shard * 10), labels, plain=plain)
    pool = reopen(tmp_path / "data", test_share=0.4)
    assert (len(pool), len(pool.test), pool.classes) == (12, 8, ("0", "1"))
    for position, id in enumerate(pool.images.ids):
        shard, row = id.removeprefix("s").split(":")
        assert number_of(pool, position) == int(shard) * 10 + int(row)
        assert pool.targets is not None and pool.targets[position] == int(row) % 2


def test_test_shards_text_labels_and_ids(tmp_path: Path) -> None:
    for name, first in (("train-0", 0), ("train-1", 10), ("test-0", 20)):
        columns: dict[str, list[object]] = {"kind": ["dog", "cat"] * 3, "key": [f"k{first + i}" for i in range(6)]}
        layouts.write_parquet(tmp_path / "data" / f"{name}.parquet", images(6, first), columns, image="photo")
    fields = {"image_column": "photo", "label_column": "kind", "id_column": "key"}
    pool = reopen(tmp_path / "data", **fields)
    assert pool.classes == ("cat", "dog") and (len(pool), len(pool.test)) == (12, 6)
    assert pool.images.ids[7] == "k11" and number_of(pool, 7) == 11
    files = sorted((tmp_path / "data").glob("*.parquet"))
    listed = reopen(files[1:], test=files[:1], **fields)
    assert listed.fingerprint == pool.fingerprint
    assert reopen(files[1], **fields).images.ids[0].startswith("k")


def test_class_names_come_from_the_metadata_or_the_field(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.parquet"
    labels: dict[str, list[object]] = {"label": [0, 1] * 3}
    layouts.write_parquet(path, images(6), labels, metadata=layouts.hugging_face({"label": ["x", "y", "z"]}))
    assert reopen(path).classes == ("x", "y", "z")
    assert reopen(path, classes=["p", "q"]).classes == ("p", "q")


@pytest.mark.parametrize(
    ("columns", "fields", "said"),
    [
        ({"label": [0, 1] * 3}, {"image_column": "photo"}, "no column 'photo'; its columns are image, label"),
        ({"target": [0, 1] * 3}, {}, "no column 'label'; its columns are image, target"),
        ({"label": [0, 1] * 3}, {"id_column": "key"}, "no column 'key'"),
        ({"label": [0, 1] * 3}, {"image_column": "label"}, "the column 'label' is int64"),
        ({"label": [0, 1, None, 0, 1, 0]}, {}, "a:2 has no label"),
        ({"label": [0, 1, -1, 0, 1, 0]}, {}, "'a:2' has class index -1"),
        ({"label": [0, 1, 2, 0, 1, 0]}, {"classes": ["x", "y"]}, "'a:2' has class index 2"),
        ({"label": list("xyxyxw")}, {"classes": ["x", "y"]}, "'a:5' has the label 'w'"),
        ({"label": [0, 1] * 3, "key": ["k"] * 6}, {"id_column": "key"}, "'k' stands for two rows"),
        ({"label": [0, 1] * 3, "key": ["k", None] * 3}, {"id_column": "key"}, "no id in row 1"),
        ({"label": [0] * 6}, {}, "two are the least"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, list[object]], fields: dict[str, object], said: str
) -> None:
    layouts.write_parquet(tmp_path / "data" / "a.parquet", images(6), columns)
    with pytest.raises(PoolError, match=said):
        reopen(tmp_path / "data", **fields)


def test_missing_empty_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="does not exist"):
        reopen(tmp_path / "nowhere")
    (tmp_path / "data").mkdir()
    with pytest.raises(PoolError, match=r"no .parquet file"):
        reopen(tmp_path / "data")
    (tmp_path / "data" / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PoolError, match=r"a.parquet is not a readable Parquet file"):
        reopen(tmp_path / "data")
    with pytest.raises(PoolError, match="two shards are called 'a'"):
        reopen([tmp_path / "data" / "a.parquet", tmp_path / "a.parquet"])


def test_an_id_in_pool_and_test_is_refused(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"label": [0, 1] * 3, "key": list("abcdef")}
    for name in ("train", "test"):
        layouts.write_parquet(tmp_path / "data" / f"{name}.parquet", images(6), columns)
    with pytest.raises(PoolError, match="'a' is in the pool and in the test"):
        reopen(tmp_path / "data", id_column="key")


def test_bad_rows_are_named(tmp_path: Path) -> None:
    content = [*images(4), b"no image", None]
    layouts.write_parquet(tmp_path / "data" / "a.parquet", content, {"label": [0, 1] * 3})
    with pytest.raises(PoolError, match=r"(?s)2 bad images.*a:4: not an image.*a:5: empty"):
        reopen(tmp_path / "data")
    pool = reopen(tmp_path / "data", bad_images="quarantine", test_share=0.3)
    assert sorted(bad.id for bad in pool.quarantine) == ["a:4", "a:5"]


def test_more_than_the_cache_may_hold_is_an_error(tmp_path: Path) -> None:
    layouts.write_parquet(tmp_path / "data" / "a.parquet", images(6), {"label": [0, 1] * 3})
    with pytest.raises(PoolError, match=r"more than source.cache_gib=0"):
        reopen(tmp_path / "data", cache_gib=0.0)


def test_a_shard_cut_off_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.parquet"
    layouts.write_parquet(path, images(6), {"label": [0, 1] * 3})
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(PoolError):
        reopen(path)
