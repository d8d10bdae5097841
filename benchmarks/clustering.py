"""TypiClust, ProbCover, k-means of candidates and herding on 50,000 x 512: time against scikit-activeml, and memory.

Vectors are noise about 100 centres, so that there is something to find. scikit-activeml's strategies get the same arrays, scaled
to length 1, with its own settings but for one: its ProbCover is given the radius, so that it need not search for one. It holds
all pairs in float64, and some copies (20 GB each at 50,000), so ProbCover and MaxHerding are compared at the size that is told in
the name. Inertia is compared on the same rows with scikit-learn's two k-means, since TypiClust's own code takes either.

    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.clustering
"""

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.side_by_side import Check, check, interleaved, peak_megabytes, run_alone, show
from mcdal.measuring import select
from mcdal.selection.clusters import by_id, typicality, unit
from mcdal.selection.k_means import among_candidates
from mcdal.selection.lloyd import k_means
from mcdal.strategies.base import Strategy
from mcdal.strategies.max_herding import MaxHerding
from mcdal.strategies.probcover import ProbCover
from mcdal.strategies.typiclust import TypiClust
from mcdal.strategies.uherding import UHerding
from mcdal.values import Picks, Rows

CENTRES = 100
RADIUS = 0.9
TIMES, TWICE_THE_ROWS = 10, 2.5
"""What a peer must take, and what twice the rows may cost in memory where it grows with them alone, with room for noise."""
WORSE = 1.005
"""What our inertia may be of theirs, with room for the luck of the seeds."""
QUICK = {"typiclust": 0.7, "probcover": 3.4, "max_herding": 4.0}
"""What a peer must take of our time at the quick size, some half of what it does."""
NEIGHBOURS, NEIGHBOURS_QUICK = 0.5, 1.2
"""The same of scikit-learn's search for neighbours, at 50,000 x 512 and at the quick size."""


def pool(n: int, d: int, labeled: int = 0) -> Rows:
    random = np.random.default_rng(0)
    vector = random.normal(size=(CENTRES, d)).astype(np.float32)[random.integers(0, CENTRES, n)]
    vector += random.standard_normal((n, d), dtype=np.float32)
    mask = np.isin(np.arange(n), random.choice(n, labeled, replace=False))
    return Rows(tuple(f"{i:06d}" for i in range(n)), mask, random.random(n, dtype=np.float32), vector)


class Candidates(Strategy):
    """k-means of every row, as ALFA-Mix and DropQuery spread their candidates."""

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        return among_candidates(rows, np.ones(len(rows.ids), dtype=bool), budget, seed)


OURS: dict[str, Callable[[], Strategy]] = {
    "typiclust": TypiClust,
    "probcover": partial(ProbCover, delta=RADIUS),
    "max_herding": MaxHerding,
    "uherding, h = 0.03": partial(UHerding, bandwidth=0.03, held_out=0.0),
    "k-means of candidates": Candidates,
}


def choose(name: str, budget: int, rows: Rows) -> Picks:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return select(OURS[name](), rows, budget)


def work(argument: tuple[str, int, Rows]) -> Picks:
    return choose(*argument)


def prepared(name: str, budget: int, n: int, d: int) -> tuple[str, int, Rows]:
    choose(name, 5, pool(60, d))  # what is imported and kept anyway
    return name, budget, pool(n, d)


def peer(name: str, budget: int, rows: Rows) -> np.ndarray:
    from skactiveml.pool import MaxHerding as Herding
    from skactiveml.pool import ProbCover as Cover
    from skactiveml.pool import TypiClust as Typical

    x = unit(rows.vector, np.arange(len(rows.ids)))  # type: ignore[arg-type]
    y = np.where(rows.labeled, np.arange(len(x)) % 10, np.nan)
    made: Any = {
        "typiclust": lambda: Typical(random_state=0, k=20),
        "probcover": lambda: Cover(random_state=0, deltas=[RADIUS], n_classes=10),
        "max_herding": lambda: Herding(random_state=0),
    }[name]()
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        found: np.ndarray = made.query(x, y, batch_size=budget)
    return found


def peer_check(
    name: str, budget: int, n: int, d: int, repetitions: int, bound: float | None, labeled: int = 0
) -> Check:
    rows = pool(n, d, labeled)
    choose(name, 2, pool(80, d))
    peer(name, 2, pool(80, d))
    ours = interleaved({"ours": partial(choose, name, budget, rows)}, repetitions, warm=0)
    begun = time.process_time()
    peer(name, budget, rows)
    seconds = {"scikit-activeml": [time.process_time() - begun], "ours": [statistics.median(ours["ours"])]}
    told = f"{name}, {budget} of {n:,} x {d}, {labeled} labeled: scikit-activeml, once / ours"
    found = check(told, seconds, "scikit-activeml", "ours", "at least", bound)
    show([found])
    return found


