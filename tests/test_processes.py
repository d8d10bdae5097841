"""Several processes train as one does: the same networks to rounding, the same errors, and nobody is left behind."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError, PoolError, TrainingError
from mcdal.models.base import Model, apply_head
from mcdal.pickling import packed
from mcdal.pool.base import ArrayImages
from mcdal.process_group import group
from mcdal.processes import Processes
from mcdal.ranks import ALONE, Ranks, batch_sum, of_whole
from mcdal.registry import load
from mcdal.schedule import Optimization
from mcdal.strategies.base import Strategy, overrides
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.strategies.uherding import UHerding
from mcdal.synced import kinds
from mcdal.testing import (
    NUMERICS,
    FakeModel,
    FakeSegmenter,
    KeepOne,
    assert_same,
    fake_pool,
    fake_scenes,
    fake_training,
)
from mcdal.training import Training, train
from mcdal.values import Output
from tests.strategies.test_contract import ABLE, EVERY

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def two():
    with Processes(2) as processes:
        yield processes


def ended(strategy, processes=None, pool=None, model=None, keeper=None, **changes):
    """Metrics, the task model's weights and those of the strategy's networks after a short training."""
    pool = pool or fake_pool()
    labels = {id: pool.truth()[id] for id in sorted(pool.images.ids)[:20]}
    if model is None:
        torch.manual_seed(0)
        model = (FakeModel if pool.masks is None else FakeSegmenter)(len(pool.classes))
    training = fake_training(processes=1 if processes is None else processes.count, **changes)
    trained = train(
        model, pool, labels, strategy, training, numerics=NUMERICS, keeper=keeper, processes=processes, seed=1
    )
    own = {name: part.state_dict() for name, part in strategy.state().items() if isinstance(part, nn.Module)}
    return trained.metrics, model.state_dict(), own


def assert_close(one, two, tolerance=1e-9):
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_close(value, two[name], tolerance)
        else:
            torch.testing.assert_close(
                torch.as_tensor(value), torch.as_tensor(two[name]), rtol=tolerance, atol=tolerance, msg=name
            )


def trains(make):
    """Whether it takes part in a training: for all others the task model is Random's."""
    return any(overrides(make(), hook) for hook in ("step", "extra_loss"))


QUICK = {"ll", "mcdal", "random", "uherding"}
"""One that changes the task model, one with heads of its own, and one with parts of unequal size."""
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in sorted(EVERY.keys() - QUICK) if trains(EVERY[name])]
OWN_TERMS = {"ll"}
"""Its loss pairs the images of a part, and not those of the whole batch."""
OWN_LOTS = {"uherding"}
"""Parts of its batches are of unequal size, so that its second network drops other units."""


@pytest.mark.parametrize("name", [*sorted(QUICK), *LATER])
def test_two_processes_train_what_one_trains(name, two):
    """With BatchNorm and dropout in the task model; that both end with the same bits is made sure of in every training."""
    one, both = ended(EVERY[name]()), ended(EVERY[name](), two)
    if name in OWN_TERMS:
        assert all(value.isfinite().all() for value in both[1].values())
        return
    assert_close(both[1], one[1])
    if name not in OWN_LOTS:
        assert_close(both[2], one[2])
        assert_close(both[0], one[0])


@pytest.mark.parametrize(
    "name", ["mcdal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ensemble", "vaal", "sraal"))]
)
def test_two_processes_train_on_scenes_what_one_trains(name, two):
    pool = fake_scenes()
    one, both = ended(ABLE[name](), pool=pool), ended(ABLE[name](), two, pool=pool)
    assert_close(both[1], one[1])
    assert_close(both[2], one[2])


@pytest.mark.slow
def test_a_second_network_with_parts_of_unequal_size_is_as_in_one_process(two):
    torch.manual_seed(0)
    model = FakeModel(3)
    model.encoder[3].p = 0.0
    one, both = (ended(UHerding(), processes, model=copy.deepcopy(model)) for processes in (None, two))
    assert_close(both[2], one[2])
    assert_close(both[0], one[0])


@pytest.mark.slow
def test_afterwards_nothing_is_left_of_it(two):
    strategy = EVERY["vaal: one step"]()
    torch.manual_seed(0)
    model, threads = FakeModel(3), torch.get_num_threads()
    ended(strategy, two, model=model)
    left = {type(part) for module in (model, strategy._vae) for part in module.modules()}
    assert not left & set(kinds(False).values()) and nn.BatchNorm2d in left and nn.Dropout in left
    assert not strategy._vae_optimizer._optimizer_step_pre_hooks
    assert not torch.distributed.is_initialized() and torch.get_num_threads() == threads
    assert "GLOO_SOCKET_IFNAME" not in os.environ


