"""Areas, labels saved, penalties and ranks against curves whose answer is known."""

import math

import numpy as np
import pytest

from mcdal.statistics.curves import area, labels_for, labels_saved, penalties, ranks

LABELS = np.array([100, 200, 300, 400])


def straight(start, rise, seeds=1, noise=0.0, seed=0):
    """Curves from `start` on that gain `rise` a round."""
    curve = start + rise * np.arange(4)
    return curve + np.random.default_rng(seed).normal(0, noise, (seeds, 1)) + np.zeros((seeds, 4))


def test_the_area_is_the_mean_height():
    assert area(LABELS, straight(0.5, 0.1)) == pytest.approx([0.65])
    assert area(np.array([0, 10, 40]), np.array([[0.0, 1.0, 1.0]])) == pytest.approx([(5 + 30) / 40])
    assert area(np.array([7]), np.array([[0.3], [0.4]])).tolist() == [0.3, 0.4]


def test_labels_are_read_off_between_the_rounds():
    curves = np.array([[0.5, 0.6, 0.7, 0.8], [0.5, 0.7, 0.6, 0.7], [0.1, 0.2, 0.2, 0.3], [0.9, 0.8, 0.9, 0.9]])
    assert labels_for(LABELS, curves, np.full(4, 0.65)).tolist() == pytest.approx([250.0, 175.0, math.inf, 100.0])


def test_what_is_saved():
    mine, random = straight(0.5, 0.2), straight(0.5, 0.1)
    saved = labels_saved(LABELS, mine, random)
    assert (saved.target, saved.mine, saved.theirs) == pytest.approx((0.8, 250.0, 400.0))
    assert saved.share.value == pytest.approx(1 - 250 / 400)
    assert math.isnan(saved.share.low)
    back = labels_saved(LABELS, random, mine)
    assert back.share.value == pytest.approx(1 - 400 / 250), "the other way round more labels are needed"
    assert labels_saved(LABELS, straight(0.5, 0.0), straight(0.5, 0.0)) is None


def test_the_bootstrap_pairs_the_seeds():
    """Seeds that lift both curves alike say nothing against a saving: with pairs it is sure, however far they are apart."""
    mine, random = straight(0.5, 0.2, seeds=8, noise=0.05), straight(0.5, 0.1, seeds=8, noise=0.05)
    saved = labels_saved(LABELS, mine, random)
    assert saved.share.high - saved.share.low < 1e-6
    assert saved.share.low == pytest.approx(saved.share.value)
    assert labels_saved(LABELS, mine, random) == saved, "the same every time"


def test_no_saving_is_rarely_called_one():
    random, called = np.random.default_rng(3), 0
    for _ in range(200):
        curves = straight(0.5, 0.1) + random.normal(0, 0.02, (2, 10, 4))
        share = labels_saved(LABELS, *curves).share
        called += share.excludes_zero
    assert called <= 20, "5 % would be right"


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_covers_what_is_saved_about_as_often_as_it_says(seeds):
    """Two saturating curves, each seed with a height of its own and noise at each budget."""
    random, labels, rounds = np.random.default_rng(0), np.arange(1, 8) * 20 + 20, np.arange(7)
    base = 0.98 - 0.25 * np.exp(-0.5 * rounds)
    better = base + np.where(rounds > 0, 0.02 * (1 - np.exp(-rounds)), 0)
    truth = labels_saved(labels, better[None], base[None]).share.value
    covered = 0
    for _ in range(150):
        height = random.normal(0, 0.006, (seeds, 1))
        mine, theirs = (c + height + random.normal(0, 0.008, (seeds, 7)) for c in (better, base))
        share = labels_saved(labels, mine, theirs).share
        covered += share.low <= truth <= share.high
    assert covered / 150 >= 0.89, "plain percentiles cover it in 85 % with five seeds"


def test_three_seeds_are_too_few_for_an_interval_of_what_is_saved():
    mine, random = straight(0.5, 0.2, seeds=3, noise=0.01), straight(0.5, 0.1, seeds=3, noise=0.01)
    share = labels_saved(LABELS, mine, random).share
    assert math.isfinite(share.value) and math.isnan(share.low) and math.isnan(share.high)


def test_penalties_count_the_budgets_that_were_won():
    random = np.random.default_rng(0)
    base = straight(0.5, 0.1) + random.normal(0, 0.01, (6, 4))
    late = base + np.array([0, 0, 0.1, 0.1]) + random.normal(0, 0.005, (6, 4)) * np.array([0, 0, 1, 1])
    found = penalties([base, late, base.copy()])
    assert found.tolist() == [[0, 0, 0], [0.5, 0, 0.5], [0, 0, 0]]


def test_ranks_and_their_critical_difference():
    areas = np.array([[0.9, 0.8, 0.9], [0.7, 0.7, 0.8], [0.7, 0.6, 0.5]])
    found = ranks(areas)
    assert found.mean == pytest.approx([1.0, (2.5 + 2 + 2) / 3, (2.5 + 3 + 3) / 3])
    assert 0 < found.p < 0.1
    of_demsar = ranks(np.random.default_rng(0).random((4, 14)))
    assert of_demsar.critical == pytest.approx(1.25, abs=0.005), "his example: four classifiers on fourteen data sets"
    assert ranks(np.ones((3, 4))).p == 1.0
    assert ranks(areas[:2]) is None
