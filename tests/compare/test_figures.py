"""The paper's figures by name, and its numbers beside what was measured."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from mcdal.artifacts import Artifacts
from mcdal.compare.asked import entries
from mcdal.compare.figures import FIGURES, of_figure
from mcdal.errors import ConfigError
from mcdal.pool.cifar import JPEG_COPIES
from mcdal.recipes.cifar10 import cifar10
from mcdal.recipes.digits import digits
from mcdal.registry import load
from mcdal.report.experiments import Experiment, Group
from mcdal.report.published import published
from mcdal.report.queries import Round, Run
from mcdal.settings import override, to_json
from mcdal.store import RunRecord


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_what_exists(name):
    recipe, strategies = of_figure(name, None)
    load("recipes", recipe)
    sides = entries(strategies)
    assert sides[0].strategy == "random"
    for side in sides:
        settings = dict(f"strategy.{setting}".split("=") for setting in side.settings)
        override(replace(digits(), strategy=load("strategies", side.strategy)()), settings)


def test_other_strategies_may_be_named_and_must_be_for_a_recipe():
    assert of_figure("fig8", "random,margin") == ("cifar10", "random,margin")
    assert of_figure("digits", "random") == ("digits", "random")
    with pytest.raises(ConfigError, match=r"--strategies is missing.*fig3"):
        of_figure("digits", None)
    for name in ("fig2", "table2"):
        with pytest.raises(ConfigError, match=f"{name} is no comparison of strategies: docs/reproduce.md"):
            of_figure(name, None)


TENTHS = to_json(cifar10(Path("data")))["protocol"]


def run(
    strategy,
    seed,
    values,
    pool=50_000,
    scale="full",
    recipe="cifar10",
    overrides=None,
    protocol=TENTHS,
    metric="accuracy",
    notes=(),
):
    record = RunRecord(
        run_id=f"{strategy}-{seed}", recipe=recipe, scale=scale, strategy=strategy, seed=seed, overrides=overrides or {},
        config={"protocol": protocol}, classes=list("ab"), pool_size=pool, data_fingerprint="f", notes=list(notes),
    )  # fmt: skip
    when = datetime(2026, 1, 1)
    rounds = [
        Round(i, labels, when, when, {}, (), (), {f"test/{metric}": value})
        for i, (labels, value) in enumerate(values.items())
    ]
    return Run(record, rounds, [], {}, [], Artifacts(Path("nowhere")), False)


def experiment(*runs):
    first = runs[0].record
    by_strategy = {}
    for each in runs:
        by_strategy.setdefault(each.record.strategy, []).append(each)
    return Experiment(first.recipe, first.scale, [Group(of) for of in by_strategy.values()])


def test_the_papers_number_stands_beside_the_mean_at_the_same_labels():
    found = experiment(*(run("mcdal", s, {5_000: 0.8, 20_000: v}) for s, v in enumerate((0.93, 0.94))))
    (told,) = published(found)
    assert "MCDAL with 20 000 labels: 93.92 ± 0.24 in the paper" in told.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "with all labels 94.51" in told and "here 93.5" in told and "2 seeds" in told


@pytest.mark.parametrize(
    ("recipe", "pool", "protocol", "labels"),
    [
        ("cifar100", 50_000, TENTHS, 20_000),
        ("caltech101", 6_096, TENTHS, 2_440),  # 610 + 6 x 305
        ("cityscapes", 2_975, TENTHS | {"start": 300, "budget": 150}, 1_200),
    ],
)
def test_it_stands_where_the_protocol_ends(recipe, pool, protocol, labels):
    found = experiment(run("mcdal", 0, {labels: 0.5}, pool=pool, recipe=recipe, protocol=protocol))
    (told,) = published(found)
    assert "here 50.0" in told
    assert f"MCDAL with {labels:,} labels".replace(",", "\N{NARROW NO-BREAK SPACE}") in told


def test_copies_of_the_images_are_told():
    (told,) = published(experiment(run("mcdal", 0, {20_000: 0.9}, notes=[JPEG_COPIES])))
    assert told.endswith("1 seed (of JPEG copies of the images).")


@pytest.mark.parametrize(
    "other",
    [{"scale": "small"}, {"recipe": "digits"}, {"overrides": {"protocol.rounds": "3"}}],
    ids=["small", "other data", "changed"],
)
def test_what_is_not_the_papers_protocol_is_not_set_beside_it(other):
    assert published(experiment(run("mcdal", 0, {20_000: 0.9}, **other))) == []


def test_a_run_that_has_not_come_so_far_is_not_measured():
    (told,) = published(experiment(run("mcdal", 0, {5_000: 0.8})))
    assert told.endswith("not measured here.")
