"""What seeds show of a difference, said in words: from a store whose curves are known."""

import csv

import numpy as np
import pytest

from mcdal.report import write_report
from mcdal.report.experiments import experiments
from mcdal.report.latex import table
from mcdal.report.queries import read_runs
from mcdal.report.standings import penalty_figure, rank_figure
from mcdal.report.verdicts import sentences, verdicts
from mcdal.store import RunRecord, Store
from mcdal.values import Picks

LABELS = (100, 200, 300, 400)


def fill(out, **curves):
    """curves: of each strategy, a row a seed, the accuracy at each number of labels."""
    store = Store(out)
    for strategy, rows in curves.items():
        for seed, row in enumerate(rows):
            id = f"{strategy}-{seed}"
            store.add_run(RunRecord(id, "r", "full", strategy, seed, {}, {}, ("a", "b"), 1000, "f", ()))
            for round, value in enumerate(row):
                picks = Picks(tuple(f"{round}-{i}" for i in range(100)), np.zeros(100))
                store.begin_round(id, round, 0, picks, round > 0, {})
                store.finish_round(id, round, {"test/accuracy": float(value)}, {})
    store.close()


def said(out):
    (experiment,) = experiments(read_runs(out))
    return {v.group.strategy: " ".join(sentences(v, "test accuracy")) for v in verdicts(experiment)}


def straight(start, rise, seeds, noise, seed):
    random = np.random.default_rng(seed)
    return start + rise * np.arange(4) + random.normal(0, noise, (seeds, 1)) + random.normal(0, noise / 3, (seeds, 4))


def test_what_is_better_and_what_is_not_shown(tmp_path):
    random = straight(0.5, 0.1, 6, 0.01, 0)
    noise = np.random.default_rng(1).normal(0, 0.01, (6, 4))
    better = random + np.array([0, 0.05, 0.06, 0.06]) + noise / 5
    fill(tmp_path, random=random, mcdal=better, margin=random + noise + 0.001, badge=2 * random - better)
    told = said(tmp_path)
    assert set(told) == {"mcdal", "margin", "badge"}
    assert told["mcdal"].startswith("Better than Random: +4.7 points of mean test accuracy over 100 to 400 labels (95")
    assert "adjusted for 3 strategies" in told["mcdal"]
    assert "adjusted for 3 strategies" in told["margin"]
    assert "fewer labels than Random: 3" in told["mcdal"]
    assert told["mcdal"].endswith("instead of 400.")
    assert told["badge"].startswith("Worse than Random: −")
    assert "more labels than Random: 400 instead of 3" in told["badge"]
    assert told["margin"].startswith("No difference to Random shown with 6 seeds: ")
    assert told["margin"].endswith("seeds would show it.")


def test_numbers_of_the_saving(tmp_path):
    """Seeds that differ in their height and hardly in their gain: 80 % with 250 labels instead of 400."""
    height, gain = np.linspace(-0.01, 0.01, 5)[:, None], 0.2 + np.array([[0, 1, -1, 1, -1]]).T * 1e-5
    fill(tmp_path, random=0.5 + 0.1 * np.arange(4) + height, core_set=0.5 + gain * np.arange(4) + height)
    told = said(tmp_path)["core_set"]
    assert "It reaches 80.0\N{NARROW NO-BREAK SPACE}% test accuracy with 37\N{NARROW NO-BREAK SPACE}% (95" in told
    assert told.endswith("fewer labels than Random: 250 instead of 400.")


def test_one_seed_may_be_chance(tmp_path):
    fill(tmp_path, random=straight(0.5, 0.1, 1, 0.0, 0), mcdal=straight(0.5, 0.2, 1, 0.0, 0))
    assert said(tmp_path)["mcdal"].endswith("with one seed: it may be chance.")


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_same_curves(tmp_path, seeds):
    fill(tmp_path, random=straight(0.5, 0.1, seeds, 0.01, 0), mcdal=straight(0.5, 0.1, seeds, 0.01, 0))
    assert said(tmp_path)["mcdal"] == f"No difference to Random over 100 to 400 labels with {seeds} seeds."


def test_only_common_seeds_and_numbers_of_labels_count(tmp_path):
    random = straight(0.5, 0.1, 4, 0.01, 0)
    fill(tmp_path, random=random, mcdal=(random + 0.2)[:3, :2], margin=np.empty((0, 4)))
    (experiment,) = experiments(read_runs(tmp_path))
    (verdict,) = verdicts(experiment)
    assert verdict.seeds == 3
    assert verdict.labels.tolist() == [100, 200]
    assert verdict.area.value == pytest.approx(0.2)


