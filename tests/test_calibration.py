"""Temperatures against a grid and against what is known, errors against a naive formula, and what few labels allow to say."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from mcdal.calibration import (
    FEWEST,
    calibrate,
    calibration_error,
    cross_fitted,
    fit_temperature,
    nll,
)


def drawn(n, classes=5, sharp=2.0, seed=0):
    """Logits, and classes that are drawn with the very probabilities that they give."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(n, classes)) * sharp
    p = softmax(logits, axis=1)
    y = np.array([draw.choice(classes, p=row) for row in p])
    return logits, y


@pytest.mark.parametrize("factor", [1 / 3, 1.0, 3.0, 7.0])
def test_logits_that_are_multiplied_get_that_temperature(factor):
    logits, y = drawn(20_000)
    assert fit_temperature(logits * factor, y).value == pytest.approx(factor, rel=0.04)
    assert fit_temperature(logits * factor, y).note == ""


def test_the_temperature_has_the_least_negative_log_likelihood():
    logits, y = drawn(300, seed=1)
    best = fit_temperature(logits * 2.5, y).value
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 2_000))
    naive = [
        -np.mean([math.log(math.exp(z[c] / t) / sum(math.exp(v / t) for v in z)) for z, c in zip(logits * 2.5, y, strict=True)])
        for t in grid[::100]
    ]  # fmt: skip
    assert naive == pytest.approx([nll(logits * 2.5, y, t) for t in grid[::100]])
    assert best == pytest.approx(grid[np.argmin([nll(logits * 2.5, y, t) for t in grid])], rel=0.005)


def naive_error(p, y, bins):
    """Guo et al. (2017), Eq. 3, with bins of equal mass."""
    order = sorted(range(len(y)), key=lambda i: max(p[i]))
    sizes = [len(y) // bins + (b < len(y) % bins) for b in range(bins)]
    total, start = 0.0, 0
    for size in sizes:
        members = order[start : start + size]
        start += size
        accuracy = sum(int(np.argmax(p[i]) == y[i]) for i in members) / size
        confidence = sum(max(p[i]) for i in members) / size
        total += size / len(y) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize(("n", "bins"), [(10, 1), (97, 7), (300, 15)])
def test_the_calibration_error_is_the_paper_s(n, bins):
    logits, y = drawn(n, seed=2)
    p = softmax(3 * logits, axis=1)
    assert calibration_error(p, y, bins) == pytest.approx(naive_error(p, y, bins))


def test_bins_are_fewer_where_labels_are_few():
    logits, y = drawn(45, seed=3)
    p = softmax(logits, axis=1)
    assert calibration_error(p, y) == pytest.approx(naive_error(p, y, 4))
    with pytest.raises(ValueError, match="no label"):
        calibration_error(p[:0], y[:0])


def test_a_model_that_is_too_sure_is_mended_and_one_that_is_right_is_left():
    logits, y = drawn(400, seed=4)
    mended = calibrate(3 * logits, y)
    assert mended.labels == 400 and mended.temperature.value == pytest.approx(3, rel=0.2)
    assert mended.before.value > 0.15 and mended.after.value < 0.08 and mended.after.high < mended.before.low
    assert 0.01 < mended.perfect < 0.08 and mended.after.value < 2.5 * mended.perfect
    left = calibrate(logits, y)
    assert left.after.value == pytest.approx(left.before.value, abs=0.015)
    for judged in (mended.before, mended.after, left.before, left.after):
        assert 0 <= judged.low <= judged.value <= judged.high < 1
    assert calibrate(3 * logits, y) == mended, "the same labels, the same numbers"


@pytest.mark.slow
def test_the_interval_covers_what_many_labels_show():
    """The error of a model that is three times too sure, known from many labels, in intervals of 300 at a time."""
    logits, y = drawn(60_000, seed=5)
    truth = calibration_error(softmax(3 * logits, axis=1), y)
    covered = 0
    for i in range(20):
        part = slice(i * 300, (i + 1) * 300)
        before = calibrate(3 * logits[part], y[part]).before
        covered += before.low <= truth <= before.high
    assert covered >= 16


def test_judging_by_the_labels_it_was_fitted_on_would_flatter():
    """Cross-fitting is why the error after is not smaller than it is: with 20 labels a temperature fits them, not others."""
    flattering, honest = [], []
    for seed in range(40):
        logits, y = drawn(30, seed=seed)
        best = fit_temperature(logits, y).value
        flattering.append(nll(logits, y, best) - nll(logits, y))
        draw = np.random.default_rng(0)
        half = np.isin(np.arange(30), draw.permutation(30)[:15])
        other = fit_temperature(np.repeat(logits[half], 2, 0), np.repeat(y[half], 2)).value
        honest.append(nll(logits[~half], y[~half], other) - nll(logits[~half], y[~half]))
    assert max(flattering) <= 1e-9 and np.mean(honest) > 0


def test_copies_of_a_label_stay_in_one_half(monkeypatch):
    seen = []
    monkeypatch.setattr("mcdal.calibration._halves_best", lambda logits, _: (seen.append({*logits[:, 0]}), 1.0)[1])
    logits, y = drawn(50)
    rows = np.random.default_rng(0).integers(50, size=50)
    cross_fitted(logits, y, rows, np.random.default_rng(1))
    assert not seen[0] & seen[1] and seen[0] | seen[1] == {*logits[rows, 0]}


def test_what_labels_cannot_tell_is_said():
    logits, y = drawn(FEWEST - 1)
    few = calibrate(logits, y)
    assert few.temperature.value == 1 and "19 audit labels are too few" in few.temperature.note
    assert few.before is None and few.after is None and few.perfect is None
    logits, y = drawn(60)
    assert "from 60 audit labels is rough" in fit_temperature(logits, y).note
    all_right = fit_temperature(logits, logits.argmax(1))
    assert all_right.value == 1 and "none of them contradicts the model" in all_right.note
    all_wrong = fit_temperature(logits, logits.argmin(1))
    assert all_wrong.value == 1 and "no better than chance" in all_wrong.note
    none = calibrate(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    assert none.labels == 0 and none.temperature.value == 1


def test_huge_logits_are_no_trouble():
    logits, y = drawn(100)
    assert math.isfinite(nll(logits * 1e6, y)) and math.isfinite(calibrate(logits * 1e6, y).before.value)
