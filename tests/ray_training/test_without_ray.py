"""What can be said of trainings on a cluster where there is none."""

import pickle
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mcdal.artifacts import Artifacts
from mcdal.cli import app
from mcdal.device import Numerics
from mcdal.environment import differences, environment
from mcdal.errors import ConfigError, PoolError
from mcdal.events import nobody
from mcdal.ids import MappedIds, write_ids
from mcdal.looking import Looking
from mcdal.passes import OnRay
from mcdal.passes import Processes as PassProcesses
from mcdal.pool.base import ArrayImages
from mcdal.process_group import group_of_machines, interface_of, open_store
from mcdal.ray_training import TrainOnRay
from mcdal.ray_training.crew import Asked, Crew, LostRanksError, _refuse_unlike
from mcdal.ray_training.parcel import put
from mcdal.ray_training.rank import Mail, Outcome, Sight
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import NUMERICS, FakeModel, KeepOne, assert_same, fake_config, fake_pool, fake_training
from mcdal.training import arrive, is_end, train
from mcdal.version import __version__


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


class FakeRay:
    """Ray as far as it is asked before anything is trained, and its object store."""

    def __init__(self, *nodes):
        self._nodes = nodes

    def is_initialized(self):
        return True

    def nodes(self):
        return list(self._nodes)

    def put(self, value):
        return value

    def get(self, value):
        return value


def asked(monkeypatch, nodes, device="auto", processes=1, **asks):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(*nodes))
    with TrainOnRay("auto", **asks).trainer(fake_training(processes=processes), device) as trainer:
        return trainer._asked, trainer


def test_processes_and_what_they_take_are_those_of_the_cluster(monkeypatch):
    gpus = [node(CPU=8.0, GPU=2.0), node(CPU=8.0, GPU=2.0), node(alive=False, CPU=8.0, GPU=4.0)]
    for device, processes, more, expected in (
        ("auto", 4, {}, (4, "cuda", {"CPU": 1.0, "GPU": 1.0})),
        ("auto", "auto", {}, (4, "cuda", {"CPU": 1.0, "GPU": 1.0})),
        ("cpu", 2, {"cpus": 4.0}, (2, "cpu", {"CPU": 4.0})),
        ("cpu", "auto", {}, (1, "cpu", {"CPU": 1.0})),
        ("cuda", 1, {"gpus": 0.5}, (1, "cuda", {"CPU": 1.0, "GPU": 0.5})),
        ("cuda", 8, {"autoscaling": True}, (8, "cuda", {"CPU": 1.0, "GPU": 1.0})),
    ):
        found, trainer = asked(monkeypatch, gpus, device, processes, **more)
        assert (found.count, found.kind, found.bundle) == expected
        assert (trainer.count, trainer.elsewhere) == (expected[0], True)
    assert asked(monkeypatch, [node(CPU=2.0)])[1].where == "Ray, cpu, 1 threads"


