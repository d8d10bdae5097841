"""Every registered strategy measures the same by shards as in one piece: in this process, and in another after pickling."""

import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from mcdal.measuring import select
from mcdal.passes import measure_shards, pick, rows_of
from mcdal.passes.engine import Engine
from mcdal.passes.tags import identity
from mcdal.pool.base import Pool
from mcdal.registry import listed
from mcdal.strategies.margin import Margin
from mcdal.strategies.mc_dropout import MCDropout
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import NUMERICS, FakeSharded, fake_pool, fake_scenes, fake_setting, fake_trained, fake_training
from mcdal.training import train
from tests.passes.registry import kept
from tests.strategies.test_contract import ABLE, EVERY

FEW = partial(fake_pool, 36)
REGISTERED = {name: (EVERY[name], FEW) for name in listed("strategies")}
OTHERS = {name: (make, FEW) for name, make in EVERY.items() if name not in REGISTERED}
OTHERS |= {f"{name}, scenes": (make, fake_scenes) for name, make in ABLE.items()}
CASES = REGISTERED | OTHERS
SLOW_TO_CHOOSE = {"mcdal_posthoc"}
SIZE = 14  # no multiple of the batch size, and a last shard that is smaller


class Keep(Engine):
    """Keeps the job for another process."""

    def measure(self, job, folder, shards, progress):
        (folder.path / "job").write_bytes(job.packed())
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    return in_one_process(REGISTERED, tmp_path_factory)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return in_one_process(OTHERS, tmp_path_factory)


def in_one_process(cases, tmp_path_factory):
    """What was trained, its shards and a folder of each case; all measured by one other process."""
    found = {}
    lines = []
    for number, (name, (make, pool)) in enumerate(cases.items()):
        trained = fake_trained(make(), pool=pool())
        folder = tmp_path_factory.mktemp(f"case-{number}")
        sharded = FakeSharded(pool, SIZE)
        with pytest.raises(KeyboardInterrupt):
            ask(trained, sharded, folder, engine=Keep())
        found[name] = trained, sharded, folder
        lines.append(f"{folder / 'job'} {folder}\n")
    code = "from tests.passes.registry import main; main()"
    subprocess.run([sys.executable, "-c", code], input="".join(lines), text=True, check=True)
    return found


def ask(trained, sharded, folder, **more):
    return measure_shards(
        trained.model, sharded, trained.strategy, folder, numerics=NUMERICS, batch_size=8, kept="float32", **more
    )


@pytest.mark.parametrize("name", REGISTERED)
def test_shards_measured_elsewhere_are_those_of_the_whole(name, registered, tmp_path):
    check_same(*registered[name], tmp_path, choose=name not in SLOW_TO_CHOOSE)
    check_what_travels(*registered[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_so_do_variants_and_scenes(name, others, tmp_path):
    check_same(*others[name], tmp_path)
    check_what_travels(*others[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_TO_CHOOSE)
def test_so_do_those_that_take_long_to_choose(name, registered, tmp_path):
    check_same(*registered[name], tmp_path)


def check_same(trained, sharded, folder, own, choose=True):
    before = identity(trained.model, trained.strategy)
    there = ask(trained, sharded, folder)
    assert there.resumed == len(sharded.shards), "what another process measured was not taken for the same"
    here = ask(trained, sharded, own)
    whole = trained.rows()
    for result in (there, here):
        rows = rows_of(result, trained.labels)
        assert rows.ids == whole.ids
        np.testing.assert_array_equal(rows.labeled, whole.labeled)
        np.testing.assert_array_equal(rows.y, whole.y)
        for column in ("score", "vector", "probabilities"):
            one, two = getattr(rows, column), getattr(whole, column)
            assert (one is None) == (two is None)
            if one is not None:
                tolerance = 1e-9 if two.dtype == np.float64 else 1e-6
                np.testing.assert_allclose(one[:], two[:], rtol=tolerance, atol=1e-3 * tolerance)
    if choose:
        picks = pick(trained.strategy, there, 7, trained.labels, seed=1)
        assert picks.ids == select(trained.strategy, rows_of(there, trained.labels), 7, seed=1).ids
    assert identity(trained.model, trained.strategy) == before, "measuring and choosing changed what tells stale files"


def check_what_travels(trained, sharded, folder):
    """Neither images nor optimizers."""
    model, strategy = pickle.loads(kept((folder / "job").read_bytes()))
    seen, waiting = set(), [strategy, model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float):
            continue
        seen.add(id(part))
        assert not isinstance(part, Pool)
        assert type(part).__name__ not in ("SGD", "Adam", "Feed", "ArrayImages")
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple | set):
            waiting += part
        else:
            waiting += getattr(part, "__dict__", {}).values()
    assert model.rebuild is None


@pytest.mark.parametrize(
    "make",
    [Margin, partial(Margin, sampling="power"), MCDAL, MCDropout],
    ids=["margin", "power", "mcdal", "mc_dropout"],
)
def test_what_was_trained_otherwise_is_told_apart(make):
    one, again = fake_trained(make(), pool=FEW()), fake_trained(make(), pool=FEW())
    mine = identity(one.model, one.strategy)
    assert identity(again.model, again.strategy) == mine
    strategy = make()
    train(again.model, again.pool, again.labels, strategy, fake_training(), numerics=NUMERICS, seed=1)
    assert identity(again.model, strategy) != mine, "other weights"


def test_masks_drawn_from_another_seed_are_told_apart():
    """They follow from a number alone, which no network and no field holds."""
    one = fake_trained(MCDropout())
    mine = identity(one.model, one.strategy)
    torch.manual_seed(5)
    one.strategy.attach(one.model, one.pool.task, fake_setting(one.model))
    assert identity(one.model, one.strategy) != mine
