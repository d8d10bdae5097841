"""A choice that fits is exact; one that does not keeps to its bounds, says what it did, and breaks no rule of a selection."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.registry import listed, load
from mcdal.selection.demand import GIB, Demand, Size
from mcdal.selection.limits import PerGroup
from mcdal.selection.parts import Parts, in_parts
from mcdal.selection.search import Search, told
from mcdal.stack import Stack
from mcdal.strategies.badge import Badge
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.margin import Margin
from mcdal.strategies.max_herding import MaxHerding
from mcdal.strategies.mcdal_posthoc import MCDALPosthoc
from mcdal.strategies.probcover import ProbCover
from mcdal.strategies.typiclust import TypiClust
from mcdal.strategies.uherding import UHerding
from mcdal.values import Rows

N, D, C = 240, 5, 3
STRATEGIES = [
    CoreSet(), Badge(), TypiClust(), ProbCover(delta=0.5), MaxHerding(), UHerding(held_out=0.0), Margin(),
    MCDALPosthoc(passes=2, pairs=1),
]  # fmt: skip


def pool(n=N, labeled=12):
    """Noise about eight centres."""
    random = np.random.default_rng(0)
    group = random.integers(0, 8, n)
    vector = (random.normal(size=(8, D))[group] + 0.2 * random.normal(size=(n, D))).astype(np.float32)
    p = random.dirichlet(np.ones(C), n).astype(np.float32)
    mask = np.arange(n) < labeled
    ids = tuple(f"{i:04d}" for i in random.permutation(n))
    return Rows(ids, mask, random.random(n).astype(np.float32), vector, p, np.where(mask, np.arange(n) % C, -1))


class Fits:
    """Looks at what a strategy is given. A choice of up to `n` rows takes 1 GiB."""

    def __init__(self, monkeypatch, strategy, n):
        self.seen = []
        kind, choose = type(strategy), type(strategy).select

        def looking(this, rows, budget, seed):
            self.seen.append((rows, budget))
            return choose(this, rows, budget, seed)

        monkeypatch.setattr(kind, "select", looking)
        monkeypatch.setattr(kind, "demand", lambda this, size: Demand(GIB * size.n / n, 0.0))


SMALL = Search(memory_gib=1.0)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_what_fits_is_exact_to_the_same_bits_and_nothing_is_told(strategy):
    said = []
    expected = select(strategy, pool(), 20, seed=1)
    found = select(strategy, pool(), 20, seed=1, search=Search(), listen=lambda kind, **what: said.append(what))
    assert found.ids == expected.ids and (found.score == expected.score).all()
    assert found.searched == expected.searched == {"how": "exact"} and said == []


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_what_does_not_fit_is_chosen_in_parts_that_do_and_is_told(strategy, monkeypatch):
    looked, said = Fits(monkeypatch, strategy, 60), []
    found = select(strategy, pool(), 20, seed=1, search=SMALL, listen=lambda kind, **what: said.append((kind, what)))
    assert len(set(found.ids)) == 20 and len(found.score) == 20  # that they are unlabeled is checked by `select`
    assert found.searched == {"how": "partition", "parts": 5, "each": 9, "labeled": 12, "again": 46}
    assert said == [("notice", {"text": told(found.searched)})] and "5 random parts, up to 9" in said[0][1]["text"]
    assert len(looked.seen) == 6 and all(len(rows.ids) <= 60 for rows, _ in looked.seen)
    parts, (last, budget) = [rows for rows, _ in looked.seen[:-1]], looked.seen[-1]
    every = Counter(id for rows in parts for id in rows.unlabeled().ids)
    assert set(every.values()) == {1} and len(every) == N - 12, "each unlabeled row is in one part"
    assert all(rows.labeled.sum() == 12 for rows in (*parts, last)) and budget == 20


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_the_order_of_the_rows_does_not_matter(strategy, monkeypatch):
    Fits(monkeypatch, strategy, 60)
    rows = pool()
    turned = rows.take(np.arange(N)[::-1])
    for search in (SMALL, replace(SMALL, how="candidates", candidates=2)):
        assert select(strategy, rows, 20, search=search).ids == select(strategy, turned, 20, search=search).ids


def test_vectors_on_the_disk_stay_there(monkeypatch):
    looked, rows = Fits(monkeypatch, CoreSet(), 60), pool()
    there = replace(rows, vector=Stack([rows.vector[:100], rows.vector[100:]]))
    assert select(CoreSet(), there, 20, search=SMALL).ids == select(CoreSet(), rows, 20, search=SMALL).ids
    assert all(isinstance(rows.vector, Stack) for rows, _ in looked.seen[:6])


def test_a_batch_that_is_larger_than_a_part_is_shared_out(monkeypatch):
    looked = Fits(monkeypatch, CoreSet(), 60)
    found = select(CoreSet(), pool(), 101, search=SMALL)
    assert found.searched == {"how": "partition", "parts": 5, "each": 21, "labeled": 12}
    assert [budget for _, budget in looked.seen] == [21, 20, 20, 20, 20] and len(set(found.ids)) == 101
    assert "its share of the batch" in told(found.searched)


def test_parts_with_fewer_rows_than_picks_and_all_that_is_left(monkeypatch):
    Fits(monkeypatch, CoreSet(), 60)
    assert len(select(CoreSet(), pool(), 10_000, search=SMALL)) == N - 12
    few = select(CoreSet(), pool(labeled=N - 3), 2, search=Search(how="partition", parts=50))
    assert len(set(few.ids)) == 2 and few.searched["parts"] == 3
    assert len(select(CoreSet(), pool(labeled=N - 1), 5, search=Search(how="partition"))) == 1


def test_with_very_many_labels_a_choice_sees_some_of_them_drawn_by_lot(monkeypatch):
    looked = Fits(monkeypatch, CoreSet(), 60)
    found = select(CoreSet(), pool(labeled=150), 10, search=SMALL)
    assert found.searched == {"how": "partition", "parts": 3, "each": 10, "labeled": 30, "again": 30}
    known = {frozenset(id for id, labeled in zip(r.ids, r.labeled, strict=True) if labeled) for r, _ in looked.seen}
    assert len(known) == 1, "the same ones in every part"


def test_candidates_are_the_largest_scores_with_ties_by_id():
    rows = pool()
    tied = replace(rows, score=np.round(rows.score, 1))
    found = select(CoreSet(), tied, 10, search=Search(how="candidates", candidates=5))
    assert found.searched == {"how": "candidates", "candidates": 50, "labeled": 12}
    free = sorted(tied.free().tolist(), key=lambda i: (-tied.score[i], tied.ids[i]))[:50]
    expected = select(CoreSet(), tied.take(np.array([*range(12), *free])), 10)
    assert found.ids == expected.ids and "among the 50 samples" in told(found.searched)


def test_candidates_by_the_margin_of_probabilities_and_none_without():
    rows = replace(pool(), score=None)
    two = np.sort(rows.probabilities.astype(np.float64), axis=1)[:, -2:]
    by_hand = replace(rows, score=1 - (two[:, 1] - two[:, 0]))
    search = Search(how="candidates", candidates=3)
    assert select(Badge(), rows, 10, search=search).ids == select(Badge(), by_hand, 10, search=search).ids
    with pytest.raises(SelectionError, match="neither a score nor probabilities"):
        select(CoreSet(), replace(rows, probabilities=None), 10, search=search)


def test_candidates_that_do_not_fit_are_told(monkeypatch):
    Fits(monkeypatch, CoreSet(), 60)
    with pytest.raises(SelectionError, match=r"48 rows keep to search.memory_gib .* and 49 are to be picked"):
        select(CoreSet(), pool(), 49, search=replace(SMALL, how="candidates"))


def test_time_bounds_a_choice_as_memory_does(monkeypatch):
    """n^2 products: parts save time."""
    monkeypatch.setattr(CoreSet, "demand", lambda self, size: Demand(0.0, 25e9 * 60 * size.n**2 / N**2))
    assert select(CoreSet(), pool(), 10, search=Search(minutes=1.0)).searched["how"] == "exact"
    found = select(CoreSet(), pool(), 10, search=Search(minutes=0.5))
    parts, rows = found.searched["parts"], -(-228 // found.searched["parts"]) + 12
    assert found.searched["how"] == "partition" and (parts + 1) * rows**2 <= 0.5 * N**2


def test_where_parts_save_no_time_all_is_searched_and_where_nothing_fits_it_is_told(monkeypatch):
    monkeypatch.setattr(CoreSet, "demand", lambda self, size: Demand(0.0, 1e15 * size.n))
    assert select(CoreSet(), pool(), 10, search=Search()).searched["how"] == "exact"
    with pytest.raises(SelectionError, match="neither whole nor in parts"):
        select(CoreSet(), pool(), 10, search=Search(how="partition"))
    monkeypatch.setattr(CoreSet, "demand", lambda self, size: Demand(5.0 * GIB, 0.0))
    with pytest.raises(SelectionError, match="neither whole nor in parts"):
        select(CoreSet(), pool(), 10, search=Search())


def test_a_batch_in_parts_keeps_its_limits(monkeypatch):
    Fits(monkeypatch, CoreSet(), 60)
    rows, said = pool(), []
    group = {id: id[-1] for id in rows.ids}
    found = select(
        CoreSet(), rows, 20, limits=[PerGroup(group, 2)], search=SMALL, listen=lambda kind, **what: said.append(kind)
    )
    assert len(found) == 20 and max(Counter(group[id] for id in found.ids).values()) == 2
    assert found.searched["how"] == "partition" and said == ["notice"]


@pytest.mark.parametrize("room", [2, 6, 12])
def test_picks_of_very_many_parts_are_chosen_from_in_parts_again(room):
    """More parts than there is room for, even if each picks a single row."""
    rows, seen = pool(), []

    def choose(some, budget):
        seen.append(len(some.free()))
        return Margin().select(some, budget, 0)

    parts = Parts.of(228, 3, 2, room)
    assert parts.count > room
    picks = in_parts(choose, rows, 2, parts, 0)
    assert len(set(picks.ids)) == 2 and picks.ids[0] == Margin().select(rows, 1, 0).ids[0]
    assert max(seen) <= room
    with pytest.raises(SelectionError, match="room for one row at a time"):
        in_parts(choose, rows, 1, Parts.of(228, 3, 1, 1), 0)


def test_the_rows_of_parts_add_up():
    for free in (2, 7, 100):
        for room in (1, 3, 50, 200):
            for budget in range(1, free + 1):
                parts = Parts.of(free, 0, budget, room)
                assert 2 <= parts.count <= free and parts.again == (budget <= room)
                assert parts.room <= room and (not parts.again or parts.room >= budget)


def test_picks_in_parts_cover_nearly_as_well_as_picks_of_all(monkeypatch):
    rows = pool(2_000, labeled=4)
    found = {}
    for name, search in {"exact": Search(), "parts": Search(how="partition", parts=8)}.items():
        picks = select(CoreSet(), rows, 40, search=search)
        centres = rows.vector[[*range(4), *map(rows.ids.index, picks.ids)]]
        found[name] = np.linalg.norm(rows.vector[:, None] - centres, axis=2).min(1).max()
    assert found["parts"] < 1.25 * found["exact"]


def test_settings_that_mean_nothing_are_refused():
    for wrong in ({"memory_gib": 0.0}, {"minutes": -1.0}, {"candidates": 0}, {"parts": 1}):
        with pytest.raises(ConfigError, match=rf"search\.{next(iter(wrong))}"):
            Search(**wrong)


@pytest.mark.parametrize("name", listed("strategies"))
def test_pools_of_the_size_of_cifar_are_searched_exactly_and_more_rows_need_more(name):
    strategy = load("strategies", name)()
    found = [strategy.demand(Size(n, n // 10, n // 20, 512, 10)) for n in (5_000, 50_000, 500_000)]
    assert Search()._fits(found[1])
    assert (
        found[0].bytes < found[1].bytes < found[2].bytes and found[0].products <= found[1].products <= found[2].products
    )


def test_of_a_million_rows_all_pairs_are_too_many_and_core_set_is_exact():
    exact = {
        name for name in listed("strategies")
        if Search()._fits(load("strategies", name)().demand(Size(1_000_000, 1_000, 1_000, 512, 10)))
    }  # fmt: skip
    assert set(listed("strategies")) - exact == {"bait", "max_herding", "probcover", "uherding"}