def test_what_cannot_be_is_refused(monkeypatch):
    two = [node(CPU=1.0), node(CPU=1.0)]
    for more, words in (
        (
            {"processes": 4},
            "cannot hold 4 processes .*each asks for 1 CPUs, and its nodes have 1 CPUs and 0 GPUs; 1 CPUs",
        ),
        ({"device": "cuda"}, "asks for 1 CPUs and 1 GPUs"),
        ({"device": "mps"}, "device mps: on a cluster Ray gives each process its GPU"),
        ({"device": "cuda", "gpus": 0.5, "processes": 2}, "gpus = 0.5: .* needs a GPU of its own"),
        ({"processes": "auto", "cpus": 0.0}, "cpus = 0.0"),
    ):
        with pytest.raises(ConfigError, match=words):
            asked(monkeypatch, two, **more)
    with pytest.raises(ConfigError, match="3 processes"):
        asked(monkeypatch, two, processes=3, autoscaling=True)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"training on a cluster needs ray: pip install 'mcdal\[ray\]'"):
        TrainOnRay("auto").trainer(fake_training(), "cpu").__enter__()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--train-there"], "give its address as well"),
        (["--train-there", "--on", "auto", "--dry-run"], "leave one out"),
    ],
)
def test_words_that_do_not_go_together_are_refused(tmp_path, words, told):
    result = CliRunner().invoke(app, ["run", "digits", "--out", str(tmp_path / "out"), *words])
    assert isinstance(result.exception, ConfigError) and told in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_pool_that_is_not_in_shards_may_be_trained_there_and_is_measured_here(tmp_path):
    def looking(engine, heard):
        config, pool = fake_config(), fake_pool()
        nowhere, ignored = Artifacts(tmp_path), print

        def told(kind, **fields):
            heard.append(fields["text"])

        return Looking(config, pool, nowhere, NUMERICS, None, ignored, engine, told)

    heard: list[str] = []
    looking(OnRay("auto"), heard).check(trained_there=True)
    assert heard == ["the cluster trains; this process measures the pool and tests"]
    for engine, there in ((OnRay("auto"), False), (OnRay("auto", workers=2), True), (PassProcesses(2), True)):
        with pytest.raises(ConfigError, match="there is nothing for them here"):
            looking(engine, heard).check(trained_there=there)


def test_files_of_this_machine_travel_by_their_content(tmp_path):
    ids = write_ids(tmp_path / "ids", [f"image {i}" for i in range(300)], pytest.fail)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 40, 40, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="c")
    pool = replace(fake_pool(), images=ArrayImages(ids, mapped), targets=None)
    parcel = put(FakeRay(), {"pool": pool}, "--train-there")
    assert len(parcel.content) < 100_000 and [len(array) for array in parcel.arrays] == [pixels.nbytes]
    for file in (tmp_path / "pixels.npy", *(tmp_path / "ids").iterdir()):
        file.unlink()
    there = parcel.opened(FakeRay())["pool"]
    assert isinstance(there.images.ids, MappedIds) and tuple(there.images.ids) == tuple(
        f"image {i}" for i in range(300)
    )
    assert there.position("image 77") == 77 and there.images.ids.take(np.array([3, 5])) == ("image 3", "image 5")
    assert np.shares_memory(there.images.pixels, parcel.arrays[0])
    (batch,) = there.images.batches([np.array([7, 2])], torch.device("cpu"))
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1).numpy(), pixels[[7, 2]])


def test_what_cannot_be_sent_is_named():
    with pytest.raises(ConfigError, match=r"--train-there: strategy\.lock \(lock\) cannot be sent to another process"):
        put(FakeRay(), {"strategy": SimpleNamespace(lock=threading.Lock())}, "--train-there")


def test_who_arrives_at_the_end_of_a_training_is_as_who_made_it():
    pool, training = fake_pool(), fake_training()
    labels = {id: pool.truth()[id] for id in sorted(pool.images.ids)[:20]}

    def made(keeper=None, state=None):
        torch.manual_seed(0)
        model, strategy = FakeModel(3), MCDAL()
        given = model, pool, labels, strategy, training
        if state is None:
            trained = train(*given, numerics=NUMERICS, seed=1, keeper=keeper)
        else:
            trained = arrive(*given, state, numerics=NUMERICS, seed=1)
        own = {name: part.state_dict() for name, part in strategy.state().items() if isinstance(part, torch.nn.Module)}
        return trained, model, own

    early, last = KeepOne(after=3), KeepOne(after=100)
    made(early)
    trained, model, own = made(last)
    there = made(state=last.state)
    assert there[0].metrics == trained.metrics and not there[1].training
    assert_same(there[1].state_dict(), model.state_dict(), "the task model differs")
    assert_same(there[2], own, "the strategy's networks differ")
    assert is_end(last.state, model, pool, labels, training)
    assert not is_end(early.state, model, pool, labels, training)
    fewer = dict(list(labels.items())[:-1])
    assert not is_end(last.state, model, pool, fewer, training), "labels have changed since"


