"""Cells as tasks of a Ray cluster, each with the CPUs and GPUs that it takes."""

import json
import platform
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from mcdal.address import chosen
from mcdal.compare.cell import Cell
from mcdal.compare.players import Players, Word
from mcdal.compare.ray_task import MARK, Mailbox, Order, play_run, refusal_of_sqlite
from mcdal.errors import ConfigError, StoreError
from mcdal.ray_cluster import Room, connected, first_line, imported_ray, room
from mcdal.store import Store
from mcdal.training import Training

SECONDS_BETWEEN_LOOKS = 0.3
SECONDS_BETWEEN_COUNTS = 5.0
SECONDS_TO_HEAR = 30.0
SECONDS_TO_STOP = 15.0
SECONDS_WITHOUT_ANY = 60.0
"""After so long without any run at work it is said that they wait for room."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what one run takes of it.

    address: "auto" is the one that this machine belongs to, ray://host:port one elsewhere, "local" one of this machine alone
    that is started for the comparison. workers: runs that are asked for at once, whatever there is now, so that a cluster that
    grows by itself does; None: as many as its nodes hold.
    """

    address: str
    workers: int | None = None
    cpus: float | None = None
    """Of a run; None: one for each of its processes (`training.processes`)."""
    gpus: float | None = None
    """Of a run; None: one for each of its processes where the device is of CUDA."""
    init: Mapping[str, Any] = field(default_factory=dict)
    """More for `ray.init`, such as runtime_env."""


def cluster_of(on: str | None, workers: int | None, cpus: float | None, gpus: float | None) -> Cluster | None:
    """What is asked for in words. ConfigError for shares of no cluster."""
    if on is not None:
        return Cluster(on, workers, cpus, gpus)
    if cpus is not None or gpus is not None:
        raise ConfigError("--cpus and --gpus say what a run takes of a cluster: give its address as well, --on auto")
    return None


