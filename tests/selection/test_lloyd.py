"""k-means by products, bounds and near centres, against Lloyd's iterations written out in float64, and scikit-learn's."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from mcdal.selection import lloyd, seeds
from mcdal.selection.lloyd import k_means
from mcdal.selection.seeds import greedy_k_means_pp


def noise(n, d, groups, seed=0, spread=0.5, about=0.0):
    random = np.random.default_rng(seed)
    points = random.normal(size=(groups, d))[random.integers(0, groups, n)] + spread * random.normal(size=(n, d))
    return (about + points).astype(np.float32)


def squares(points, centres):
    return ((points[:, None].astype(np.float64) - centres[None].astype(np.float64)) ** 2).sum(2)


def inertia(points, centres):
    return sum(squares(part, centres).min(1).sum() for part in np.array_split(points, max(1, len(points) // 500)))


def naive(points, centres):
    """Lloyd's iterations until nothing changes."""
    centres, cluster = centres.astype(np.float64), None
    while cluster is None or (squares(points, centres).argmin(1) != cluster).any():
        cluster = squares(points, centres).argmin(1)
        centres = np.stack([points[cluster == c].mean(0, dtype=np.float64) for c in range(len(centres))])
    return cluster, centres


@pytest.mark.parametrize("about", [0.0, 100.0])
@pytest.mark.parametrize("seed", range(4))
def test_iterations_are_those_of_lloyd(seed, about, monkeypatch):
    monkeypatch.setattr(lloyd, "GAIN", 0.0)
    points, begun = noise(400, 5, 7, seed, about=about), []

    def first(x, k, random):
        begun.append(greedy_k_means_pp(x, k, random))
        return begun[-1]

    monkeypatch.setattr(lloyd, "greedy_k_means_pp", first)
    cluster, centres = k_means(points, 9, seed)
    expected, means = naive(points, points[begun[0]])
    assert cluster.tolist() == expected.tolist()
    np.testing.assert_allclose(centres, means, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("near", "rounds"), [(32, 100), (4, 100), (4, 1)])
@pytest.mark.parametrize("sample", [100, 5_000])
def test_every_point_is_with_its_nearest_centre(near, rounds, sample, monkeypatch):
    for name, value in {"NEAR": near, "MANY": 5 * near, "ROUNDS": rounds, "SAMPLE": sample, "ENOUGH": 5}.items():
        monkeypatch.setattr(lloyd, name, value)
    monkeypatch.setattr(lloyd, "ROWS", 64)
    points = noise(900, 6, 12)
    cluster, centres = k_means(points, 40, seed=2)
    apart = squares(points, centres)
    assert len(centres) == 40 and set(cluster.tolist()) == set(range(40))
    np.testing.assert_allclose(apart[np.arange(900), cluster], apart.min(1), rtol=1e-4)
    if rounds > 1:
        means = np.stack([points[cluster == c].mean(0) for c in range(40)])
        assert inertia(points, means) >= (1 - 1e-3) * inertia(points, centres)


@pytest.mark.parametrize(("kind", "n", "groups", "k"), [(KMeans, 3_000, 40, 40), (MiniBatchKMeans, 6_000, 60, 200)])
def test_inertia_is_that_of_scikit_learn_or_less(kind, n, groups, k):
    points = noise(n, 16, groups)
    ours, theirs = [], []
    for seed in range(3):
        ours.append(inertia(points, k_means(points, k, seed)[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.append(inertia(points, kind(k, n_init=1, random_state=seed).fit(points).cluster_centers_))
    assert np.mean(ours) < 1.005 * np.mean(theirs)


def test_the_same_again_and_with_any_number_of_threads():
    points, threads = noise(3_000, 24, 20), torch.get_num_threads()
    first = k_means(points, 170, seed=3)
    assert not np.array_equal(first[0], k_means(points, 170, seed=4)[0])
    try:
        torch.set_num_threads(3)
        again = k_means(points, 170, seed=3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


@pytest.mark.parametrize("length", [1.0, 1e-3, 1e3])
def test_fewer_distinct_points_than_clusters(length):
    points = length * np.repeat(noise(3, 5, 3), 10, axis=0)
    cluster, centres = k_means(points, 6, seed=0)
    assert len(centres) == 3 and len(set(map(tuple, np.round(centres / length, 4)))) == 3
    assert all(len(set(cluster[i : i + 10].tolist())) == 1 for i in (0, 10, 20))
    cluster, centres = k_means(np.ones((9, 4), dtype=np.float32), 4, seed=0)
    assert cluster.tolist() == [0] * 9 and centres.tolist() == [[1.0] * 4]


@pytest.mark.parametrize("near", [2, 32])
def test_centres_that_a_sample_of_equal_points_does_not_give_are_found_in_the_others(near, monkeypatch):
    for name, value in {"SAMPLE": 20, "EACH": 1, "NEAR": near, "MANY": 5 * near}.items():
        monkeypatch.setattr(lloyd, name, value)
    points = np.concatenate([np.zeros((2_000, 5), dtype=np.float32), noise(15, 5, 15)])
    cluster, centres = k_means(points, 16, seed=1)
    assert len(centres) == 16 and len(set(cluster[-15:].tolist())) == 15
    assert len(set(cluster[:-15].tolist())) == 1


@pytest.mark.parametrize("pool", [16, 256])
def test_seeds_are_the_best_of_what_was_drawn(pool, monkeypatch):
    monkeypatch.setattr(seeds, "POOL", pool)
    points, groups = noise(300, 4, 12, spread=0.3), []
    real = seeds._best

    def best(apart, drawn, squared, own, count):
        before = squared.astype(np.float64)
        picks = real(apart, drawn, squared, own, count)
        groups.append((before, drawn, picks))
        return picks

    monkeypatch.setattr(seeds, "_best", best)
    found = greedy_k_means_pp(torch.from_numpy(points), 30, np.random.default_rng(0))
    assert len(set(found.tolist())) == 30 and found.tolist()[1:] == [i for *_, picks in groups for i in picks]
    apart = squares(points, points)
    for squared, drawn, picks in groups:
        for pick in picks:
            sums = np.minimum(squared, apart[drawn]).sum(1)
            assert np.minimum(squared, apart[pick]).sum() == pytest.approx(sums.min(), rel=1e-6)
            squared = np.minimum(squared, apart[pick])


def test_one_cluster_and_as_many_as_points():
    points = noise(50, 3, 50)
    cluster, centres = k_means(points, 1, seed=0)
    assert cluster.tolist() == [0] * 50
    np.testing.assert_allclose(centres[0], points.mean(0), atol=1e-5)
    cluster, centres = k_means(points, 50, seed=0)
    assert sorted(cluster.tolist()) == list(range(50))
    np.testing.assert_allclose(centres[cluster], points, atol=1e-5)
