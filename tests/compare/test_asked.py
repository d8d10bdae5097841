"""What `--strategies` and `--seeds` mean, and what they cannot mean."""

from pathlib import Path

import pytest

from mcdal.command import Command
from mcdal.compare.asked import Entry, commands, entries, seeds, variations
from mcdal.errors import ConfigError


def test_strategies_with_fields_of_their_own():
    assert entries("mcdal, random,mcdal[heads=4,distance=kl],my.py:Own[widths=(1,2)]") == [
        Entry("mcdal"),
        Entry("random"),
        Entry("mcdal", ("heads=4", "distance=kl")),
        Entry("my.py:Own", ("widths=(1,2)",)),
    ]
    assert [e.title for e in entries("mcdal[heads=4]")] == ["mcdal[heads=4]"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "--strategies is empty"),
        (" , ", "--strategies is empty"),
        ("margin,random,margin", "margin is named twice"),
        ("mcdal[heads=4", "cannot read 'mcdal[heads=4'"),
        ("mcdal]x[", "cannot read"),
        ("[heads=4]", "cannot read"),
    ],
)
def test_strategies_that_cannot_be_read(text, words):
    with pytest.raises(ConfigError) as error:
        entries(text)
    assert words in str(error.value)


def test_seeds():
    assert seeds("0-4") == [0, 1, 2, 3, 4]
    assert seeds("7, 0-2,1") == [0, 1, 2, 7]
    for text in ("", "4-0", "a", "1,,2", "-1", "0-1000000"):
        with pytest.raises(ConfigError, match="write 0-4 or 0,2,5"):
            seeds(text)


def test_every_cell_is_a_command_that_gives_its_plan():
    of = Command("digits", settings=("protocol.rounds=2",))
    made = commands(of, entries("mcdal[heads=4],random"), [0, 3])
    assert [plan.run_id.rpartition("-")[2] for _, plan in made] == ["s0", "s0", "s3", "s3"]
    command, plan = made[2]
    assert plan.config.strategy.heads == 4 and plan.config.protocol.rounds == 2 and plan.seed == 3
    assert command.words() == [
        "digits", "--strategy", "mcdal", "--seed", "3", "--set", "protocol.rounds=2", "--set", "strategy.heads=4",
    ]  # fmt: skip
    assert command.plan() == plan


def test_the_same_run_by_two_names_is_refused():
    with pytest.raises(
        ConfigError, match=r"mcdal\[heads=4\] and mcdal\[heads= 4\] are the same run, digits-mcdal-\w+-s0"
    ):
        commands(Command("digits"), entries("mcdal[heads=4],mcdal[heads= 4]"), [0])


def test_a_side_that_sets_what_is_so_anyway_is_refused():
    """Its runs would be the same ones, and count twice in every test."""
    with pytest.raises(ConfigError, match=r"mcdal and mcdal\[heads=2\] are the same, since one sets defaults"):
        commands(Command("digits"), entries("mcdal,mcdal[heads=2]"), [0])


def test_every_combination_of_what_is_varied():
    assert variations([]) == [()]
    assert variations(["protocol.budget=10, 20", "conditions.noise=0,0.2"]) == [
        ("protocol.budget=10", "conditions.noise=0"), ("protocol.budget=10", "conditions.noise=0.2"),
        ("protocol.budget=20", "conditions.noise=0"), ("protocol.budget=20", "conditions.noise=0.2"),
    ]  # fmt: skip
    for text in ("protocol.budget", "protocol.budget=10", "protocol.budget=10,10"):
        with pytest.raises(ConfigError, match="write FIELD=A,B with different values"):
            variations([text])
    made = commands(Command("digits"), entries("random,margin"), [0], variations(["protocol.budget=10,20"]))
    assert [(plan.strategy_name, plan.config.protocol.budget) for _, plan in made] == [
        ("random", 10), ("margin", 10), ("random", 20), ("margin", 20),
    ]  # fmt: skip
    assert len({plan.run_id for _, plan in made}) == 4


def test_what_is_wrong_with_the_recipe_is_not_blamed_on_a_strategy():
    with pytest.raises(ConfigError, match=r"^no recipe 'nosuch'"):
        commands(Command("nosuch"), entries("random"), [0])
    with pytest.raises(ConfigError, match=r"^the recipe digits takes no --scale"):
        commands(Command("digits", scale="small"), entries("random"), [0])
    with pytest.raises(ConfigError, match=r"^--set protocol.budjet"):
        commands(Command("digits"), entries("random"), [0], [("protocol.budjet=1",)])


def test_what_a_command_says_again():
    words = Command("camvid", Path("a b"), "mcdal", None, 1, "small", ("x=1",)).words()
    assert words == [
        "camvid",
        "--data",
        "a b",
        "--strategy",
        "mcdal",
        "--scale",
        "small",
        "--seed",
        "1",
        "--set",
        "x=1",
    ]


def test_a_cell_that_cannot_be_is_told_before_anything_runs():
    with pytest.raises(ConfigError, match=r"^random\[heads=4\]: --set strategy.heads"):
        commands(Command("digits"), entries("mcdal,random[heads=4]"), [0])
    with pytest.raises(ConfigError, match="no strategy 'nothing'"):
        commands(Command("digits"), entries("nothing"), [0])
