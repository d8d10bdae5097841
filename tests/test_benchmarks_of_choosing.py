"""The measurements of scores and of choosing by features run, on a few rows."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import clustering, million, scores, wide_selection
from benchmarks.side_by_side import Check


@pytest.mark.slow
@pytest.mark.parametrize(
    "score", [s if s == "discrepancy" else pytest.param(s, marks=pytest.mark.slow) for s in scores.OURS]
)
def test_scores_are_compared_with_every_candidate(score):
    found = scores.score_check(score, 400, 10, 2)
    assert found.value > 0 and all(name in found.detail for name in scores.CANDIDATES[score])


@pytest.mark.slow
def test_choosing_the_largest():
    found = scores.top_checks(500, 2, peer=False)
    assert [isinstance(c, Check) and c.value > 0 for c in found] == [True, True]
    assert scores.mcdal_check(640, 10, 2).bound == 5


@pytest.mark.parametrize("name", clustering.OURS)
def test_choosing_by_features(name):
    rows = clustering.pool(120, 8, labeled=7)
    assert rows.labeled.sum() == 7
    assert len(clustering.choose(name, 6, rows)) == 6
    assert clustering.seconds_check(name, 3, 80, 8).bound is None


def test_typicality_against_a_search_for_neighbours(monkeypatch):
    monkeypatch.setattr(clustering, "CENTRES", 3)
    assert clustering.typicality_check(120, 8, 1, bound=1.2).value > 0


@pytest.mark.parametrize("name", ["typiclust", "probcover", "max_herding"])
def test_the_peer_gets_the_same_rows(name):
    pytest.importorskip("skactiveml")
    found = clustering.peer(name, 4, clustering.pool(60, 8, labeled=5))
    assert len(np.unique(found)) == 4


def test_choices_in_parts_are_compared_with_exact_ones(monkeypatch):
    small = {name: replace(case, labels=40, budget=6) for name, case in wide_selection.cases().items()}
    monkeypatch.setattr(wide_selection, "cases", lambda: small)
    monkeypatch.setattr(wide_selection, "D", 16)
    found = list(wide_selection.measured("clusters", wide_selection.clusters(400, 100, 20), 1))
    means = wide_selection.summary(found)
    assert len(found) == 5 * len(small) and all(m["objective"] > 0 and 0 < m["accuracy"] <= 100 for m in means)
    assert all(
        m["of_exact"] == 1 and m["over_random"] == m["accuracy"] - r["accuracy"] for m, r in exact_and_random(means)
    )
    assert len(wide_selection.checks(means)) == 4 * len(small)


def exact_and_random(means):
    by = {(m["strategy"], m["search"]): m for m in means}
    return [(by[name, "exact"], by[name, "random"]) for name in {name for name, _ in by}]


@pytest.mark.parametrize("name", ["read, cold", "Margin over logits", "core-set", "MCDAL post hoc, scores"])
def test_choices_from_rows_on_the_disk_are_measured(name, tmp_path, monkeypatch):
    for constant, small in {"SHARD": 100, "LABELED": 20, "BUDGET": 10, "D": 512}.items():
        monkeypatch.setattr(million, constant, small)
    million.make(tmp_path, 300, np.dtype("float16"))
    found = million._measured(name, tmp_path, 300)
    assert found["wall"] > 0 and found["bytes"] > 300 * 512 * 2
    sizes = {n: {name: found} for n in (300, 600)}
    assert all(check.value >= 0 for check in (*million.of_size(300, sizes[300]), *million.growth(sizes)))
