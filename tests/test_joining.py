"""A process that is lost on its way to the others is told within seconds, with the reason."""

import os
import signal
import time
from datetime import timedelta

import pytest
import torch

import mcdal.process_group
import mcdal.rank_process
from mcdal.errors import TrainingError
from mcdal.processes import Processes
from mcdal.ranks import Ranks

CPU = torch.device("cpu")


def sizes(**_: object) -> int:
    return Ranks.here(CPU).size


class OnArrival:
    """Does something in the process that it is sent to."""

    def __init__(self, do, *given):
        self.do, self.given = do, given

    def __reduce__(self):
        return self.do, self.given


def at_the_door(do, *given):
    """The process has all that it was sent, and is about to join."""

    def group(*_, **__):
        do(*given)

    mcdal.rank_process.group = group


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise RuntimeError("no such device")


def call(processes, *parts):
    return processes.call(sizes, sizes, {}, {f"part {i}": part for i, part in enumerate(parts)}, CPU)


@pytest.mark.parametrize(
    ("do", "error", "message"),
    [
        (die, TrainingError, "process 1 of the training was ended by SIGKILL"),
        pytest.param(fail, RuntimeError, "no such device", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("where", [at_the_door, pytest.param(None, marks=pytest.mark.slow)])
def test_who_is_lost_before_it_joins_is_told_at_once(do, error, message, where):
    lost = OnArrival(do) if where is None else OnArrival(where, do)
    with Processes(2) as processes:
        assert call(processes) == 2
        begun = time.monotonic()
        with pytest.raises(error, match=message):
            call(processes, lost)
        assert time.monotonic() - begun < 10


def fork_and_die():
    if os.fork() == 0:
        time.sleep(60)  # holds all that its parent had open
    die()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_workers_of_who_is_lost_do_not_hide_it():
    with Processes(2) as processes, pytest.raises(TrainingError, match="ended by SIGKILL"):
        begun = time.monotonic()
        call(processes, OnArrival(at_the_door, fork_and_die))
    assert time.monotonic() - begun < 20


def while_joining():
    """The process has said that it is here, so that rank 0 waits for it in torch."""
    torch.distributed.init_process_group = lambda *_, **__: die()


@pytest.mark.slow
def test_who_is_lost_while_it_joins_is_told_soon():
    with Processes(2) as processes, pytest.raises(TrainingError, match="ended by SIGKILL"):
        begun = time.monotonic()
        call(processes, OnArrival(while_joining))
    assert 5 < time.monotonic() - begun < 60


def join_within_a_second():
    mcdal.process_group.TIME_TO_JOIN = timedelta(seconds=1)


def late(**_: object) -> None:
    time.sleep(3)
    torch.distributed.barrier()


@pytest.mark.slow
def test_who_has_joined_is_waited_for_longer(monkeypatch):
    monkeypatch.setattr(mcdal.process_group, "TIME_TO_JOIN", timedelta(seconds=1))
    with Processes(2) as processes:
        processes.call(torch.distributed.barrier, late, {}, {"first": OnArrival(join_within_a_second)}, CPU)