@pytest.mark.parametrize(
    "name", ["mcdal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ensemble", "vaal"))]
)
def test_a_killed_training_continues_to_the_same_bits(name, two):
    whole = ended(EVERY[name](), two)
    keeper = KeepOne(after=5)
    ended(EVERY[name](), two, keeper=keeper)
    assert keeper.state["step"] == 5
    continued = ended(EVERY[name](), two, keeper=keeper)
    assert_same(continued[1], whole[1], "the task model differs")
    assert_same(continued[2], whole[2], "the strategy's networks differ")
    assert continued[0] == whole[0]


@pytest.mark.slow
def test_bfloat16_and_weights_of_classes(two):
    pool = fake_scenes()
    one, both = (
        ended(MCDAL(), processes, pool, class_weights="median_frequency", precision="bfloat16")
        for processes in (None, two)
    )
    assert_close(both[1], one[1])


class Normed(Model):
    """Normalises rows of features, with and without weights, and maps that lie channels last in memory."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=None), nn.ReLU(), nn.Dropout2d(0.3))
        self.rows = nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.AlphaDropout(0.2))
        self.untracked = nn.BatchNorm1d(6, track_running_stats=False)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        maps = self.maps(x.contiguous(memory_format=torch.channels_last))
        self.seen += 1
        features = self.untracked(self.rows(maps.mean((2, 3))))
        return Output(apply_head(self.head, features), features, (maps,))


@pytest.mark.slow
def test_every_kind_of_norm_and_dropout_is_that_of_the_whole_batch(two):
    torch.manual_seed(0)
    model = Normed()
    one, both = (ended(MCDAL(), processes, model=copy.deepcopy(model)) for processes in (None, two))
    assert_close(both[1], one[1])
    assert_close(both[2], one[2])


class Odd(nn.BatchNorm2d):
    """Whatever a subclass computes is not known."""


def test_buffers_that_nobody_synchronises_are_those_of_rank_0(two):
    torch.manual_seed(0)
    model = FakeModel(3)
    model.encoder[1] = Odd(5)
    _, weights, _ = ended(Random(), two, model=model)  # that they are equal is made sure of at its end
    assert weights["encoder.1.running_mean"].abs().sum() > 0


@dataclass
class Halves(Strategy):
    """One network learns from the first half of each batch, another from the second: each is used by one of two processes.

    Both begin with a layer of one shape, and have unlike numbers of weights; a third is never used.
    """

    _nets: nn.ModuleList | None = field(default=None, init=False, repr=False, compare=False)

    def attach(self, model, task, setting):
        nets = nn.Linear(3, 1, bias=False), nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(1, 2)), nn.Linear(3, 1)
        self._nets = setting.place(nn.ModuleList(nets))
        self._optimizer = torch.optim.SGD(self._nets.parameters(), lr=0.1, momentum=0.9)

    def step(self, labeled, unlabeled, progress):
        ranks = Ranks.here(labeled.x.device)
        rows = labeled.x.mean((2, 3))
        halves = rows.chunk(2) if ranks.size == 1 else [rows if ranks.rank == i else rows[:0] for i in range(2)]
        losses = [
            batch_sum(net(half).square().sum(1)) for net, half in zip(self._nets, halves, strict=False) if len(half)
        ]
        self._optimizer.zero_grad()
        sum(losses).backward()
        self._optimizer.step()

    def state(self):
        return {} if self._nets is None else {"nets": self._nets, "optimizer": self._optimizer}


def test_what_one_process_alone_uses_learns_as_in_one_process(two):
    strategies = Halves(), Halves()
    one, both = (ended(strategy, processes) for strategy, processes in zip(strategies, (None, two), strict=True))
    assert_close(both[2], one[2])
    assert all(weight.grad is None for weight in strategies[1]._nets[2].parameters())
    first = ended(Random(), two)[1]
    assert_same(both[1], first, "the task model learned something else")


@dataclass
class Hidden(Strategy):
    """Trains a network whose optimizer it keeps to itself."""

    _net: nn.Module | None = field(default=None, init=False, repr=False, compare=False)

    def attach(self, model, task, setting):
        self._net = setting.place(nn.Linear(3, 1))
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=0.1)

    def step(self, labeled, unlabeled, progress):
        self._optimizer.zero_grad()
        self._net(labeled.x.mean((2, 3))).square().mean().backward()
        self._optimizer.step()

    def state(self):
        return {} if self._net is None else {"net": self._net}


@pytest.mark.slow
def test_networks_that_came_apart_are_refused(two):
    with pytest.raises(TrainingError, match=r"strategy.s net came apart in the 2 processes: .* in its `state"):
        ended(Hidden(), two)


class Broken(ArrayImages):
    """One image cannot be read."""

    def batches(self, positions, device):
        yield from super().batches(self._sound(positions), device)

    def _sound(self, positions):
        for chosen in positions:
            if 7 in chosen:
                raise PoolError(f"{self.ids[7]} has changed since the pool was opened")
            yield chosen


@pytest.mark.slow
def test_a_broken_image_is_told_as_in_one_process(two):
    pool = fake_pool()
    pool = replace(pool, images=Broken(pool.images.ids, pool.images.pixels))
    assert sorted(pool.images.ids).index(pool.images.ids[7]) >= 20, "it is unlabeled"
    told = []
    for processes in (None, two):
        with pytest.raises(PoolError, match="has changed since the pool was opened") as caught:
            ended(MCDAL(), processes, pool=pool)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_told_as_in_one_process(two):
    told = []
    for processes in (None, two):
        with pytest.raises(TrainingError, match="the training loss is") as caught:
            ended(Random(), processes, optimization=Optimization(lr=1e200))
        told.append(str(caught.value))
    assert told[0] == told[1]


OWN = """
from dataclasses import dataclass
from mcdal.strategies.mcdal import MCDAL