def inertia_checks(k: int, n: int, d: int, seeds: int) -> list[Check]:
    """Mean over seeds of the sum of squared distances to the nearest centre, ours / theirs."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    points = unit(pool(n, d).vector, np.arange(n))  # type: ignore[arg-type]
    kinds = {
        "KMeans": partial(KMeans, k, n_init=1),
        "MiniBatchKMeans": partial(MiniBatchKMeans, k, batch_size=5_000, n_init=1),
    }
    reached: dict[str, list[float]] = {name: [] for name in ("ours", *kinds)}
    with threadpool_limits(1):
        for seed in range(seeds):
            reached["ours"].append(inertia(points, k_means(points, k, seed)[1]))
            for name, kind in kinds.items():
                reached[name].append(inertia(points, kind(random_state=seed).fit(points).cluster_centers_))
    mean = {name: statistics.mean(values) for name, values in reached.items()}
    return [
        Check(
            f"inertia, {k} clusters of {n:,} x {d}: ours / {name}",
            mean["ours"] / mean[name],
            WORSE,
            "at most",
            detail=f"{mean['ours']:.6g} and {mean[name]:.6g}, means of {seeds} seeds",
        )
        for name in kinds
    ]


def inertia(points: np.ndarray, centres: np.ndarray) -> float:
    """In float64."""
    c, total = torch.from_numpy(centres).double(), 0.0
    for part in torch.split(torch.from_numpy(points), 4_096):
        x = part.double()
        least = torch.addmm(c.square().sum(1), x, c.T, alpha=-2).amin(1)
        total += float((least + x.square().sum(1)).sum())
    return total


def typicality_check(n: int, d: int, repetitions: int, bound: float) -> Check:
    """Within the clusters that the vectors were drawn from: the nearest others by scikit-learn's search, as the peer does."""
    from sklearn.neighbors import NearestNeighbors

    rows = pool(n, d)
    points = unit(rows.vector, by_id(rows.ids, np.arange(n)))  # type: ignore[arg-type]
    group = np.random.default_rng(0)
    group.normal(size=(CENTRES, d))
    cluster = group.integers(0, CENTRES, n)
    members = [np.flatnonzero(cluster == c) for c in range(CENTRES)]

    def ours() -> None:
        for m in members:
            typicality(points[m], 20)

    def theirs() -> None:
        with threadpool_limits(1):
            for m in members:
                NearestNeighbors(n_neighbors=21).fit(points[m]).kneighbors(points[m])

    seconds = interleaved({"ours": ours, "nearest neighbours": theirs}, repetitions)
    return check(
        f"typicality within clusters, {n:,} x {d}: scikit-learn's neighbours / ours",
        seconds,
        "nearest neighbours",
        "ours",
        "at least",
        bound,
    )


def seconds_check(name: str, budget: int, n: int, d: int) -> Check:
    rows = pool(n, d)
    choose(name, 5, pool(60, d))
    begun = time.process_time()
    choose(name, budget, rows)
    return Check(
        f"{name}, {budget} of {n:,} x {d}", time.process_time() - begun, None, "at most", unit="CPU s", detail="once"
    )


def memory_checks(name: str, budget: int, n: int, d: int) -> list[Check]:
    """What is held at most beyond the rows, and how that grows with them. The copy of the vectors is n x d x 4 bytes of it."""
    half, whole = (peak_megabytes(prepared, work, name, budget, size, d) for size in (n // 2, n))
    copy = n * d * 4 / 2**20
    return [
        Check(
            f"{name}, peak memory of {n:,} x {d}",
            whole,
            None,
            "at most",
            unit="MB",
            detail=f"of them a copy of the vectors: {copy:.0f} MB",
        ),
        Check(f"{name}, peak memory: {n:,} rows / half of them", whole / max(half, 1e-9), TWICE_THE_ROWS, "at most"),
    ]


def checks(quick: bool) -> list[Check]:
    """Quick: 4,000 x 128 and 20 picks. TypiClust without a label misses its bound: `make bench` tells what is known."""
    torch.set_num_threads(1)
    if quick:
        found = [peer_check(name, 20, 4_000, 128, 3, bound) for name, bound in QUICK.items()]
        found.append(typicality_check(10_000, 128, 5, NEIGHBOURS_QUICK))
        found += inertia_checks(100, 4_000, 128, 3)
        return found + [c for name in ("typiclust", "probcover") for c in memory_checks(name, 20, 16_000, 128)[1:]]
    found = [
        peer_check("typiclust", 100, 50_000, 512, 1, TIMES),
        peer_check("typiclust", 100, 50_000, 512, 1, TIMES, labeled=400),
        peer_check("probcover", 100, 10_000, 512, 2, TIMES),
        peer_check("max_herding", 100, 10_000, 512, 1, TIMES),
        typicality_check(50_000, 512, 3, NEIGHBOURS),
        *inertia_checks(100, 50_000, 512, 3),
        *inertia_checks(500, 50_000, 512, 2),
    ]
    for name in OURS:
        # Its pairs are met again with every pick; half as many rows are more than those whose kernels are kept.
        n, budget = (24_000, 20) if name == "max_herding" else (50_000, 100)
        found.append(seconds_check(name, budget, n, 512))
        show(found[-1:])
        found += memory_checks(name, budget, n, 512)
    return found


if __name__ == "__main__":
    run_alone("clustering", "TypiClust, ProbCover, k-means and herding", __doc__, checks)
