"""A Ray cluster: actors that hold the model take shards as they come free."""

import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mcdal.errors import ConfigError, McdalError, StoreError
from mcdal.passes.engine import TRIES, Engine, Tries
from mcdal.passes.folder import Folder, LocalFolder
from mcdal.passes.progress import Progress
from mcdal.passes.ray_actor import Actor, Sight
from mcdal.passes.shard_files import refuse_unseen, write
from mcdal.passes.travel import pack_any
from mcdal.passes.watch import Watch
from mcdal.passes.work import Job
from mcdal.pool.sharded import Shard, Sharded
from mcdal.ray_cluster import Room, connected, first_line, imported_ray, room

SECONDS_BETWEEN_LOOKS = 1.0
CPUS_KEPT_FREE = 1.0
"""Calls that wait for a CPU which no actor gives back wait for ever, and say nothing."""


@dataclass(frozen=True)
class OnRay(Engine):
    """Measures on a Ray cluster. What is lost with an actor or a node is the shard in hand: it goes to the next free actor, and
    Ray starts the actor again where there is room. What is lost with the driver is the shards in hand.

    address: "auto" is the cluster that this machine belongs to, ray://host:port one elsewhere, "local" one of this machine alone
    that is started for the pass; None takes RAY_ADDRESS or a cluster of this machine, and starts one where there is none.
    """

    address: str | None = None
    workers: int | None = None
    """Actors; None: as many as fit. At most as many as leave one CPU of the cluster free, unless it grows by itself."""
    cpus: float = 1.0
    """Of an actor."""
    gpus: float | None = None
    """Of an actor; None: 1 where the numerics are of CUDA."""
    autoscaling: bool = False
    """Whether the cluster starts nodes for actors that wait: `workers` are then asked for, whatever there is now."""
    patience: float = 120.0
    """Seconds without any actor after which the pass gives up and says what the cluster has. Give minutes where nodes start."""
    longest: float | None = None
    """Seconds on one shard after which an actor is started again and the shard given to another; None: it is told of, no more."""
    shared: bool | None = None
    """Whether actors see the folder and write into it; None: they look. Else results come to this process, which writes them."""
    init: Mapping[str, Any] = field(default_factory=dict)
    """More for `ray.init`, such as runtime_env."""

    def __post_init__(self) -> None:
        if self.autoscaling and self.workers is None:
            raise ConfigError("autoscaling asks for actors that have no room yet: say how many with workers")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers = {self.workers}: give at least 1")
        if self.longest is not None and not self.longest > 0:
            raise ConfigError(f"longest = {self.longest}: give seconds above 0, or None")

    def measure(self, job: Job, folder: Folder, shards: Sequence[Shard], progress: Progress) -> None:
        if not shards:
            return
        ray, packed = imported_ray("a pass on a cluster"), job.packed()
        gpus = self.gpus if self.gpus is not None else float(job.numerics.device.type == "cuda")
        with connected(ray, self.address, self.init, 2 * len(packed)), _token(folder, self.shared) as token:
            count = self._count(room(ray.nodes(), self.cpus, gpus, CPUS_KEPT_FREE), len(shards))
            # Not retried by Ray: a call that waits for its own actor to come back would hold its shard from the others.
            kind = ray.remote(Actor).options(
                num_cpus=self.cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD"
            )
            held = ray.put(packed)
            actors = [kind.remote(held, folder, token) for _ in range(count)]
            try:
                _Crew(ray, actors, job.sharded, folder, deque(shards), progress, self.patience, self.longest).work()
            finally:
                for actor in actors:
                    ray.kill(actor)

    def _count(self, found: Room, shards: int) -> int:
        """How many actors to ask for. ConfigError where none can ever start."""
        if self.autoscaling:
            assert self.workers is not None
            return min(self.workers, shards)
        if found.workers < 1:
            raise ConfigError(
                f"the Ray cluster cannot hold one actor: it asks for {found.asked} beside one CPU that stays free, and "
                f"{found.nodes}; start larger nodes, ask for less (OnRay(cpus=..., gpus=...)), or say autoscaling=True"
            )
        return min(self.workers or found.workers, found.workers, shards)


@contextmanager
def _token(folder: Folder, shared: bool | None) -> Iterator[str | None]:
    """The name of a file in the folder, by which an actor sees whether its machine shares it."""
    if shared is False or not isinstance(folder, LocalFolder):
        yield None
        return
    name = f"seen-{uuid.uuid4().hex[:12]}.part"
    folder.write(name, b"")
    try:
        yield name
    finally:
        folder.remove(name)


