"""TCM: TypiClust's picks, then Margin's."""

import numpy as np
import pytest

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.strategies.tcm import TCM
from mcdal.strategies.typiclust import TypiClust
from mcdal.values import Rows


def rows(labeled):
    random = np.random.default_rng(0)
    n = 60
    p = random.dirichlet(np.ones(4), n).astype("f4")
    two = np.sort(p, axis=1)[:, ::-1]
    z = random.normal(size=(n, 5)).astype("f4")
    return Rows(tuple(f"x{i:03d}" for i in range(n)), np.arange(n) < labeled, 1 - (two[:, 0] - two[:, 1]), z, p)


@pytest.mark.parametrize("labeled", [0, 19])
def test_first_typical(labeled):
    given = rows(labeled)
    assert select(TCM(), given, 8, seed=3).ids == select(TypiClust(), given, 8, seed=3).ids
    fewer = select(TCM(clusters=4, smallest=2), given, 8, seed=3).ids
    assert fewer == select(TypiClust(clusters=4, smallest=2), given, 8, seed=3).ids


@pytest.mark.parametrize("labeled", [20, 40])
def test_then_the_closest_two_classes(labeled):
    given = rows(labeled)
    two = np.sort(given.probabilities, axis=1)[:, ::-1]
    order = sorted(range(labeled, 60), key=lambda i: (two[i, 0] - two[i, 1], i))
    assert select(TCM(), given, 8).ids == tuple(given.ids[i] for i in order[:8])


def test_the_change_can_be_moved():
    assert select(TCM(until=2.0), rows(8), 5).ids == select(TCM(until=0.0), rows(8), 5).ids
    assert select(TCM(until=2.0), rows(7), 5).ids == select(TypiClust(), rows(7), 5).ids


def test_a_score_that_is_not_a_number():
    given = rows(30)
    given.score[45] = np.nan
    with pytest.raises(SelectionError, match="x045"):
        select(TCM(), given, 5)


def test_bad_fields():
    with pytest.raises(ConfigError, match=r"strategy.until = -1"):
        TCM(until=-1.0)
    with pytest.raises(ConfigError, match=r"strategy.clusters = 0"):
        TCM(clusters=0)
