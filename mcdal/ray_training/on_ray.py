"""Where a run is trained: by actors of a Ray cluster."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, final

import numpy as np
import torch

from mcdal.checkpoint import packed
from mcdal.device import Numerics
from mcdal.errors import ConfigError, TrainingError
from mcdal.events import Listener, nobody
from mcdal.models.base import Model
from mcdal.pool.base import LabeledView, Pool
from mcdal.ray_cluster import connected, imported_ray, room
from mcdal.ray_training.crew import Asked, Crew, LostRanksError
from mcdal.ray_training.parcel import Parcel, put
from mcdal.strategies.base import Strategy
from mcdal.trainer import Place, Trainer
from mcdal.training import Training, arrive, is_end
from mcdal.work import Keeper, Trained

TRIES = 3
"""Times that a training is begun again without having kept anything new."""


@final
@dataclass(frozen=True)
class TrainOnRay(Place):
    """`training.processes` actors of a Ray cluster train together, as ranks of torch's process group.

    What is lost with one of them, with its node or with the driver is the time since the training's last checkpoint.

    address: "auto" is the cluster that this machine belongs to, ray://host:port one elsewhere, "local" one of this machine alone
    that is started for the run; None takes RAY_ADDRESS or a cluster of this machine, and starts one where there is none.
    """

    address: str | None = None
    cpus: float = 1.0
    """Of a process that trains, and the threads that it computes with."""
    gpus: float | None = None
    """Of a process that trains; None: 1 where it computes on CUDA."""
    autoscaling: bool = False
    """Whether the cluster starts nodes for processes that wait: they are then waited for, whatever there is now."""
    patience: float = 120.0
    """Seconds without room after which the training gives up. Give minutes where nodes start."""
    init: Mapping[str, Any] = field(default_factory=dict)
    """More for `ray.init`, such as runtime_env."""

    def __post_init__(self) -> None:
        if not self.cpus > 0:
            raise ConfigError(f"cpus = {self.cpus}: a process that trains takes some of a CPU")

    @contextmanager
    def trainer(self, training: Training, device: str, listen: Listener = nobody) -> Iterator[Trainer]:
        """ConfigError where the cluster can never hold the processes. device: auto takes CUDA where the cluster has GPUs."""
        ray = imported_ray("training on a cluster")
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device {device}: on a cluster Ray gives each process its GPU; give cuda, cpu or auto")
        here = device
        if device == "cuda" and not torch.cuda.is_available():
            listen(
                "notice",
                text="this machine has no GPU: the cluster trains on its own, tests and measures are made on the CPU here",
            )
            here = "cpu"
        numerics = training.numerics(here)
        with connected(ray, self.address, self.init):
            yield _OnRay(ray, self._asked(ray.nodes(), training, device), numerics)

    def _asked(self, nodes: list[Mapping[str, Any]], training: Training, device: str) -> Asked:
        """What the run asks of these nodes."""
        has_gpus = any(node["Alive"] and node["Resources"].get("GPU", 0.0) for node in nodes)
        kind = device if device != "auto" else "cuda" if has_gpus else "cpu"
        gpus = self.gpus if self.gpus is not None else float(kind == "cuda")
        found = room(nodes, self.cpus, gpus)
        auto = max(1, found.workers) if kind == "cuda" else 1
        count = auto if training.processes == "auto" else training.processes
        training.refuse_uneven(count)
        if kind == "cuda" and count > 1 and gpus < 1:
            raise ConfigError(f"gpus = {gpus:g}: of several processes that train each needs a GPU of its own")
        if found.workers < count and not self.autoscaling:
            raise ConfigError(
                f"the Ray cluster cannot hold {count} processes that train (training.processes): each asks for {found.asked}, "
                f"and {found.nodes}; start larger nodes, set training.processes to {max(1, found.workers)}, or give another "
                "--device"
            )
        return Asked(count, self.cpus, gpus, kind, self.patience)


@final
class _OnRay(Trainer):
    def __init__(self, ray: Any, asked: Asked, numerics: Numerics):
        self.count, self.numerics = asked.count, numerics
        self.where = f"Ray, {asked.kind}, {asked.threads} threads"
        self._ray, self._asked = ray, asked
        self._sent: tuple[Pool, Parcel] | None = None  # the pool is sent once
        self._introduced = False

    def train(
        self,
        model: Model,
        pool: Pool,
        labels: Mapping[str, int],
        strategy: Strategy,
        training: Training,
        *,
        seed: int,
        keeper: Keeper,
        listen: Listener,
    ) -> Trained:
        order = {
            "model": model,
            "labels": dict(labels),
            "masks": {} if pool.masks is None else pool.masks.told(labels.values()),
            "strategy": replace(strategy) if is_dataclass(strategy) else strategy,
            "training": training,
            "seed": seed,
        }
        state, failed = keeper.load(), 0
        while state is None or not is_end(state, model, pool, labels, training):
            kept = _Kept(keeper)
            try:
                state = self._once(pool, order, state, kept, listen)
            except LostRanksError as lost:
                failed = 1 if kept.steps else failed + 1
                self._begin_again(lost, failed, kept, listen)
                state = keeper.load()
        return arrive(model, pool, labels, strategy, training, state, numerics=self.numerics, seed=seed)

    def _once(
        self, pool: Pool, order: Mapping[str, object], state: dict[str, object] | None, kept: "_Kept", listen: Listener
    ) -> dict[str, object]:
        """The state at the end. LostRanksError where the ranks came apart before."""
        parcel = self._pool(pool), put(self._ray, order, "--train-there")
        with Crew(self._ray, self._asked, listen) as crew:
            sights = crew.hear(*parcel, b"" if state is None else packed(state))
            if not self._introduced:
                machines, by = ", ".join(dict.fromkeys(s.machine for s in sights)), sights[0]
                what = f"{by.gpu or by.numerics.device.type} in {by.numerics.precision}"
                listen("notice", text=f"trained by {_processes(self.count)} of the Ray cluster on {machines}: {what}")
                self._introduced = True
            end = crew.train(kept.keeper.due, kept.take)
        return kept.take(end)

    def _pool(self, pool: Pool) -> Parcel:
        """In the object store; what a training does not look at (true classes, test images) stays here."""
        if self._sent is None or self._sent[0] is not pool:
            nothing = np.empty(0, dtype=np.int64)
            test = LabeledView(pool.images, nothing, nothing)
            needed = replace(pool, test=test, targets=None, groups=None, sharded=None)
            self._sent = pool, put(self._ray, {"pool": needed}, "--train-there")
        return self._sent[1]

    def _begin_again(self, lost: LostRanksError, failed: int, kept: "_Kept", listen: Listener) -> None:
        if lost.gone:
            self._sent = None
        if failed > TRIES:
            raise TrainingError(
                f"the training on the Ray cluster was lost {failed} times without getting on, the last time: {lost}; what was "
                "trained before is kept, and the same command continues. Look whether memory is short, or a node unsteady"
            ) from lost
        last = f"from step {kept.steps}" if kept.steps else "where it last began"
        listen("notice", text=f"the training goes on {last} with new processes: {lost}")


@dataclass
class _Kept:
    """States that come from rank 0 during one attempt. steps: of the last one; 0 before there was any."""

    keeper: Keeper
    steps: int = 0

    def take(self, content: bytes) -> dict[str, object]:
        state: dict[str, object] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        self.keeper.save(state)
        self.steps = int(state["step"])  # type: ignore[call-overload]
        return state


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
