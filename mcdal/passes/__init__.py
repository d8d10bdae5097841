"""One pass over a pool in shards: measured by whoever is free, each shard's result a file, continued after any kill."""

from mcdal.passes.choose import pick, random_of, top_of
from mcdal.passes.engine import Engine
from mcdal.passes.here import Here
from mcdal.passes.measure import engine_of, measure_shards
from mcdal.passes.measured import Measured
from mcdal.passes.on_ray import OnRay
from mcdal.passes.processes import Processes
from mcdal.passes.rows import rows_of

__all__ = [
    "Engine", "Here", "Measured", "OnRay", "Processes", "engine_of", "measure_shards", "pick", "random_of", "rows_of", "top_of",
]  # fmt: skip
