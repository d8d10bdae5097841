"""The measurements of scores and of choosing by features run, on a few rows."""

import numpy as np
import pytest

from benchmarks import clustering, scores
from benchmarks.side_by_side import Check


@pytest.mark.parametrize(
    "score", [s if s == "discrepancy" else pytest.param(s, marks=pytest.mark.slow) for s in scores.OURS]
)
def test_scores_are_compared_with_every_candidate(score):
    found = scores.score_check(score, 400, 10, 2)
    assert found.value > 0 and all(name in found.detail for name in scores.CANDIDATES[score])


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
    assert clustering.typicality_check(120, 8, 1).value > 0


@pytest.mark.parametrize("name", ["typiclust", "probcover", "max_herding"])
def test_the_peer_gets_the_same_rows(name):
    pytest.importorskip("skactiveml")
    found = clustering.peer(name, 4, clustering.pool(60, 8, labeled=5))
    assert len(np.unique(found)) == 4
