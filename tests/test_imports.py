"""Imports point one way, the core needs no extra, and the public names are these."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mcdal
from mcdal.store import Store

PACKAGE = Path(mcdal.__file__).parent

# A module may import from its own level and from those after it.
LEVELS = [
    {"__main__"},
    {"cli"},
    {"label_studio"},
    {"compare", "campaign"},
    {"console", "estimate", "options", "pages", "status", "testing", "report"},
    {"command", "embed", "loop", "recipes", "from_files"},
    {"outputs"},
    {"batches", "looking"},
    {"round_models"},
    {"features", "groups", "twins", "warm_start"},
    {"ray_training"},
    {"passes"},
    {"artifacts", "checkpoint", "environment", "tables", "trainer"},
    {"config", "plan", "registry", "settings"},
    {"simclr"},
    {"likeness", "pictures", "showing", "inputs", "classifier"},
    {
        "training",
        "work",
        "step",
        "feed",
        "mask_files",
        "measuring",
        "oracles",
        "store",
        "address",
        "database",
        "dialects",
        "postgres",
        "postgres_errors",
        "sqlite",
        "migrations",
        "campaign_tables",
        "schema",
    },
    {"strategies"},
    {"networks"},
    {"encoders", "models", "pool", "selection", "schedule", "uncertainty", "discrepancy", "windows"},
    {"augment", "scenes", "tasks", "views"},
    {
        "calibration",
        "checked",
        "device",
        "in_step",
        "own_code",
        "pickling",
        "process_group",
        "processes",
        "rank_process",
        "ranks",
        "ray_cluster",
        "replay",
        "synced",
        "statistics",
        "extras",
        "stopping",
        "streams",
        "events",
        "hashes",
        "ids",
        "locks",
        "stack",
        "values",
        "errors",
        "version",
        "softmax",
        "tensors",
        "writing",
    },
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def imports(path):
    """First-level names of this package that a file imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mcdal."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "mcdal":
            yield from (alias.name for alias in node.names if alias.name in LEVEL)


def test_every_module_has_a_level():
    names = {p.stem for p in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert names - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imports(path):
        assert LEVEL[name] >= LEVEL[own], f"{own} imports {name}, which stands above it"


def test_the_loop_names_no_strategy_task_or_model():
    named = set(imports(PACKAGE / "loop.py"))
    text = (PACKAGE / "loop.py").read_text()
    assert "recipes" not in named
    for part in ("strategies.random", "strategies.margin", "strategies.mcdal", "tasks.", "models.resnet"):
        assert f"mcdal.{part}" not in text


def test_the_core_imports_without_the_extras():
    """Every module, with torchvision, timm and all that only tests need made impossible to import."""
    names = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in PACKAGE.rglob("*.py")]
    names = [n.removesuffix(".__init__") for n in names if not n.endswith("__main__")]
    code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torchvision', 'timm', 'beartype', 'hypothesis', 'pytest'):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_public_names():
    assert set(mcdal.__all__) >= {"Config", "MCDAL", "Pool", "Plan", "run", "train", "measure", "select", "wrap"}
    for name in mcdal.__all__:
        assert getattr(mcdal, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        mcdal.nonsense  # noqa: B018


@pytest.mark.parametrize("command", ["--help", "strategies", "status --out ."])
def test_commands_that_only_tell_are_quick_and_import_no_torch(command, tmp_path):
    """Processor time, not that of a clock: other processes may be at work. Twice the bound, as a machine may be slow."""
    Store(tmp_path).close()
    code = f"""
import sys, time
begun = time.process_time()
from mcdal.cli import main
sys.argv = ['mcdal', *{command.split()!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {{'torch', 'pyarrow', 'scipy', 'sklearn', 'matplotlib', 'PIL'}} & set(sys.modules)
assert not heavy, heavy
print(time.process_time() - begun)
"""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout.splitlines()[-1]) < {"--help": 0.6}.get(command, 2.0)


def test_listing_and_help_import_no_torch():
    code = """
import sys, mcdal, mcdal.cli
from mcdal.registry import listed
assert 'mcdal' in listed('strategies')
assert not {'torch', 'numpy', 'sqlalchemy'} & set(sys.modules), set(sys.modules) & {'torch', 'numpy', 'sqlalchemy'}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
