"""Krippendorff's alpha against a published example and its definition."""

from itertools import permutations

import pytest

from mcdal.campaign.agreement import agreement

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, nominal, alpha = .743
PUBLISHED = [
    [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2],
    [5, 5, 5], [1, 1], [3],
]  # fmt: skip


def by_definition(answers):
    """1 - D_o / D_e, pair by pair."""
    several = [said for said in answers if len(said) > 1]
    values = [c for said in several for c in said]
    n = len(values)
    observed = sum((a != b) / (len(said) - 1) for said in several for a, b in permutations(said, 2)) / n
    expected = sum(a != b for a, b in permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected


def test_a_published_example():
    found = agreement(PUBLISHED)
    assert found.alpha == pytest.approx(0.743, abs=5e-4)
    assert found.alpha == pytest.approx(by_definition(PUBLISHED))
    assert found.images == 11


def test_two_people():
    said = [[0, 0], [0, 1], [1, 1], [2, 2], [2, 0], [1, 1]]
    found = agreement(said)
    assert found.alpha == pytest.approx(by_definition(said))
    assert found.share == pytest.approx(4 / 6)


def test_what_cannot_be_told():
    assert agreement([[1], [2]]) is None and agreement([]) is None
    assert agreement([[1, 1], [1, 1]]).alpha is None and agreement([[1, 1], [1, 1]]).share == 1
    assert agreement([[0, 0], [1, 1]]).alpha == 1
    assert agreement([[0, 1], [1, 0]]).alpha < 0