def test_without_random_nothing_is_said(tmp_path):
    fill(tmp_path, mcdal=straight(0.5, 0.1, 3, 0.01, 0))
    assert said(tmp_path) == {}


def test_all_against_each_other(tmp_path):
    random = straight(0.5, 0.1, 6, 0.01, 0)
    noise = np.random.default_rng(1).normal(0, 0.002, (6, 4))
    late = random + np.array([0, 0, 0.05, 0.05]) + noise * np.array([0, 0, 1, 1])
    fill(tmp_path, random=random, mcdal=late, margin=random.copy())
    (experiment,) = experiments(read_runs(tmp_path))
    shares = list(csv.reader(penalty_figure(experiment.groups, "of", "p").csv.decode().splitlines()))[1:]
    assert {(a, b): float(share) for a, b, share in shares} == {
        ("MCDAL", "Random"): 0.5, ("MCDAL", "Margin"): 0.5, ("Random", "MCDAL"): 0.0,
        ("Random", "Margin"): 0.0, ("Margin", "MCDAL"): 0.0, ("Margin", "Random"): 0.0,
    }  # fmt: skip
    ranks = list(csv.reader(rank_figure(experiment.groups, "of", "r").csv.decode().splitlines()))[1:]
    assert {a: float(rank) for a, rank in ranks} == {"MCDAL": 1.0, "Margin": 2.5, "Random": 2.5}


def test_two_strategies_or_one_common_seed_have_no_standings(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    curves = straight(0.5, 0.1, 3, 0.01, 0)
    fill(one, random=curves, mcdal=curves)
    fill(two, random=curves, mcdal=curves, margin=curves[:1])
    for out in (one, two):
        (experiment,) = experiments(read_runs(out))
        assert penalty_figure(experiment.groups, "of", "p") is None
        assert rank_figure(experiment.groups, "of", "r") is None


def test_other_settings_are_another_family(tmp_path):
    """Strategies under two conditions are compared within each, and two of each have no standings."""
    curves = straight(0.5, 0.1, 3, 0.01, 0)
    fill(tmp_path, random=curves, mcdal=curves + 0.01)
    store = Store(tmp_path)
    for strategy in ("random", "mcdal"):
        for seed, row in enumerate(curves - 0.2):
            id, noisy = f"{strategy}-noisy-{seed}", {"conditions.noise": "0.2"}
            store.add_run(RunRecord(id, "r", "full", strategy, seed, noisy, {}, ("a", "b"), 1000, "g", ()))
            for round, value in enumerate(row):
                picks = Picks(tuple(f"{round}-{i}" for i in range(100)), np.zeros(100))
                store.begin_round(id, round, 0, picks, round > 0, {})
                store.finish_round(id, round, {"test/accuracy": float(value)}, {})
    store.close()
    (experiment,) = experiments(read_runs(tmp_path))
    assert [len(family) for family in experiment.families] == [2, 2]
    assert all(v.together == 1 for v in verdicts(experiment))
    assert all(penalty_figure(family, "of", "p") is None for family in experiment.families)


def test_a_table_for_a_paper(tmp_path):
    fill(
        tmp_path,
        random=straight(0.5, 0.1, 2, 0.0, 0),
        core_set=straight(0.5, 0.2, 2, 0.0, 0) + np.array([[0.01], [-0.01]]),
    )
    lines = table(experiments(read_runs(tmp_path))[0]).splitlines()
    assert lines[1:4] == [r"\begin{tabular}{lrrrrr}", r"\toprule", r"labels & 100 & 200 & 300 & 400 & seeds \\"]
    assert lines[5] == (
        r"Core set & \textbf{50.00} $\pm$ 1.41 & \textbf{70.00} $\pm$ 1.41 & \textbf{90.00} $\pm$ 1.41 & "
        r"\textbf{110.00} $\pm$ 1.41 & 2 \\"
    )
    assert lines[6].startswith(r"Random & \textbf{50.00} $\pm$ 0.00 & 60.00 $\pm$ 0.00 & ")
    assert (write_report(tmp_path).parent / "curves" / "r-full_table.tex").read_text().splitlines() == lines


def test_names_that_latex_would_read(tmp_path):
    fill(tmp_path, **{"a_b&c%d": straight(0.5, 0.1, 1, 0.0, 0)})
    assert r"a\_b\&c\%d & " in table(experiments(read_runs(tmp_path))[0])
