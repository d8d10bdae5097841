"""Strategies and recipes by name: our own, plugins, and files that people wrote, with and without mistakes."""

import sys
from importlib.metadata import EntryPoint

import pytest

import mcdal.registry
from mcdal.errors import ConfigError
from mcdal.registry import describe, listed, load, name_of
from mcdal.strategies.margin import Margin

OWN = '''
from dataclasses import dataclass
from mcdal.strategies.base import Strategy
from mcdal.strategies.random import Random
from mcdal.testing import fake_config

@dataclass
class Mine(Random):
    """Picks as Random does."""
    power: float = 2.0
    """Has no effect."""

class Plain(Random):
    """Nothing to set."""

@dataclass
class Needs(Strategy):
    temperature: float

class Undecorated(Random):
    power: float = 2.0

class WithInit(Random):
    def __init__(self, power=2.0):
        self.power = power

class Other: ...

made = Mine()

def pets():
    """Takes a second."""
    return fake_config(Mine())
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, with OWN in own.py; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "own.py").write_text(OWN)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def plugins(monkeypatch, *points, kind="strategies"):
    """As if packages with these entry points were installed, given as (name, value)."""
    made = [EntryPoint(name, value, f"mcdal.{kind}") for name, value in points]
    monkeypatch.setattr(mcdal.registry, "entry_points", lambda group: [p for p in made if p.group == group])


def test_an_own_strategy_by_file_and_by_module(folder):
    by_file, by_module = load("strategies", "own.py:Mine"), load("strategies", "own:Mine")
    assert by_file.__name__ == by_module.__name__ == "Mine"
    assert name_of(by_file()) == "own.py:Mine" and name_of(by_module()) == "own:Mine" and name_of(Margin()) == "margin"
    assert load("strategies", f"{folder / 'own.py'}:Plain")().select


def test_a_recipe_and_a_strategy_of_one_file_are_one_module(folder):
    recipe, strategy = load("recipes", "own.py:pets"), load("strategies", "own.py:Mine")
    assert type(recipe().strategy) is strategy
    (folder / "own.py").write_text(OWN + "\n# changed\n")
    assert load("strategies", "own.py:Mine") is not strategy, "a changed file is read again"


def test_a_file_may_import_those_beside_it(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "neighbour_of_own.py").write_text(OWN)
    (folder / "deep" / "pets.py").write_text("from neighbour_of_own import Mine, pets\n")
    assert load("recipes", "deep/pets.py:pets")().strategy


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("strategies", "margn", "no strategy 'margn': did you mean 'margin'? there are "),
        ("strategies", "own.py:mine", "own.py has no 'mine' to use as a strategy; it has Mine, Plain"),
        ("strategies", "own.py", "own.py is a file: say which strategy of it: own.py:Mine, own.py:Plain"),
        ("recipes", "own.py", "own.py is a file: say which recipe of it: own.py:pets"),
        ("strategies", "own.py:", "'own.py:': write path/to/file.py:NAME or package.module:NAME"),
        ("strategies", ":Mine", "':Mine': write path/to/file.py:NAME"),
        ("strategies", "own.py:Other", "it is the class Other, not a class that extends mcdal.Strategy"),
        ("strategies", "own.py:made", "it is an object of Mine, not a class that extends mcdal.Strategy"),
        ("strategies", "own.py:pets", "it is an object of function, not a class"),
        ("strategies", "own.py:Strategy", "it is the class Strategy, not a class that extends"),
        (
            "strategies",
            "own.py:Needs",
            "own.py:Needs cannot be used as a strategy: give a default to its field temperature",
        ),
        ("strategies", "own.py:Undecorated", "put @dataclass above the class"),
        ("strategies", "own.py:WithInit", "put @dataclass above the class"),
        ("recipes", "own.py:made", "it is an object of Mine, not a function"),
        ("recipes", "nowhere.py:pets", "no file nowhere.py: it was looked for in"),
        ("recipes", "no_such_module:pets", "no_such_module cannot be imported: ModuleNotFoundError: No module named"),
    ],
)
def test_what_is_not_there_or_does_not_fit(folder, kind, name, words):
    with pytest.raises(ConfigError) as error:
        load(kind, name)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1\ndef f(:\n    pass\n", 2, "SyntaxError"),
        ("x = 1\n\ny = 1 / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("import no_such_package\n", 1, "ModuleNotFoundError: No module named 'no_such_package'"),
        ("import json\n\n\njson.loads('{')\n", 4, "JSONDecodeError"),
    ],
)
@pytest.mark.parametrize("name", ["broken_file.py:X", "broken_file:X"])
def test_a_file_that_cannot_be_imported_names_file_and_line(folder, name, text, line, words):
    (folder / "broken_file.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        load("strategies", name)
    told = str(error.value)
    assert words in told and told.startswith(name.removesuffix(":X"))
    if name == "broken_file.py:X" or "JSON" not in words:  # of a module, the last line that was executed is named
        assert f"broken_file.py:{line}: " in told
    assert not [m for m in sys.modules if "broken_file" in m]


def test_plugins_are_listed_and_loaded(folder, monkeypatch):
    plugins(monkeypatch, ("zeal", "own:Mine"), ("pets", "own:pets"))
    assert listed("strategies")["zeal"] == "from own:Mine"
    assert [name for name in listed("strategies") if name in ("margin", "mcdal", "random")] == [
        "margin",
        "mcdal",
        "random",
    ]
    assert "zeal" not in listed("recipes")
    monkeypatch.syspath_prepend(folder)
    assert load("strategies", "zeal").__name__ == "Mine"
    plugins(monkeypatch, ("pets", "own:pets"), kind="recipes")
    assert load("recipes", "pets")().protocol.rounds == 4


def test_plugins_with_mistakes_are_named(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "bad_plugin.py").write_text("import no_such_package\n")
    plugins(
        monkeypatch,
        ("bad", "bad_plugin:X"),
        ("gone", "own:Gone"),
        ("wrong", "own:Other"),
        ("two", "own:Mine"),
        ("two", "own:Plain"),
    )
    assert "bad" in listed("strategies"), "listing imports nothing"
    for name, words in {
        "bad": "the plugin 'bad' (bad_plugin:X) cannot be imported: ",
        "gone": "the plugin 'gone' (own:Gone) cannot be imported: AttributeError",
        "wrong": "own:Other cannot be used as a strategy",
        "two": "several plugins are called 'two': name the one you mean: own:Mine, own:Plain",
    }.items():
        with pytest.raises(ConfigError) as error:
            load("strategies", name)
        assert words in str(error.value)
    assert listed("strategies")["two"] == "from own:Mine, and from own:Plain"


def test_a_plugin_does_not_replace_our_own(folder, monkeypatch):
    plugins(monkeypatch, ("margin", "own:Mine"))
    assert load("strategies", "margin") is Margin
    line = listed("strategies")["margin"]
    assert line.startswith("label where") and line.endswith("(hides the plugin own:Mine, which is named so too)")


def test_a_strategy_is_described_with_its_fields(folder):
    told = describe("strategies", "mcdal")
    assert told.startswith("mcdal: two auxiliary heads") and "strategy.heads = 2\n      Number of auxiliary" in told
    assert "_model" not in told
    mine = describe("strategies", "own.py:Mine")
    assert "Picks as Random does." in mine and "strategy.power = 2\n      Has no effect." in mine
    assert "No fields." in describe("strategies", "random")


def test_a_recipe_is_described_with_what_it_needs(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    told = describe("recipes", "cifar10")
    assert "--data DIR    The folder with CIFAR-10" in told and "--scale NAME  full (the default), small" in told
    assert "strategy      mcdal" in told and "protocol.budget = 0.05" in told and "model.stem = 3x3" in told
    assert max(map(len, told.partition("Fields and")[2].splitlines())) <= 70
    assert "--data" not in describe("recipes", "digits")
    assert "strategy      own.py:Mine" in describe("recipes", "own.py:pets")
    (folder / "looks.py").write_text("def looks(data):\n    '''Pictures.'''\n    return next(data.iterdir())\n")
    assert "--data DIR    Pictures.\n\nIts fields cannot be shown without its data" in describe(
        "recipes", "looks.py:looks"
    )