@dataclass
class Mine(MCDAL):
    weight: float = 0.5
"""


def test_a_strategy_of_somebodys_own_file_trains_there(tmp_path, two):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    make = load("strategies", f"{file}:Mine")
    for there, here in zip(ended(make(), two), ended(make()), strict=True):
        assert_close(there, here)


@dataclass
class Bug(Strategy):
    """Fails in one of the processes alone."""

    rank: int = 1

    def step(self, labeled, unlabeled, progress):
        if progress.step == 3 and Ranks.here(labeled.x.device).rank == self.rank:
            raise KeyError("a bug")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_bug_of_one_process_is_raised_with_its_place(two, rank):
    with pytest.raises(KeyError, match="a bug") as caught:
        ended(Bug(rank), two)
    assert rank == 0 or "in step" in "".join(caught.value.__notes__)


@dataclass
class Dies(Strategy):
    """The process that is not rank 0 is killed in the middle of a step."""

    def step(self, labeled, unlabeled, progress):
        if progress.step == 3 and Ranks.here(labeled.x.device).rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_ends_the_training_within_seconds(two):
    begun = time.monotonic()
    with pytest.raises(TrainingError, match="process 1 of the training was ended by SIGKILL"):
        ended(Dies(), two)
    assert time.monotonic() - begun < 30


def test_what_cannot_be_sent_is_named(two):
    class Local(Strategy):
        pass

    with pytest.raises(ConfigError, match=r"training.processes: strategy .*Local.* sent .*at the top of a file"):
        ended(Local(), two)


class Connected:
    """Holds what another process cannot have, as a connection is."""

    def __init__(self):
        self.lock = threading.Lock()


def test_the_part_that_cannot_be_sent_is_named():
    pool = fake_pool()
    pool.images.disks = [Connected()]
    with pytest.raises(
        ConfigError, match=r"pool.images.disks\[0\].lock \(lock\) cannot be sent .*__getstate__"
    ) as told:
        packed({"seed": 1, "pool": pool}, "training.processes")
    assert "lambda" not in str(told.value)
    model = FakeModel(3)
    model.head.scale = lambda x: x
    with pytest.raises(ConfigError, match=r"model._modules\['head'\].scale \(.*<lambda>\) cannot be sent"):
        packed({"model": model}, "training.processes")
    model = FakeModel(3)
    model.rebuild = partial(FakeModel, Connected())
    with pytest.raises(ConfigError, match=r"model.rebuild.args\[0\].lock \(lock\)"):
        packed({"model": model}, "training.processes")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 0}, "training.processes = 0: it must be at least 1"),
        ({"processes": 3}, "training.batch_size = 128: 3 processes .* a multiple of 3"),
        ({"processes": 4, "unlabeled_batch_size": 6}, "training.unlabeled_batch_size = 6: 4 processes"),
        ({"processes": 2, "replay": True}, "training.replay = true: steps are replayed by one process alone"),
    ],
)
def test_what_processes_cannot_share_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Training(**fields)


def test_auto_is_the_number_of_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    auto = Training(processes="auto")
    assert auto.processes_on(torch.device("cpu")) == 1
    assert auto.processes_on(torch.device("cuda", 0)) == 4
    assert auto.processes_on(torch.device("cuda", 2)) == 2
    with pytest.raises(ConfigError, match="from cuda:0 on there are 4 GPUs"):
        Training(processes=8).processes_on(torch.device("cuda", 0))
    with pytest.raises(ConfigError, match="on mps there is one"):
        Training(processes=2).processes_on(torch.device("mps", 0))


def test_alone_everything_is_itself():
    torch.manual_seed(0)
    x = torch.randn(4, 2)
    assert of_whole(x, lambda given: given) is x
    assert ALONE.part(8) == slice(0, 8) and Ranks(2, 4).part(8) == slice(4, 6)


def test_a_process_group_of_one_trains_alone(tmp_path):
    with group(tmp_path, 0, 1, torch.device("cpu")):
        alone = ended(Random(), Processes(2))  # that would start another one
    assert_same(alone[1], ended(Random())[1], "it is another training")


def test_an_array_of_a_file_is_sent_by_its_name(tmp_path):
    import pickle

    np.save(tmp_path / "pixels.npy", np.arange(2**19, dtype=np.int32).reshape(512, -1))
    for mode in ("r", "c"):
        array = np.load(tmp_path / "pixels.npy", mmap_mode=mode)
        for view in (array, array[100:400], np.asarray(array)[3:], array.view(np.uint8)):
            message = packed({"view": view}, "test")
            assert len(message) < 1000
            np.testing.assert_array_equal(pickle.loads(message)["view"], view)
    assert len(packed({"view": array[:, ::2]}, "test")) > 2**19, "a view with gaps travels itself"


RANK = """
import torch, torch.distributed as dist
from mcdal.testing import NUMERICS, FakeModel, KeepOne, fake_pool, fake_training
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import train

