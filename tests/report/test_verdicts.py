"""What seeds show of a difference, said in words: from a store whose curves are known."""

import csv

import numpy as np
import pytest

from mcdal.report import write_report
from mcdal.report.experiments import experiments
from mcdal.report.latex import table
from mcdal.report.outcomes import left_out, remarks
from mcdal.report.queries import read_runs
from mcdal.report.standings import beats, penalty_figure, rank_figure, unranked
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
    shares = list(csv.reader(penalty_figure(experiment.families[0], "of", "p").csv.decode().splitlines()))[1:]
    assert {(a, b): float(share) for a, b, share in shares} == {
        ("MCDAL", "Random"): 2 / 3, ("MCDAL", "Margin"): 2 / 3, ("Random", "MCDAL"): 0.0,
        ("Random", "Margin"): 0.0, ("Margin", "MCDAL"): 0.0, ("Margin", "Random"): 0.0,
    }, "nobody can win the start that all share"  # fmt: skip
    ranks = list(csv.reader(rank_figure(experiment.families[0], "of", "r").csv.decode().splitlines()))[1:]
    assert {a: float(rank) for a, rank in ranks} == {"MCDAL": 1.0, "Margin": 2.5, "Random": 2.5}


def test_one_strategy_with_few_seeds_takes_none_from_the_others(tmp_path):
    """It is compared with each over what both have, and has no rank."""
    random = straight(0.5, 0.1, 6, 0.01, 0)
    noise = np.random.default_rng(1).normal(0, 0.002, (3, 6, 4))
    fill(
        tmp_path, random=random, mcdal=random + 0.05 + noise[0], margin=random + 0.02 + noise[1],
        badge=random - 0.05 + noise[2], core_set=(random + 0.1)[:2],
    )  # fmt: skip
    (experiment,) = experiments(read_runs(tmp_path))
    (family,) = experiment.families
    ranks = dict(list(csv.reader(rank_figure(family, "of", "r").csv.decode().splitlines()))[1:])
    assert {a: float(rank) for a, rank in ranks.items()} == {"MCDAL": 1.0, "Margin": 2.0, "Random": 3.0, "BADGE": 4.0}
    assert unranked(family) == ["Core set"]
    titles, beaten, seeds = beats({**curves_of(family)})
    assert sorted(seeds) == [2] * 4 + [6] * 6
    at = titles.index
    assert beaten[at("MCDAL"), at("Random")] == 1 and beaten[at("Random"), at("MCDAL")] == 0
    assert np.isnan(beaten[at("Random"), at("Random")])
    assert "Core set: it has no mean rank, since it lacks seeds" in " ".join(left_out(experiment))


def curves_of(family):
    return {family.name(g): {run.record.seed: curve for run, curve in g.curves()} for g in family.groups}


