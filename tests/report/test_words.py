"""Numbers as a person reads them, and names that stay apart."""

import numpy as np
import pytest

from mcdal.report import words
from mcdal.report.curves import spread
from mcdal.report.page import unique
from mcdal.report.scores import SAMPLE, Extent, bin_edges, which_bin

N = words.NARROW


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.42, "0.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (95.0, "1 min 35 s"),
        (7300.0, "2 h 1 min"),
        (2e5, "2 d 7 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds).replace(N, " ") == said


def test_numbers() -> None:
    assert words.percent(0.97214) == f"97.2{N}%"
    assert [words.points(d) for d in (0.013, -0.013, 0.0001, -0.0001)] == ["+1.3", "−1.3", "0.0", "0.0"]
    assert words.plural(1, "seed") == "1 seed" and words.plural(12345, "label") == f"12{N}345 labels"
    assert [words.significant(n) for n in (0.012, 1.0, 123.4, -0.5)] == ["0.0120", "1.00", "123", "−0.500"]
    assert words.listed(["a"]) == "a" and words.listed(["a", "b", "c"]) == "a, b and c"


def test_names() -> None:
    assert words.strategy_name("mcdal_posthoc") == "MCDAL posthoc"
    assert words.strategy_name("learning_loss") == "Learning loss"
    assert words.strategy_name("my.package:Strategy") == "my.package:Strategy"
    assert words.one_line("a\nb\x00") == "a b\N{REPLACEMENT CHARACTER}"
    assert words.slug("../../etc/pass wd") == "etc-pass-wd"
    assert unique(["a", "A", "b", "a"]) == ["a", "A_2", "b", "a_3"]


def test_labels_are_spread_and_keep_their_order() -> None:
    places = spread([50.0, 52.0, 10.0, 51.0], gap=10.0, low=0.0, high=100.0)
    assert sorted(range(4), key=places.__getitem__) == [2, 0, 3, 1]
    assert np.diff(sorted(places)).min() >= 10 - 1e-9
    assert places[2] == 10
    assert max(spread([99.0, 99.0], gap=10.0, low=0.0, high=100.0)) <= 100


def test_bins_hold_everything_even_over_orders_of_magnitude() -> None:
    values = np.geomspace(1e-9, 1.0, 500)
    edges = bin_edges([Extent.of(values)])
    assert edges[1] / edges[0] == pytest.approx(edges[-1] / edges[-2])
    same = np.full(5, 0.25)
    for scores in (values, same, np.array([1.0, 2.0, 2.0, 4.0]), np.array([]), values.astype(np.float32)):
        edges = bin_edges([Extent.of(scores)])
        expected = np.histogram(np.clip(scores.astype(np.float64), edges[0], edges[-1]), edges)[0]
        assert np.bincount(which_bin(scores, edges), minlength=60).tolist() == expected.tolist()
        assert expected.sum() == len(scores)


def test_the_axis_of_many_scores_is_read_off_some() -> None:
    """What is exact: its ends and whether scores are positive. Where a log scale begins is within the noise of a sample."""
    generator = np.random.default_rng(0)
    scores = [generator.lognormal(-4, 2, 200_000) for _ in range(3)]
    extents = [Extent.of(s) for s in scores]
    assert all(len(extent.some) <= SAMPLE for extent in extents)
    edges, values = bin_edges(extents), np.concatenate(scores)
    assert edges[-1] == pytest.approx(values.max())
    assert edges[0] == pytest.approx(np.quantile(values, 0.01), rel=0.05)
    assert bin_edges([Extent.of(s - 4) for s in scores])[0] == pytest.approx(values.min() - 4)
