"""Lance tables: read like other shards, and given columns that a kill does not lose."""

import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import layouts
import numpy as np
import pyarrow as pa
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.ids import write_ids
from mcdal.pool.base import Pool
from mcdal.pool.streaming import lance_columns
from mcdal.pool.streaming.lance_columns import append_columns
from mcdal.pool.streaming.source import Shards

lance = pytest.importorskip("lance")
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def write(path: Path, n: int = 30, plain: bool = True, **columns: list[object]) -> Path:
    """Fragments of ten rows of numbered noise."""
    images = [layouts.encoded(layouts.noise(i, 8, 8, 3)) for i in range(n)]
    kind = pa.binary() if plain else pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = images if plain else [{"bytes": image, "path": ""} for image in images]
    table = pa.table(
        {"key": [f"k{i}" for i in range(n)], "image": pa.array(values, kind), "label": [i % 2 for i in range(n)]}
    )
    lance.write_dataset(table, str(path), max_rows_per_file=10)
    return path


def reopen(path: Path, **fields: object) -> Pool:
    return Shards(str(path), **fields).open(path.parent / "cache")


def everything(pool: Pool) -> dict[str, bytes]:
    found = {}
    for shard in pool.sharded.shards:  # type: ignore[union-attr]
        images = pool.sharded.pool(shard).images  # type: ignore[union-attr]
        parts = [np.arange(i, min(i + 4, shard.size)) for i in range(0, shard.size, 4)]
        pixels = torch.cat(list(images.batches(parts, CPU))).numpy()
        found |= {id: image.tobytes() for id, image in zip(images.ids, pixels, strict=True)}
    return found


@pytest.mark.parametrize("plain", [True, False])
def test_rows_by_stream_and_at_random(tmp_path: Path, plain: bool) -> None:
    pool = reopen(write(tmp_path / "pool.lance", plain=plain), id_column="key", test_share=0.3)
    assert len(pool.sharded.shards) == 3 and len(pool) + len(pool.test) == 30  # type: ignore[union-attr]
    found = everything(pool)
    order = np.random.default_rng(0).permutation(len(pool))
    pixels = torch.cat(list(pool.images.batches(np.array_split(order, 4), CPU))).numpy()
    for position, image in zip(order.tolist(), pixels, strict=True):
        id = pool.images.ids[position]
        assert found[id] == image.tobytes() == layouts.noise(int(id[1:]), 8, 8, 3).transpose(2, 0, 1).tobytes()


