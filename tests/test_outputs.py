"""Picking from arrays: the same as the engine picks, whatever the arrays are made of, and what is told of wrong ones."""

import numpy as np
import pytest
import torch

import mcdal
from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import measure, select
from mcdal.outputs import AT_ONCE, ON_ARRAYS, select_from
from mcdal.registry import listed, load
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.margin import Margin
from mcdal.strategies.random import Random
from mcdal.strategies.uherding import UHerding
from mcdal.testing import NUMERICS, fake_trained

ABLE = [name for name in listed("strategies") if set(load("strategies", name).about.needs) <= ON_ARRAYS]


def outputs(n=50, classes=4, d=6, labeled=12, seed=0):
    random = np.random.default_rng(seed)
    y = np.full(n, -1)
    y[:labeled] = np.arange(labeled) % classes
    return {
        "probabilities": random.dirichlet(np.ones(classes), n).astype("f4"),
        "features": random.normal(size=(n, d)).astype("f4"),
        "labels": y,
    }


@pytest.mark.parametrize("name", ABLE)
def test_picks_are_the_engines(name):
    """The outputs of a model that our engine trained, by arrays and by the pass over the pool."""
    trained = fake_trained(Random())
    pool, model = trained.pool, trained.model
    strategy = load("strategies", name)()
    rows = measure(model, pool, trained.labels, strategy, numerics=NUMERICS)
    with torch.no_grad():
        x = torch.from_numpy(pool.images.pixels).permute(0, 3, 1, 2).double() / 255
        output = model.eval()((x - torch.tensor(pool.mean)[:, None, None]) / torch.tensor(pool.std)[:, None, None])
    labels = np.array([trained.labels.get(id, -1) for id in pool.images.ids])
    arrays = {"logits": output.logits, "features": output.features.float(), "labels": labels, "ids": pool.images.ids}
    picks = select_from(strategy, 7, **arrays, seed=3)
    expected = select(strategy, rows, 7, seed=3)
    assert picks.ids == expected.ids
    np.testing.assert_allclose(picks.score, expected.score, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ABLE)
def test_a_mapped_file_gives_the_same_picks_and_is_not_written_to(name, tmp_path):
    arrays = outputs()
    picks = select_from(name, 6, **arrays)
    for key in ("probabilities", "features"):
        np.save(tmp_path / key, arrays[key])
        arrays[key] = np.load(tmp_path / f"{key}.npy", mmap_mode="r")
    again = select_from(name, 6, **arrays)
    assert again.ids == picks.ids and len(set(picks.ids)) == 6
    assert not {int(id) for id in picks.ids} & set(range(12))


