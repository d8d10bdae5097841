"""At most so many picks of a group, whatever the strategy."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mcdal.errors import ConfigError, SelectionError
from mcdal.groups import read_groups
from mcdal.loop import run
from mcdal.measuring import select
from mcdal.plan import Plan
from mcdal.registry import listed, load
from mcdal.selection import top
from mcdal.selection.limits import Limit, PerGroup, Unalike, Within, within
from mcdal.store import Store
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.margin import Margin
from mcdal.strategies.random import Random
from mcdal.testing import fake_config, fake_scene_config, fake_scenes, fake_trained
from mcdal.values import Rows


def rows_of(n, seed=0, labeled=10):
    random = np.random.default_rng(seed)
    ids = tuple(f"id {i:03d}" for i in range(n))
    mask = np.isin(np.arange(n), random.choice(n, labeled, replace=False))
    return Rows(ids, mask, random.random(n).astype(np.float32), random.random((n, 4)).astype(np.float32))


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_ranking_without_the_rows_of_full_groups(limit):
    rows = rows_of(200)
    group = {id: f"camera {i % 17}" for i, id in enumerate(rows.ids)}
    expected, used = [], Counter()
    for id in top(rows.ids, rows.score, 200, rows.free()).ids:
        if used[group[id]] < limit and len(expected) < 15:
            used[group[id]] += 1
            expected.append(id)
    assert select(Margin(), rows, 15, limits=[PerGroup(group, limit)]).ids == tuple(expected)


def test_core_set_keeps_away_from_the_picks_before():
    """Two tight pairs, one of each in group a: without seeing its first picks as centres it would take their twins."""
    vector = np.array([[0, 0], [9, 0], [9, 0.1], [0, 9], [0, 9.1], [5, 5]], dtype=np.float32)
    rows = Rows(tuple("abcdef"), np.array([True] + [False] * 5), vector=vector)
    group = dict(zip("abcdef", ["x", "one", "two", "one", "three", "four"], strict=True))
    picks = select(CoreSet(), rows, 3, limits=[PerGroup(group, 1)]).ids
    assert Counter(group[id] for id in picks).most_common(1)[0][1] == 1
    assert not {"b", "c"} <= set(picks)
    assert not {"d", "e"} <= set(picks)


def test_too_little_room_is_told_with_numbers():
    rows = rows_of(40)
    group = {id: "one" if i < 30 else "two" for i, id in enumerate(rows.ids)}
    with pytest.raises(SelectionError, match=r"protocol.per_group = 2: the 2 groups .* room for 4 of the 9"):
        select(Margin(), rows, 9, limits=[PerGroup(group, 2)])


@pytest.mark.parametrize(
    "name", [n for n in listed("strategies") if "segmentation" in load("strategies", n)().about.tasks]
)
def test_every_strategy_keeps_the_limit(name):
    if name in ("vaal", "sraal"):
        pytest.skip("networks of the published size; they choose by their score as others do")
    trained = fake_trained(load("strategies", name)(), pool=fake_scenes())
    group = dict(zip(trained.pool.images.ids, trained.pool.groups, strict=True))
    picks = select(trained.strategy, trained.rows(), 8, seed=1, limits=[PerGroup(group, 1)])
    assert len(picks) == 8
    assert max(Counter(group[id] for id in picks.ids).values()) == 1


def test_a_run_keeps_the_limit_after_its_start_set(tmp_path):
    config = fake_scene_config(Random())
    run(Plan(replace(config, protocol=replace(config.protocol, per_group=1))), tmp_path, device="cpu")
    pool, store = fake_scenes(), Store(tmp_path)
    group = dict(zip(pool.images.ids, pool.groups, strict=True))
    for round in (1, 2, 3):
        asked = store.asked("custom-Random-s0", round)
        assert max(Counter(group[id] for id in asked).values()) == 1


def write(path, rows):
    path.write_text("sample_id,group\n" + "".join(f"{a},{b}\n" for a, b in rows))
    return path


def test_groups_of_a_file_for_images_of_one_class(tmp_path):
    config = fake_config(Random())
    ids = config.source.open(tmp_path).images.ids
    file = write(tmp_path / "groups.csv", [(id, i // 4) for i, id in enumerate(ids)])
    limited = replace(config, groups=file, protocol=replace(config.protocol, per_group=1))
    run(Plan(limited), tmp_path, device="cpu")
    group = dict(zip(ids, read_groups(file, ids), strict=True))
    for round in (1, 2, 3):
        asked = Store(tmp_path).asked("custom-Random-s0", round)
        assert max(Counter(group[id] for id in asked).values()) == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", 1), ("b", 2)], r"no group of 1 of 3 samples: 'c'"),
        ([("a", 1), ("b", 2), ("c", 1), ("a", 2)], "'a' is there twice"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, rows, said):
    with pytest.raises(ConfigError, match=said):
        read_groups(write(tmp_path / "g.csv", rows), ("a", "b", "c"))


def test_files_of_another_kind(tmp_path):
    (tmp_path / "g.csv").write_text("id,camera\na,1\n")
    with pytest.raises(ConfigError, match="no column sample_id and group; it has id, camera"):
        read_groups(tmp_path / "g.csv", ("a",))
    with pytest.raises(ConfigError, match=r"give a \.csv or \.parquet file"):
        read_groups(tmp_path / "g.txt", ("a",))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_groups(tmp_path / "nothing.csv", ("a",))


def test_a_limit_without_groups_is_refused(tmp_path):
    config = fake_config(Random())
    limited = replace(config, protocol=replace(config.protocol, per_group=2))
    with pytest.raises(ConfigError, match=r"protocol.per_group = 2: fake knows no groups; give them in a file"):
        run(Plan(limited), tmp_path, device="cpu")


def test_much_that_is_refused_takes_few_calls():
    """Twenty scenes of forty frames each: a strategy that loves the first scene is not asked for each frame of it."""
    ids = tuple(f"{scene:02d}/{frame:02d}" for scene in range(20) for frame in range(40))
    rows = Rows(ids, np.zeros(800, dtype=bool), np.linspace(1, 0, 800).astype(np.float32))
    calls = []

    class Scene(Limit):
        def __init__(self):
            self.taken = set()

        def admits(self, id):
            return id[:2] not in self.taken

        def take(self, id):
            self.taken.add(id[:2])

    def choose(left, count):
        calls.append(count)
        return top(left.ids, left.score, count, left.free())

    picks = within(choose, rows, 10, [Scene()], as_labeled=False)
    assert picks.ids == tuple(f"{scene:02d}/00" for scene in range(10)) and len(calls) <= 8


def test_who_has_nothing_more_ends_the_batch():
    rows = rows_of(20)
    picks = within(lambda left, count: top(left.ids, left.score, 0, left.free()), rows, 5, [], as_labeled=False)
    assert len(picks) == 0


def test_nothing_joins_that_looks_like_any_of_many():
    random = np.random.default_rng(0)
    vectors = {f"x{i:03d}": v / np.linalg.norm(v) for i, v in enumerate(random.normal(size=(120, 6)))}
    limit, taken = Unalike(lambda ids: np.stack([vectors[id] for id in ids]), 0.8), []
    limit.look(list(vectors))
    for id, vector in vectors.items():
        assert limit.admits(id) == all(vector @ vectors[other] < 0.8 for other in taken)
        if limit.admits(id):
            limit.take(id)
            taken.append(id)
    assert 40 < len(taken) < 110


def test_a_batch_costs_as_much_as_wanted_at_most():
    rows = rows_of(60, labeled=0)
    cost = {id: 3.0 if i % 2 else 1.0 for i, id in enumerate(rows.ids)}
    picks = select(Margin(), rows, 10, limits=[Within(cost, 10)])
    spent = sum(cost[id] for id in picks.ids)
    assert (spent <= 20 and spent + 1 > 20 - 1e-9) or len(picks) == 10
    best = top(rows.ids, rows.score, 60, rows.free()).ids
    assert picks.ids[0] == best[0]
