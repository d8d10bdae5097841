"""One pass over a pool in shards. Read `measure_shards` first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mcdal.device import Numerics, choose_device, resolve
from mcdal.errors import ConfigError, StoreError
from mcdal.events import Listener, nobody
from mcdal.models.base import Model
from mcdal.passes.engine import Engine
from mcdal.passes.folder import Folder, folder_of
from mcdal.passes.here import Here
from mcdal.passes.measured import Measured
from mcdal.passes.on_ray import OnRay
from mcdal.passes.processes import Processes
from mcdal.passes.progress import Progress
from mcdal.passes.shard_files import DamagedError, Found, Kept, file_of, look, sweep
from mcdal.passes.tags import Tags, common_tags, differing, tags_of
from mcdal.passes.work import Job
from mcdal.pool.sharded import Shard, Sharded
from mcdal.strategies.base import Strategy

NAMED = 3
"""Shards that a notice names."""


def measure_shards(
    model: Model,
    sharded: Sharded,
    strategy: Strategy,
    folder: Path | str,
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    seed: int = 0,
    window: tuple[int, int] | None = None,
    workers: int = 1,
    engine: Engine | Literal["ray"] | None = None,
    kept: Kept = "float16",
    about: Mapping[str, str] | None = None,
    listen: Listener = nobody,
) -> Measured:
    """What `strategy` measures on every sample of every shard, as `mcdal.measuring.measure` does, in files in `folder`.

    A shard whose files are whole and carry the same tags is not measured again, whoever measured it: a killed pass continues.
    Labels are not asked for: no measurement depends on them, and the functions that choose are given them.

    workers: processes of this machine; 1 measures in this one. engine: who measures instead, such as `OnRay(...)`; "ray" is
    `OnRay()`. kept: how vectors and probabilities are stored. about: more that the rows depend on and that neither model nor
    shards tell, such as how images are normalised, or a field of the strategy that cannot be compared; files that differ in it
    are stale.
    """
    if workers < 1:
        raise ConfigError(f"workers = {workers}: give at least 1")
    numerics = numerics or resolve(choose_device("auto"))
    where, shards = folder_of(folder), sharded.shards
    _refuse_doubles(shards)
    common = common_tags(model, strategy, numerics, seed, window, kept, about or {})
    job = Job(model, strategy, sharded, common, numerics, batch_size, seed, window, kept)
    with where.alone():
        done = _kept(where, shards, common, listen)
        progress = Progress(shards, [shard for shard in shards if shard.name in done], listen)
        missing = [shard for shard in shards if shard.name not in done]
        _chosen(engine, workers).measure(job, where, missing, progress)
        new = {shard.name: _measured_now(where, shard, common) for shard in missing}
        found = tuple((done | new)[shard.name] for shard in shards)
        sweep(where, {column.file for each in found for column in each.columns.values()})
    return Measured(where, shards, found, len(done))


def engine_of(workers: int | None, on: str | None) -> Engine:
    """What is asked for in words: `workers` processes of this machine, or actors of the Ray cluster at the address `on`."""
    if on is not None:
        return OnRay(on, workers)
    return Here() if workers is None or workers == 1 else Processes(workers)


def _chosen(engine: Engine | Literal["ray"] | None, workers: int) -> Engine:
    if engine == "ray":
        return OnRay()
    return engine or engine_of(workers, None)


def _refuse_doubles(shards: Sequence[Shard]) -> None:
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(
            f"two shards are called {twice!r}: what is measured is filed under the name, so give each its own"
        )


def _kept(folder: Folder, shards: Sequence[Shard], common: Tags, listen: Listener) -> dict[str, Found]:
    """What an earlier pass left and may be used, by shard. Says what it makes of the rest."""
    there, done = folder.names(), {}
    stale: dict[str, list[str]] = {}
    for shard in shards:
        if file_of(shard.name) not in there:
            continue
        try:
            found = look(folder, shard.name)
        except DamagedError as error:
            listen(
                "notice", text=f"the shard {shard.name} is measured again: {file_of(shard.name)} is damaged: {error}"
            )
            continue
        if found is None:
            continue
        if differences := differing(found.tags, tags_of(shard, common)):
            stale[shard.name] = differences
        else:
            done[shard.name] = found
    if stale:
        listen("notice", text=_of_stale(stale))
    if done:
        rows = sum(found.rows for found in done.values())
        listen("notice", text=f"{len(done):,} of {len(shards):,} shards ({rows:,} rows) were measured before")
    return done


def _of_stale(stale: Mapping[str, list[str]]) -> str:
    named = ", ".join(list(stale)[:NAMED]) + (", ..." if len(stale) > NAMED else "")
    why = ", ".join(sorted({name for names in stale.values() for name in names}))
    return f"{len(stale):,} shards ({named}) are measured again: what was kept of them differs in {why}"


def _measured_now(folder: Folder, shard: Shard, common: Tags) -> Found:
    try:
        found = look(folder, shard.name, thorough=False)
    except DamagedError as error:
        raise StoreError(f"{folder}/{file_of(shard.name)} was damaged while the pass went on: {error}") from error
    if found is None or differing(found.tags, tags_of(shard, common)):
        raise StoreError(
            f"{folder}/{file_of(shard.name)} is not there after it was written: does another pass use the folder?"
        )
    return found