class RayTasks(Players):
    """Tells Ray of as many runs as fit. What is lost with a worker or a node is told, and may be begun again."""

    def __init__(self, cluster: Cluster, out: Path, device: str, training: Training):
        self._cluster, self._out, self._training = cluster, out.absolute(), training
        self._device = _device(device)
        self._ray = imported_ray("a comparison on a cluster")
        self._calls: dict[Any, str] = {}
        self._at_work: set[str] = set()
        self._at_once = 1
        self._counted = self._alone_since = time.monotonic()

    def __enter__(self) -> "RayTasks":
        with ExitStack() as stack:
            stack.enter_context(connected(self._ray, self._cluster.address, self._cluster.init))
            self._settle()
            self._prepare()
            stack.callback(self._ray.kill, self._mailbox)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def at_once(self) -> int:
        return self._at_once

    def have_room(self) -> bool:
        if time.monotonic() - self._counted > SECONDS_BETWEEN_COUNTS:
            self._count()
        return len(self._calls) < self._at_once

    def begin(self, cell: Cell) -> None:
        run_id = cell.plan.run_id
        order = Order(cell.command, run_id, self._out, self._device, Path.cwd(), self._mark, self._machine)
        self._calls[self._task.remote(order, self._mailbox)] = run_id

    def listen(self) -> Iterator[Word]:
        done: list[Any] = []
        if self._calls:
            done, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
        else:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        yield from self._messages()  # those of a run that is over are all there
        for call in done:
            yield self._ended(call)
        yield from self._impatience()

    def stop(self) -> None:
        calls = list(self._calls)
        for call in calls:
            self._ray.cancel(call)
        if calls:
            _, left = self._ray.wait(calls, num_returns=len(calls), timeout=SECONDS_TO_STOP)
            for call in left:
                self._ray.cancel(call, force=True)
        self._calls.clear()

    def _settle(self) -> None:
        """Makes sure of room and of the store. ConfigError before anything is written."""
        nodes = self._ray.nodes()
        self._device = self._device or ("cuda" if any(_gpus(node) for node in nodes) else "cpu")
        self._cpus, self._gpus = self._shares()
        found = self._count()
        if self._cluster.workers is None and found.workers < 1:
            raise ConfigError(
                f"the Ray cluster cannot hold one run: it takes {found.asked}, and {found.nodes}; start larger nodes, give "
                "other --cpus, --gpus or --device, or give --workers where the cluster starts nodes by itself"
            )
        in_a_file = chosen(self._out, create=True) is None
        if in_a_file and (count := sum(node["Alive"] for node in nodes)) > 1:
            raise ConfigError(refusal_of_sqlite(self._out, f"the Ray cluster has {count} nodes"))
        Store(self._out).close()  # from now on the folder says where its rows are
        self._mark, self._machine = _mark(self._out), platform.node() if in_a_file else None

    def _prepare(self) -> None:
        """A mailbox for what is told, beside this process if Ray can, and what a task is."""
        near = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=True
        )
        kind = self._ray.remote(Mailbox).options(
            num_cpus=0, max_restarts=-1, max_task_retries=0, scheduling_strategy=near
        )
        self._mailbox = kind.remote()
        # A process for each run, as torch remembers. Not tried again by Ray: whoever gives out runs decides that.
        task = self._ray.remote(
            num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0, max_calls=1, scheduling_strategy="SPREAD"
        )
        self._task = task(play_run)

    def _shares(self) -> tuple[float, float]:
        processes = 1 if self._training.processes == "auto" else self._training.processes
        self._training.refuse_uneven(processes)
        cpus, gpus = self._cluster.cpus, self._cluster.gpus
        own = float(processes) if self._device == "cuda" else 0.0
        return float(processes) if cpus is None else cpus, own if gpus is None else gpus

    def _count(self) -> Room:
        """How many runs to ask for, by the nodes that are there. One waits even for a cluster that has lost all of them."""
        self._counted = time.monotonic()
        found = room(self._ray.nodes(), self._cpus, self._gpus)
        self._at_once = self._cluster.workers or max(1, found.workers)
        return found

    def _messages(self) -> Iterator[Word]:
        try:
            told = self._ray.get(self._mailbox.take.remote(), timeout=SECONDS_TO_HEAR)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError):
            return  # it comes back empty, which costs nothing but what was to be seen
        for run_id, line in told:
            said = json.loads(line)
            if said["event"] == "begin":
                self._at_work.add(run_id)
                yield Word("begin", run_id)
            elif said["event"] == "note":
                yield Word("note", run_id, said["text"])
            elif said["event"] != "over":
                yield Word("event", run_id, said=said)

    def _ended(self, call: Any) -> Word:
        run_id, failures = self._calls.pop(call), self._ray.exceptions
        self._at_work.discard(run_id)
        try:
            return Word("end", run_id, self._ray.get(call))
        except failures.RayTaskError as error:  # what it says last is what was raised there
            return Word("end", run_id, str(error).strip().splitlines()[-1])
        except (failures.TaskCancelledError, failures.RuntimeEnvSetupError, failures.TaskUnschedulableError) as error:
            return Word("end", run_id, first_line(error))
        except failures.RayError as error:
            return Word("lost", run_id, f"its worker or node was lost ({first_line(error)})")

    def _impatience(self) -> Iterator[Word]:
        """Says so, now and then, where nothing is at work because there is no room."""
        now = time.monotonic()
        if self._at_work or not self._calls:
            self._alone_since = now
        elif now - self._alone_since > SECONDS_WITHOUT_ANY:
            self._alone_since = now
            free = {name: n for name, n in self._ray.available_resources().items() if name in ("CPU", "GPU")}
            asked = f"{self._cpus:g} CPUs" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
            yield Word("note", next(iter(self._calls.values())), f"waits for {asked}; free on the cluster are {free}")


def _device(device: str) -> str:
    """What tasks are told; nothing where the cluster decides. ConfigError for what only one machine can mean."""
    if device == "auto":
        return ""
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device}: on a cluster Ray gives each run its GPU; give cuda, cpu or auto")
    return device


def _gpus(node: Mapping[str, Any]) -> float:
    return float(node["Resources"].get("GPU", 0.0)) if node["Alive"] else 0.0


def _mark(out: Path) -> str:
    """What a file says by which others see that they see this folder."""
    path = out / MARK
    try:
        with suppress(FileExistsError), path.open("x", encoding="ascii") as file:
            file.write(uuid.uuid4().hex)
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; give another --out") from error