dist.init_process_group("gloo")
pool = fake_pool()
labels = {id: pool.truth()[id] for id in sorted(pool.images.ids)[:20]}
torch.manual_seed(dist.get_rank())  # the weights of rank 0 are taken
model, keeper = FakeModel(3), KeepOne(1)
train(model, pool, labels, MCDAL(), fake_training(), numerics=NUMERICS, seed=1, keeper=keeper)
torch.save((model.state_dict(), keeper.state is not None), f"OUT/{dist.get_rank()}.pt")
"""


@pytest.mark.slow
def test_in_a_process_group_that_exists_it_is_one_of_the_ranks(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK.replace("OUT", str(tmp_path)))
    words = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", str(script)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "torch.distributed.run", *words], check=True, capture_output=True, env=env)
    (first, kept), (second, kept_twice) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert_same(second, first, "the ranks differ")
    assert kept and not kept_twice
    assert_close(first, ended(MCDAL())[1])


RECIPE = """
from dataclasses import replace
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import fake_config, fake_training

def slow():
    \"\"\"Long enough to be killed anywhere; its state is kept every few steps.\"\"\"
    training = fake_training(precision="float64", epochs=20, steps_per_epoch=20, processes=2)
    config = fake_config(MCDAL())
    return replace(config, training=training, checkpoint_seconds=0.05, protocol=replace(config.protocol, rounds=2))
"""


def command(recipe, out):
    words = [sys.executable, "-m", "mcdal", "run", f"{recipe}:slow", "--device", "cpu", "--out", str(out), "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def ranks_of(parent):
    """The processes that a process has spawned to train with it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def gone(pids, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


def until_it_trains(process):
    for line in process.stdout:
        if '"event": "train"' in line:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_interrupted_and_continued_is_the_same_run(tmp_path):
    """Real processes: rank 0 is killed, then rank 1, then somebody presses Ctrl-C; nobody is left, nothing differs."""
    from mcdal.store import Store
    from tests.runs import content

    recipe = tmp_path / "recipes.py"
    recipe.write_text(RECIPE)
    for name in ("whole", "killed"):
        Store(tmp_path / name).close()
    whole = command(recipe, tmp_path / "whole")
    assert whole.communicate() and whole.returncode == 0
    for whom in ("rank 0", "rank 1", "ctrl-c"):
        process = command(recipe, tmp_path / "killed")
        until_it_trains(process)
        others = ranks_of(process.pid)
        assert len(others) >= 1
        if whom == "rank 1":
            for other in others:
                os.kill(other, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGKILL if whom == "rank 0" else signal.SIGINT)
        begun = time.monotonic()
        said = process.communicate(timeout=60)
        assert process.returncode == {"rank 0": -signal.SIGKILL, "rank 1": 2, "ctrl-c": 130}[whom], said
        if whom == "rank 1":
            assert "process 1 of the training was ended by SIGKILL" in said[1]
        assert gone(others, 10), whom
        assert time.monotonic() - begun < 20
    last = command(recipe, tmp_path / "killed")
    said = last.communicate()
    assert last.returncode == 0, said
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