def test_columns_change_no_shard_but_rows_do(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.lance")
    pool = reopen(path)
    assert pool.images.ids[0].startswith("fragment-0:")
    append_columns(path, "key", ("k3",), {"score": np.array([0.5])}, tmp_path / "checkpoint")
    assert reopen(path).fingerprint == pool.fingerprint and everything(reopen(path)) == everything(pool)
    lance.dataset(str(path)).delete("key = 'k12'")
    with pytest.raises(PoolError, match=r"(?s)1 shards.*fragment-1 has changed"):
        reopen(path)
    with pytest.raises(PoolError, match=r"fragment-1 has changed since"):
        pool.sharded.pool(pool.sharded.shards[1])  # type: ignore[union-attr]
    again = reopen(path, relist=True, test_share=0.0)
    assert len(again) == 29 and "fragment-1:2" not in again.images.ids and "fragment-1:3" in again.images.ids
    row = layouts.noise(13, 8, 8, 3).transpose(2, 0, 1).tobytes()
    assert everything(again)["fragment-1:3"] == row
    images = again.images.batches([np.array([again.position("fragment-1:3")])], CPU)
    assert next(iter(images)).numpy().tobytes() == row


def test_columns_are_keyed_by_id(tmp_path: Path) -> None:
    path, ids = write(tmp_path / "pool.lance"), tuple(f"k{i}" for i in (7, 3, 29))
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    append_columns(path, "key", ids, {"score": np.array([7.0, 3.0, 29.0]), "vector": vectors}, tmp_path / "c", rows=8)
    rows = lance.dataset(str(path)).to_table(columns=["key", "score", "vector"]).to_pylist()
    given = {row["key"]: row for row in rows if row["score"] is not None}
    assert {key: row["score"] for key, row in given.items()} == {"k7": 7.0, "k3": 3.0, "k29": 29.0}
    assert given["k3"]["vector"] == [4, 5, 6, 7] and rows[0]["vector"] is None
    mapped = write_ids(tmp_path / "ids", (f"k{i}" for i in range(30)), print)
    append_columns(path, "key", mapped, {"rank": np.arange(30)}, tmp_path / "d")
    assert lance.dataset(str(path)).to_table(columns=["rank"]).column(0).to_pylist() == list(range(30))
    with pytest.raises(PoolError, match="has a column 'score' already"):
        append_columns(path, "key", ids, {"score": np.zeros(3)}, tmp_path / "e")
    with pytest.raises(PoolError, match=r"no row with the id 'x' \(1 such ids\)"):
        append_columns(path, "key", ("k1", "x"), {"s": np.zeros(2)}, tmp_path / "e")
    with pytest.raises(PoolError, match="2 rows for 1 ids"):
        append_columns(path, "key", ("k1",), {"s": np.zeros(2)}, tmp_path / "e")
    with pytest.raises(PoolError, match="no column 'name'"):
        append_columns(path, "name", ("k1",), {"s": np.zeros(1)}, tmp_path / "e")


def test_a_checkpoint_of_other_values_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, ids = write(tmp_path / "pool.lance"), tuple(f"k{i}" for i in range(30))
    taken, calls = lance_columns._taken, []

    def failing(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return taken(*given)

    monkeypatch.setattr(lance_columns, "_taken", failing)
    with pytest.raises(BaseException):  # noqa: B017 - Lance wraps it in errors of its own
        append_columns(path, "key", ids, {"score": np.zeros(30)}, tmp_path / "c", rows=5)
    append_columns(path, "key", ids, {"score": np.arange(30.0)}, tmp_path / "c", rows=5)
    assert lance.dataset(str(path)).to_table(columns=["score"]).column(0).to_pylist() == list(range(30))


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from mcdal.pool.streaming import lance_columns
taken = lance_columns._taken
def slowly(*given):
    time.sleep(0.05)
    with open(sys.argv[2] + '.log', 'a') as file:
        file.write('x')
    return taken(*given)
lance_columns._taken = slowly
ids = tuple(f'k{i}' for i in range(100))
lance_columns.append_columns(sys.argv[1], 'key', ids, {'score': np.arange(100.0)}, Path(sys.argv[2]), rows=5)
"""


@pytest.mark.slow
def test_a_killed_append_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    path, checkpoint = write(tmp_path / "pool.lance", n=100), tmp_path / "checkpoint"
    log = tmp_path / "checkpoint.log"
    words = [sys.executable, "-c", KILLED, str(path), str(checkpoint)]
    process = subprocess.Popen(words)
    while not log.exists() or log.stat().st_size < 6:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = log.stat().st_size
    assert done < 20 and "score" not in lance.dataset(str(path)).schema.names
    subprocess.run(words, check=True)
    assert log.stat().st_size <= 20 + 2  # what was computed before is not computed again, but for what was at hand
    assert lance.dataset(str(path)).to_table(columns=["score"]).column(0).to_pylist() == list(range(100))


def opened(sharded: bytes, name: str, answers: "multiprocessing.Queue[str]") -> None:
    made = pickle.loads(sharded)
    try:
        pool = made.pool(next(shard for shard in made.shards if shard.name == name))
        answers.put(str(len(next(iter(pool.images.batches([np.arange(len(pool))], CPU))))))
    except PoolError as error:
        answers.put(str(error))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process")
def test_workers_are_spawned_not_forked(tmp_path: Path) -> None:
    pool = reopen(write(tmp_path / "pool.lance"), test_share=0.0)
    said = {}
    for method in ("spawn", "fork"):
        context = multiprocessing.get_context(method)
        answers = context.Queue()
        process = context.Process(target=opened, args=(pickle.dumps(pool.sharded), "fragment-2", answers))
        process.start()
        said[method] = answers.get(timeout=60)
        process.join()
    assert said["spawn"] == "10" and "forked process" in said["fork"]


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"nowhere.lance is no readable Lance table"):
        reopen(tmp_path / "nowhere.lance")
    with pytest.raises(PoolError, match="no column 'photo'"):
        reopen(write(tmp_path / "pool.lance"), image_column="photo")
