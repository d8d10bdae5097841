"""The same picks and scores from vectors in memory, mapped, in half precision and in several files."""

import numpy as np
import pytest

from mcdal.measuring import select
from mcdal.networks import posthoc_fit
from mcdal.outputs import select_from
from mcdal.registry import listed, load
from mcdal.selection import clusters, limits
from mcdal.stack import Stack
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.dropquery import DropQuery
from mcdal.strategies.margin import Margin
from mcdal.strategies.uherding import UHerding
from mcdal.values import Rows

N, D, C, BUDGET = 90, 6, 3, 17
SETTINGS = {"mcdal_posthoc": {"passes": 3}, "daal": {"passes": 2, "width": 8, "latent": 4}, "bait": {"largest": 100}}
ON_ARRAYS = {"probabilities", "features", "labeled", "labels"}
STRATEGIES = {
    name: load("strategies", name)(**SETTINGS.get(name, {}))
    for name in listed("strategies")
    if set(load("strategies", name)().needs) <= ON_ARRAYS
} | {
    "uherding": UHerding(held_out=0.0),
    "dropquery": DropQuery(),
    "core_set: robust": CoreSet(outliers=0.0),
    "margin: balanced": Margin(sampling="balanced"),
}


def table(n=N):
    """Vectors and probabilities whose numbers float16 holds: multiples of 1/64, each row of probabilities of sum 1."""
    random = np.random.default_rng(0)
    vector = np.round(64 * random.standard_normal((n, D))).astype(np.float32) / 64
    p = random.multinomial(64, [0.5, 0.3, 0.2], size=n).astype(np.float32) / 64
    return vector, p, np.round(64 * random.random(n)).astype(np.float32) / 64


def rows(vector, p, score):
    labeled = np.arange(len(score)) % 5 == 0
    y = np.where(labeled, np.arange(len(score)) % C, -1)
    return Rows(tuple(f"{i * 7 % 97:03d}" for i in range(len(score))), labeled, score, vector, p, y)


def in_files(array, folder, name):
    paths = []
    for i, part in enumerate(np.split(array, [1, 40, 41])):
        paths.append(folder / f"{name}-{i}.npy")
        np.save(paths[-1], part)
    return paths


def lying(how, array, folder, name):
    if how == "float16":
        return array.astype(np.float16)
    kind = np.float32 if how == "mapped float32" else np.float16
    if how == "files of float16":
        return Stack.of_files(in_files(array.astype(kind), folder, name))
    np.save(folder / f"{name}.npy", array.astype(kind))
    return np.load(folder / f"{name}.npy", mmap_mode="r")


HOW = ("float16", "mapped float32", "mapped float16", "files of float16")


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_picks_do_not_depend_on_where_vectors_lie(name, tmp_path, monkeypatch):
    vector, p, score = table()
    expected = select(STRATEGIES[name], rows(vector, p, score), BUDGET, seed=3)
    monkeypatch.setattr(clusters, "COPIED", 0)
    monkeypatch.setattr(posthoc_fit, "KEPT_OF_DISK", 0)
    for how in HOW:
        there = rows(lying(how, vector, tmp_path, "vector"), lying(how, p, tmp_path, "p"), score)
        found = select(STRATEGIES[name], there, BUDGET, seed=3)
        assert found.ids == expected.ids, how
        np.testing.assert_array_equal(found.score, expected.score, err_msg=how)


def test_vectors_on_the_disk_are_not_copied_where_a_batch_is_limited(tmp_path, monkeypatch):
    vector, p, score = table()
    group = {id: str(i % 4) for i, id in enumerate(rows(vector, p, score).ids)}
    expected = select(CoreSet(), rows(vector, p, score), BUDGET, limits=[limits.PerGroup(group, 5)])
    seen = []
    choose = CoreSet.select

    def looking(self, rows, budget, seed):
        seen.append(rows.vector)
        return choose(self, rows, budget, seed)

    monkeypatch.setattr(CoreSet, "select", looking)
    there = rows(lying("files of float16", vector, tmp_path, "vector"), p, score)
    assert select(CoreSet(), there, BUDGET, limits=[limits.PerGroup(group, 5)]).ids == expected.ids
    assert len(seen) > 1 and all(isinstance(vector, Stack) for vector in seen)


def test_a_stack_of_features_is_chosen_from(tmp_path):
    vector, _, _ = table()
    labeled = np.arange(N) % 5 == 0
    there = Stack.of_files(in_files(vector.astype(np.float16), tmp_path, "vector"))
    expected = select_from("core_set", BUDGET, features=vector, labeled=labeled)
    assert select_from("core_set", BUDGET, features=there, labeled=labeled).ids == expected.ids
