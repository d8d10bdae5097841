"""Ids that lie on the disk read like the tuple that they are equal to."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mcdal.ids
from mcdal.hashes import hashed, mixed
from mcdal.ids import MappedIds, places_of, write_ids
from mcdal.pool.assemble import digest
from mcdal.pool.places import Places
from mcdal.values import Rows


class TwiceError(Exception):
    pass


def refuse(id: str) -> None:
    raise TwiceError(id)


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 67, 129, 1000])
def test_mapped_ids_are_like_a_tuple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(mcdal.ids, "BLOCK", 64)
    plain = tuple(f"päth/{i}'{'x' * (i % 7)}" for i in range(n))
    ids = write_ids(tmp_path / "ids", plain, refuse)
    assert ids == plain and plain == ids and len(ids) == n and tuple(ids) == plain and hash(ids) == hash(plain)
    assert ids[: n // 2] == plain[: n // 2] and ids[n // 3 :] == plain[n // 3 :] and ids[::-3] == plain[::-3]
    assert pickle.loads(pickle.dumps(ids)) == ids and digest(ids) == digest(plain)
    for i in {0, -1, n // 2, n - 1, -n} if n else ():
        assert ids[i] == plain[i] and plain[i] in ids and ids.index(plain[i]) == plain.index(plain[i])
    assert "nobody" not in ids and ids != (*plain, "more") and ids != (*plain[:-1], "other")
    for i in (n, -n - 1):
        with pytest.raises(IndexError):
            ids[i]


def test_places_of_mapped_ids_are_those_of_the_tuple(tmp_path: Path) -> None:
    plain = tuple(f"id{i}" for i in range(5000))
    ids = write_ids(tmp_path / "ids", plain, refuse)
    labels = {f"id{i}": 0 for i in np.random.default_rng(0).permutation(6000)[:3000].tolist()}
    mapped, known = Places(ids), Places(plain)
    assert np.array_equal(mapped.of(labels), known.of(labels)) and len(mapped) == len(known)
    labels |= {"id1": 0, "no": 0}
    assert np.array_equal(mapped.of(labels), known.of(labels)) and mapped["id7"] == 7
    with pytest.raises(ValueError, match="'no' is not in the ids"):
        mapped["no"]


def test_twins_are_found_and_equal_hashes_of_others_are_not_taken_for_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TwiceError, match="id3"):
        write_ids(tmp_path / "a", [*(f"id{i}" for i in range(100)), "id3"], refuse)
    monkeypatch.setattr(mcdal.ids, "hashed", lambda ids: np.array([len(id) for id in ids], dtype=np.uint64))
    monkeypatch.setattr(mcdal.ids, "SORTED_AT_ONCE", 16)  # several ranges, several pieces
    plain = tuple(f"id{i}" for i in range(120))
    ids = write_ids(tmp_path / "b", plain, refuse)
    assert ids.positions(list(plain)).tolist() == list(range(120)) and ids.position("id999") == -1
    with pytest.raises(TwiceError, match="id11"):
        write_ids(tmp_path / "c", [*plain, "id11"], refuse)


def test_sorting_in_parts_is_sorting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcdal.ids, "SORTED_AT_ONCE", 64)
    ids = write_ids(tmp_path / "ids", (f"id{i}" for i in range(3000)), refuse)
    hashes, order = np.load(tmp_path / "ids/hash.npy"), np.load(tmp_path / "ids/order.npy")
    assert (np.diff(hashes.astype(object)) > 0).all() and np.array_equal(hashes, hashed(ids)[order])
    other = write_ids(tmp_path / "other", (f"id{i}" for i in range(2990, 4000)), refuse)
    assert set(ids.shared(other)) == {f"id{i}" for i in range(2990, 3000)}


def test_hashes_are_the_same_everywhere() -> None:
    blake = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") for text in ("a", "ä/1.png")
    ]
    assert hashed(["a", "ä/1.png"]).tolist() == blake
    # The first numbers of splitmix64 from the seed 1234567, as its authors' program gives them.
    seed = np.array([1234567], dtype=np.uint64)
    assert [int(mixed(seed, i)[0]) for i in (1, 2)] == [6457827717110365317, 3203168211198807973]


MANY = """
import sys
from pathlib import Path
from mcdal.ids import MappedIds, write_ids
from mcdal.pool.places import Places
from mcdal.values import Rows
def anonymous():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('RssAnon')) / 1024
ids = write_ids(Path(sys.argv[1]), (f'train-{i // 10000:05d}-of-00100:{i % 10000}' for i in range(5000)), print)
before = anonymous()
ids = write_ids(Path(sys.argv[1]) / 'many', (f'train-{i // 10000:05d}-of-00100:{i % 10000}' for i in range(300000)), print)
places = Places(ids)
assert places.of({ids[i]: 0 for i in range(0, 300000, 100)}).tolist() == list(range(0, 300000, 100))
print(anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_they_take_little_memory(tmp_path: Path) -> None:
    """As a tuple and a dictionary, 300,000 ids take more than 45 MiB."""
    ran = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 25


def test_some_of_many_are_a_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcdal.ids.TAKEN_FROM", 100)
    all_ids = tuple(f"id{i * 7919 % 200_003}" for i in range(150_000))
    ids = write_ids(tmp_path, all_ids, print)
    kept = np.delete(np.arange(150_000), [0, 5, 65_535, 65_536, 149_999])
    some, expected = ids.take(kept), tuple(all_ids[i] for i in kept.tolist())
    assert isinstance(some, MappedIds) and len(some) == 149_995 and some == expected and some != ids
    assert (some[0], some[-1], some[3], some[65_530:65_540]) == (
        expected[0], expected[-1], expected[3], expected[65_530:65_540],
    )  # fmt: skip
    asked = [all_ids[0], expected[0], expected[70_000], "nobody", all_ids[149_999], expected[-1]]
    assert some.positions(asked).tolist() == [-1, 0, 70_000, -1, -1, 149_994]
    assert [id for block in some.blocks() for id in block] == list(expected) == list(pickle.loads(pickle.dumps(some)))
    assert b"".join(some.pieces()) == repr(expected).encode()
    again = some.take(np.arange(1, 149_995, 2))
    assert isinstance(again, MappedIds) and again == expected[1::2]
    assert some.take(np.array([4, 2])) == (expected[4], expected[2])
    rows = Rows(ids, np.zeros(150_000, dtype=bool), np.arange(150_000.0))
    left = rows.without({all_ids[i] for i in (0, 5, 65_535, 65_536, 149_999)} | {"nobody"})
    assert left.ids == some and left.score.tolist() == kept.tolist()  # type: ignore[union-attr]
    assert rows.without({"nobody"}) is rows and places_of(all_ids, {all_ids[3]}).tolist() == [3]