def test_two_strategies_or_one_common_seed_have_no_standings(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    curves = straight(0.5, 0.1, 3, 0.01, 0)
    fill(one, random=curves, mcdal=curves)
    fill(two, random=curves, mcdal=curves, margin=curves[:1])
    for out in (one, two):
        (experiment,) = experiments(read_runs(out))
        assert penalty_figure(experiment.families[0], "of", "p") is None
        assert rank_figure(experiment.families[0], "of", "r") is None


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
    assert [len(family.groups) for family in experiment.families] == [2, 2]
    assert all(v.together == 1 for v in verdicts(experiment))
    assert all(penalty_figure(family, "of", "p") is None for family in experiment.families)
    assert {family.title for family in experiment.families} == {"", "conditions.noise=0.2"}
    clean, noisy = table(experiment).split("\n\n")
    assert "noise" not in clean and noisy.startswith("% r · full · conditions.noise=0.2")
    assert noisy.count("MCDAL") == clean.count("MCDAL") == 1
    assert remarks(experiment) == [], "what is never compared need not be alike"


def test_a_table_for_a_paper(tmp_path):
    fill(
        tmp_path,
        random=straight(0.5, 0.1, 2, 0.0, 0),
        core_set=straight(0.51, 0.2, 2, 0.0, 0) + np.array([[0.01], [-0.01]]),
    )
    lines = table(experiments(read_runs(tmp_path))[0]).splitlines()
    assert lines[1:4] == [r"\begin{tabular}{lrrrrr}", r"\toprule", r"labels & 100 & 200 & 300 & 400 & seeds \\"]
    assert lines[5] == (
        r"Core set & \textbf{51.00} $\pm$ 1.41 & \textbf{71.00} $\pm$ 1.41 & \textbf{91.00} $\pm$ 1.41 & "
        r"\textbf{111.00} $\pm$ 1.41 & 2 \\"
    )
    assert lines[6].startswith(r"Random & 50.00 $\pm$ 0.00 & 60.00 $\pm$ 0.00 & ")
    assert (write_report(tmp_path).parent / "curves" / "r-full_table.tex").read_text().splitlines() == lines


def test_bold_is_what_is_best_at_equal_seeds_and_not_a_start_that_all_share(tmp_path):
    shared, more = tmp_path / "shared", tmp_path / "more"
    random = straight(0.5, 0.1, 3, 0.0, 0)
    fill(shared, random=random, mcdal=random + np.array([0, 0.1, 0.1, 0.1]))
    fill(more, random=random, mcdal=(random + 0.1)[:2])
    line = next(line for line in table(experiments(read_runs(shared))[0]).splitlines() if line.startswith("MCDAL"))
    assert line.startswith(r"MCDAL & 50.00 $") and line.count("textbf") == 3
    assert "textbf" not in table(experiments(read_runs(more))[0])


def test_all_numbers_are_files(tmp_path):
    random = straight(0.5, 0.1, 5, 0.01, 0)
    better = random + 0.05 + np.random.default_rng(1).normal(0, 0.002, (5, 4))
    fill(tmp_path, random=random, mcdal=better)
    folder = write_report(tmp_path).parent / "curves"
    told = list(csv.DictReader((folder / "r-full_summary.csv").read_text().splitlines()))
    assert [(row["group"], row["labels"]) for row in told] == [(g, str(n)) for g in ("MCDAL", "Random") for n in LABELS]
    last = told[3]
    assert float(last["mean"]) == pytest.approx(better[:, 3].mean())
    assert float(last["deviation"]) == pytest.approx(better[:, 3].std(ddof=1))
    assert float(last["low"]) < float(last["mean"]) < float(last["high"]) and last["seeds"] == "5"
    (row,) = csv.DictReader((folder / "r-full_verdicts.csv").read_text().splitlines())
    assert float(row["area"]) - float(row["random_area"]) == pytest.approx(float(row["difference"]))
    assert float(row["low"]) < float(row["difference"]) < float(row["high"]) and float(row["p_adjusted"]) < 0.01
    assert 0 < float(row["saved_low"]) <= float(row["labels_saved"]) <= float(row["saved_high"]) < 1


def test_what_is_reached_with_the_first_labels_may_need_fewer(tmp_path):
    random = straight(0.5, 0.01, 5, 0.001, 0)
    fill(tmp_path, random=random, ll=random + 0.1 + np.random.default_rng(1).normal(0, 0.001, (5, 4)))
    assert "with at least 75\N{NARROW NO-BREAK SPACE}%" in said(tmp_path)["ll"]


def test_three_seeds_have_no_interval_of_what_is_saved(tmp_path):
    random = straight(0.5, 0.1, 3, 0.001, 0)
    fill(tmp_path, random=random, mcdal=random + 0.05 + np.random.default_rng(1).normal(0, 0.0001, (3, 4)))
    assert "fewer labels than Random: 3" in said(tmp_path)["mcdal"]
    assert said(tmp_path)["mcdal"].count("95\N{NARROW NO-BREAK SPACE}%") == 1, "that of the difference alone"


def test_names_that_latex_would_read(tmp_path):
    fill(tmp_path, **{"a_b&c%d": straight(0.5, 0.1, 1, 0.0, 0)})
    assert r"a\_b\&c\%d & " in table(experiments(read_runs(tmp_path))[0])