@dataclass
class _Crew:
    """The driver's side: who is ready, who has which shard."""

    ray: Any
    actors: list[Any]
    sharded: Sharded
    folder: Folder
    waiting: deque[Shard]
    progress: Progress
    patience: float
    longest: float | None
    tries: Tries = field(default_factory=Tries)
    born_dead: int = 0
    reason: Exception | None = None
    """Why the last actor that could not begin did not."""

    def work(self) -> None:
        # Nobody is given a shard before it has its model: an actor that waits for room would keep it.
        self._coming = {actor.ready.options(max_task_retries=-1).remote(): actor for actor in self.actors}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Shard]] = {}
        self._names: dict[Any, str] = {}
        self._watch, self._hung = Watch(self.longest), dict[Any, str]()
        self._seen_by: set[str] = set()
        seen = time.monotonic()
        while self.waiting or self._busy:
            while self._idle and self.waiting:
                self._give(self._idle.pop())
            done, _ = self.ray.wait([*self._coming, *self._busy], num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
            for call in done:
                self._answered(call)
            self._look_for_the_hung()
            if self._idle or self._busy:
                seen = time.monotonic()
            elif time.monotonic() - seen > self.patience or not self._coming:
                self._give_up()

    def _give(self, actor: Any) -> None:
        shard = self.waiting.popleft()
        self.progress.began(self._names[actor])
        carried = None if self.sharded.everywhere else pack_any(self.sharded.carrying([shard]))
        self._busy[actor.measure.remote(shard, carried)] = actor, shard
        self._watch.heard(self._names[actor])

    def _look_for_the_hung(self) -> None:
        for actor, shard in self._busy.values():
            name = self._names[actor]
            if name in self._hung:
                continue
            said, over = self._watch.of(name, shard.name, "has been at")
            if said:
                self.progress.notice(said)
            if over:
                self._hung[name] = over
                self.ray.kill(actor, no_restart=False)

    def _answered(self, call: Any) -> None:
        if call in self._coming:
            self._came(self._coming.pop(call), call)
            return
        actor, shard = self._busy.pop(call)
        name = self._names[actor]
        try:
            files = self.ray.get(call)
        except McdalError as error:  # put into words for a person: it would fail everywhere
            raise _plain(error) from None
        except self.ray.exceptions.RayActorError as error:
            self._again(name, shard, self._hung.pop(name, "") or f"{name} was lost ({first_line(error)})")
            self._await(actor)
            return
        except self.ray.exceptions.RayError as error:
            self._again(name, shard, f"{name}: {first_line(error)}")
        else:
            if files is not None:
                write(self.folder, files)
            elif name not in self._seen_by:
                refuse_unseen(self.folder, shard.name, name)
                self._seen_by.add(name)
            self.progress.finished(name, shard)
        self._idle.append(actor)

    def _came(self, actor: Any, call: Any) -> None:
        try:
            sight: Sight = self.ray.get(call)
        except self.ray.exceptions.RayError as error:
            self.born_dead += 1
            self.reason = error
            if self.born_dead >= TRIES and not (self._idle or self._busy):
                self._give_up()
            return
        self._names.setdefault(actor, f"{sight.machine} {len(self._names)}")
        self._idle.append(actor)

    def _again(self, name: str, shard: Shard, why: str) -> None:
        self.progress.lost(name)
        self.progress.notice(self.tries.again(shard, why))
        self.waiting.append(shard)

    def _await(self, actor: Any) -> None:
        """Ray starts it anew, where there is room or when there is again."""
        self._coming[actor.ready.options(max_task_retries=-1).remote()] = actor

    def _give_up(self) -> None:
        if self.reason is not None:
            raise StoreError(f"actors end before they measure anything, the last one: {self.reason}") from self.reason
        free = {name: n for name, n in self.ray.available_resources().items() if name in ("CPU", "GPU", "memory")}
        raise StoreError(
            f"no actor could start on the Ray cluster for {self.patience:.0f} s: {len(self._coming)} wait, and free are {free}; "
            "is it taken by others, or are its nodes gone? What was measured is kept: the same command continues"
        )


def _plain(error: McdalError) -> McdalError:
    """Ray raises a class of its own that is also the one that was raised there."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, McdalError) else error