def test_the_last_state_is_not_lost_when_it_was_taken_before():
    mail = Mail(b"")
    mail.save({"step": 3})
    mail.listen("train", done=3)
    assert mail.taken().state and not mail.taken().state
    assert mail.taken(at_end=True).state
    again = Mail(mail.taken(at_end=True).state)
    assert again.load() == {"step": 3}


class Errors:
    class RayError(Exception): ...

    class RayTaskError(RayError): ...

    class RuntimeEnvSetupError(RayError): ...

    class ObjectLostError(RayError): ...

    class RayActorError(RayError):
        actor_init_failed = False


class Unborn(Errors.RayActorError):
    actor_init_failed = True


def answers(*given):
    """A crew whose ranks answer this, or raise it, and lose each other where they raise a ConnectionError."""

    def get(call):
        if isinstance(given[call], Exception):
            raise given[call]
        return Outcome(failure=given[call]) if given[call] else Outcome("trained")

    ray = SimpleNamespace(get=get, exceptions=Errors, wait=lambda calls, **_: (calls[:1], calls[1:]))
    crew = Crew(ray, Asked(len(given), 1.0, 0.0, "cpu", 1.0), nobody)
    return crew._all(lambda rank: rank)


def test_why_ranks_came_apart():
    disconnected = pickle.dumps(RuntimeError("[gloo/pair.cc] Connection closed by peer"))
    bug, broken = pickle.dumps(KeyError("a bug")), pickle.dumps(PoolError("photo.jpg cannot be read"))
    assert answers(b"", b"") == ["trained"] * 2
    for given, kind, words in (
        (
            (disconnected, Errors.RayActorError("it died\nand more")),
            LostRanksError,
            r"process 1 was lost \(RayActorError: it died\)",
        ),
        ((disconnected, bug), KeyError, "a bug"),
        ((disconnected, disconnected, broken), PoolError, "photo.jpg cannot be read"),
        ((disconnected, disconnected), LostRanksError, "the processes lost each other .*Connection closed"),
        ((b"", Errors.ObjectLostError("gone")), LostRanksError, "the answer of process 1 was lost"),
        (
            (Unborn("Traceback\nModuleNotFoundError: mcdal"), b""),
            ConfigError,
            "process 0 cannot work .*: ModuleNotFoundError: mcdal;",
        ),
        (
            (Errors.RayTaskError("Traceback\nTypeError: x"), b""),
            ConfigError,
            "process 0 cannot work on the cluster: TypeError: x;",
        ),
    ):
        with pytest.raises(kind, match=words):
            answers(*given)


def test_ranks_that_would_train_in_different_ways_are_refused():
    cuda = Numerics(torch.device("cuda", 0), "bfloat16", True, False)
    one = Sight("a", "A100", __version__, "2.9", cuda)
    _refuse_unlike([one, replace(one, machine="b")])
    with pytest.raises(
        ConfigError, match=r"b and a would not train alike: they differ in gpu, numerics \(\['T4', 'A100'\]\)"
    ):
        _refuse_unlike([one, replace(one, machine="b", gpu="T4", numerics=replace(cuda, precision="float32"))])
    with pytest.raises(ConfigError, match=f"mcdal is {__version__} here and 0.0 on a: install the same"):
        _refuse_unlike([replace(one, mcdal="0.0")])


def test_a_group_of_machines_meets_at_an_address():
    if sys.platform == "linux":
        assert interface_of("127.0.0.1") == "lo" and interface_of("192.0.2.77") is None
    store = open_store("127.0.0.1")
    with group_of_machines("127.0.0.1", store, 0, 1, torch.device("cpu")):
        assert torch.distributed.get_world_size() == 1
    assert not torch.distributed.is_initialized()


def test_where_a_run_was_trained_is_recorded_and_compared():
    here, there = environment(NUMERICS, 2), environment(NUMERICS, 2, "Ray, cpu, 1 threads")
    assert differences(here, there) == ["trained_on this machine -> Ray, cpu, 1 threads"]
    before = {name: value for name, value in here.items() if name != "trained_on"}  # of a store of an earlier version
    assert differences(before, here) == [] and differences(before, there) == differences(here, there)