def test_margin_by_hand():
    p = [[0.5, 0.4, 0.1], [0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [1.0, 0.0, 0.0]]
    picks = mcdal.select_from("margin", 3, probabilities=p)
    assert picks.ids == ("2", "0", "1")
    np.testing.assert_allclose(picks.score, [0.95, 0.9, 0.2])
    assert select_from("margin", 3, probabilities=p, labeled=[0, 0, 1, 0]).ids == ("0", "1", "3")
    assert select_from("margin", 2, probabilities=p, ids=["w", "x", "y", "z"]).ids == ("y", "w")


def test_equal_scores_by_row_number_and_by_id():
    p = np.full((12, 2), 0.5)
    assert select_from("margin", 12, probabilities=p).ids == tuple(str(i) for i in range(12))
    assert select_from("margin", 3, probabilities=p, ids=[f"{i}" for i in range(12)]).ids == ("0", "1", "10")


def test_logits_and_their_softmax_are_one():
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    one = select_from("entropy", 9, logits=logits)
    assert select_from("entropy", 9, probabilities=logits.double().softmax(1)).ids == one.ids
    assert len(select_from("entropy", 9, logits=logits.bfloat16(), seed=1)) == 9
    assert len(select_from("entropy", 9, probabilities=logits.softmax(1).half())) == 9


def test_more_rows_than_are_measured_at_once():
    arrays = outputs(n=AT_ONCE + 500, labeled=100)
    p = np.sort(arrays["probabilities"].astype("f8"), axis=1)
    order = np.argsort((p[:, -1] - p[:, -2])[100:], kind="stable") + 100
    assert select_from("margin", 20, **arrays).ids == tuple(map(str, order[:20].tolist()))


def test_without_outputs():
    assert len(select_from("random", 3, ids=["x", "y", "z", "w"])) == 3
    assert len(select_from("random", 30, labeled=np.zeros(5, dtype=bool))) == 5
    with pytest.raises(ConfigError, match="nothing to pick from"):
        select_from("random", 3)


def test_features_stay_where_they_are():
    class Spy(CoreSet):
        def select(self, rows, budget, seed):
            seen.append(rows.vector)
            return super().select(rows, budget, seed)

    seen = []
    features = outputs()["features"]
    select_from(Spy(), 3, features=features)
    assert seen[0] is features


def test_uherding_without_its_second_network():
    arrays = outputs()
    assert len(select_from(UHerding(held_out=0.0), 5, **arrays)) == 5
    with pytest.raises(ConfigError, match="uherding needs to train networks beside the task model"):
        select_from(UHerding(), 5, **arrays)


@pytest.mark.parametrize("name", [name for name in ABLE if "features" in load("strategies", name).about.needs])
def test_a_feature_that_is_too_large_for_float32_is_refused(name):
    arrays = outputs()
    arrays["features"] = arrays["features"].astype("f8")
    arrays["features"][20, 3] = 1e39
    with pytest.raises(SelectionError, match="'row 20' are not finite"):
        select_from(name, 5, **arrays)


def test_labels_of_unlabeled_rows_do_not_reach_the_strategy():
    class Spy(Random):
        def select(self, rows, budget, seed):
            seen.append(rows.y)
            return super().select(rows, budget, seed)

    seen = []
    select_from(Spy(), 3, labels=np.arange(10) % 4, labeled=np.arange(10) < 3)
    assert seen[0].tolist() == [0, 1, 2] + [-1] * 7


def changed(**changes):
    return lambda arrays: arrays | changes


def broken(name, row, value):
    def change(arrays):
        array = arrays[name].copy()
        array[row] = value
        return arrays | {name: array}

    return change


@pytest.mark.parametrize(
    ("strategy", "change", "error", "told"),
    [
        ("badge", changed(features=None), ConfigError, "badge needs features: not given"),
        ("mcdal_posthoc", changed(labels=None), ConfigError, "mcdal_posthoc needs labels"),
        ("margin", changed(probabilities=None), ConfigError, "margin needs probabilities or logits"),
        ("margin", changed(logits=np.zeros((50, 4))), ConfigError, "logits are both given"),
        ("bald", changed(), ConfigError, "bald needs the task model itself, .* those that can: badge, bait"),
        ("mcdal", changed(), ConfigError, "mcdal needs to train networks"),
        ("margin", changed(features=np.zeros((49, 2))), SelectionError, "probabilities 50, features 49"),
        ("margin", changed(ids=["x"] * 50), SelectionError, "'x' is there twice, the second time at row 1"),
        ("margin", changed(probabilities=np.zeros(50)), SelectionError, r"float64 of shape \(50,\); .*\(n, classes\)"),
        ("margin", changed(probabilities=np.full((50, 2), "x")), SelectionError, "give numbers of shape"),
        ("margin", broken("probabilities", 20, 0.5), SelectionError, "'row 20' sum to 2: .*given as logits"),
        ("margin", broken("probabilities", 20, [-0.5, 0.5, 1, 0]), SelectionError, "'row 20' go down to -0.5"),
        ("margin", broken("probabilities", 7, np.nan), SelectionError, "'row 07'"),
        ("core_set", broken("features", 31, np.inf), SelectionError, "'row 31' are not finite"),
        ("margin", broken("labels", 3, 4), SelectionError, "label of 'row 03' is 4: give class indices, 0 to 3"),
        ("margin", changed(labels=np.full(50, 0.5)), SelectionError, "label of 'row 00' is 0.5"),
        ("margin", changed(labels=np.zeros(50, dtype=bool)), SelectionError, "give class indices"),
        ("margin", changed(labeled=np.arange(50)), SelectionError, "labeled is 2 for 'row 02': give true or false"),
        ("margin", changed(labeled=np.arange(50) < 13), SelectionError, r"'row 12' is labeled, .* -1 \(1 such"),
        ("margin", changed(labels=None, labeled=np.ones(50)), SelectionError, "all 50 rows are labeled"),
        ("margin", changed(probabilities=np.ones((50, 1)), labels=None), SelectionError, "there is one class"),
        ("nobody", changed(), ConfigError, "no strategy 'nobody'"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_told(strategy, change, error, told):
    with pytest.raises(error, match=told):
        select_from(strategy, 5, **change(outputs()))


def test_no_rows_and_no_budget():
    with pytest.raises(SelectionError, match="have no rows"):
        select_from("margin", 5, probabilities=np.zeros((0, 3)))
    with pytest.raises(SelectionError, match="budget of 0"):
        select_from(Margin(), 0, **outputs())
