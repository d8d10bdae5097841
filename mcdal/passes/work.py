"""What one worker does, wherever it is: it holds the model, takes a shard, and gives the files of what was measured on it."""

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from mcdal.device import Numerics
from mcdal.errors import ConfigError, PoolError
from mcdal.events import Listener, nobody
from mcdal.measuring import measure
from mcdal.models.base import Model
from mcdal.passes.shard_files import Kept, encoded
from mcdal.passes.tags import Tags, tags_of
from mcdal.passes.travel import pack, pack_any, unpack
from mcdal.pool.base import Pool, Quarantined
from mcdal.pool.sharded import Shard, Sharded
from mcdal.strategies.base import Strategy
from mcdal.values import Rows


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know."""

    model: Model
    strategy: Strategy
    sharded: Sharded
    common: Tags
    """Tags of every shard."""
    numerics: Numerics
    batch_size: int
    seed: int
    window: tuple[int, int] | None
    kept: Kept

    def packed(self) -> bytes:
        """As it travels to another process: small but for the weights."""
        plain = {field: getattr(self, field) for field in PLAIN}
        return pickle.dumps((tuple(sys.path), pack(self.model, self.strategy), pack_any(self.sharded), plain))


PLAIN = ("common", "numerics", "batch_size", "seed", "window", "kept")


def unpacked(content: bytes, slot: int = 0) -> Job:
    """What `Job.packed` made, for the worker in this slot: of several accelerators each takes another."""
    path, networks, sharded, plain = pickle.loads(content)
    sys.path += [folder for folder in path if folder not in sys.path]
    numerics = on_own_device(plain["numerics"], slot)
    model, strategy = unpack(networks, numerics.device)
    return Job(model, strategy, pickle.loads(sharded), **{**plain, "numerics": numerics})


class Worker:
    """Measures with the model of its job."""

    def __init__(self, job: Job):
        self._job = job
        for part in job.strategy.state().values():
            if isinstance(part, nn.Module):
                part.to(job.numerics.device)

    def measure(self, shard: Shard, listen: Listener = nobody, carried: bytes | None = None) -> dict[str, bytes]:
        """Content by file name. PoolError where the shard does not hold what it held when it was listed.

        carried: what `pack_any` made of `Sharded.carrying` for this shard, used where it cannot be opened without.
        """
        job, sharded = self._job, self._job.sharded
        if carried is not None and not sharded.reaches(shard):
            sharded = pickle.loads(carried)
        pool = sharded.pool(shard)
        # No label goes along: which rows have one is looked up when something is chosen, and changes no measurement.
        rows = measure(
            job.model, pool, {}, job.strategy, numerics=job.numerics, batch_size=job.batch_size, seed=job.seed,
            window=job.window, listen=listen,
        )  # fmt: skip
        quarantined = _quarantined(pool)
        rows = _without(rows, quarantined)
        if len(rows.ids) + len(quarantined) != shard.size:
            raise PoolError(
                f"the shard {shard.name!r} holds {len(rows.ids)} samples and {len(quarantined)} that were set aside, and not "
                f"{shard.size}: it has changed since it was listed; list the shards again"
            )
        return encoded(rows, quarantined, tags_of(shard, job.common), job.kept)


def _quarantined(pool: Pool) -> tuple[Quarantined, ...]:
    """Those that were set aside when the shard was opened, and those that could not be decoded on the way."""
    later: tuple[Quarantined, ...] = tuple(getattr(pool.images, "quarantined", ()))
    by_id: Mapping[str, Quarantined] = {q.id: q for q in (*pool.quarantine, *later)}
    return tuple(by_id.values())


def _without(rows: Rows, quarantined: tuple[Quarantined, ...]) -> Rows:
    """Only those that were measured: an image that was found bad on the way has a row of nothing."""
    bad = {q.id for q in quarantined} & set(rows.ids)
    if not bad:
        return rows
    return rows.take(np.array([i for i, id in enumerate(rows.ids) if id not in bad], dtype=np.int64))


def on_own_device(numerics: Numerics, slot: int) -> Numerics:
    """The arithmetic of the job on the accelerator of this slot: from the job's own on, and round again after the last."""
    if numerics.device.type != "cuda":
        return numerics
    count = torch.cuda.device_count()
    if count == 0:
        raise ConfigError(
            "the pass is to compute on a GPU, and a worker's machine has none that CUDA can use: say device cpu, give actors a "
            "GPU (OnRay(gpus=1)), or mend the driver there"
        )
    return replace(numerics, device=torch.device("cuda", ((numerics.device.index or 0) + slot) % count))
