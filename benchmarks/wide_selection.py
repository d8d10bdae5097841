"""What a choice in parts or among candidates loses against the exact one, where both run; one thread.

Two pools of 512 features: CIFAR-10's first 25,000 images through EfficientNet-Lite0 at 96 pixels, projected at random
(`--cifar10` names the folder, `--work` keeps the features), and noise about 100 clusters whose sizes fall from 3 % to .2 %. From
some labels a linear head is fitted, whose probabilities the strategies get; each picks a batch exactly, in ten parts, among ten
candidates a pick (those with the smallest margin), and exactly from a tenth of the pool, drawn by lot, which a choice in parts
must beat. Its own objective over the whole pool, and the accuracy of a linear head on all labels then, beside Random's.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/wide_selection.py --cifar10 FOLDER --work FOLDER
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.recipes import ENCODED, First
from benchmarks.side_by_side import RESULTS, Check, record
from mcdal.device import choose_device, resolve
from mcdal.measuring import select
from mcdal.pool.cifar import Cifar
from mcdal.pool.frozen import FeatureImages, open_frozen
from mcdal.selection.clusters import unit
from mcdal.selection.k_center import chunks, nearest
from mcdal.selection.lloyd import k_means
from mcdal.selection.parts import drawn
from mcdal.selection.search import Search
from mcdal.strategies.badge import Badge, residuals
from mcdal.strategies.base import Strategy
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.max_herding import MaxHerding
from mcdal.strategies.probcover import ProbCover
from mcdal.strategies.random import Random
from mcdal.strategies.typiclust import TypiClust
from mcdal.strategies.uherding import UHerding
from mcdal.values import Picks, Rows

IMAGES = 25_000, 5_000
"""Of the pool and for testing."""
D, PARTS, TENTH, CLASSES = 512, 10, 10, 10
SEARCHES: dict[str, Search] = {
    "exact": Search(how="exact"),
    "partition": Search(how="partition", parts=PARTS, minutes=1e6, memory_gib=1e3),
    "candidates": Search(how="candidates", minutes=1e6, memory_gib=1e3),
}


@dataclass(frozen=True)
class Data:
    """x, y of a pool and of test samples."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def first(self, n: int) -> "Data":
        return replace(self, x=self.x[:n], y=self.y[:n])


@dataclass(frozen=True)
class Case:
    """n: rows of the pool at most. objective: what the picks reach over the whole pool. larger: whether that is better."""

    make: Callable[[Data], Strategy]
    n: int
    labels: int
    budget: int
    what: str
    objective: Callable[[Rows, np.ndarray, Strategy], float]
    larger: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--work", type=Path, default=Path("/tmp"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "wide_selection.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pools = {"clusters": clusters()} | (
        {} if given.cifar10 is None else {"cifar10": cifar10(given.cifar10, given.work)}
    )
    begun = time.process_time()
    found = [row for name, data in pools.items() for row in measured(name, data, given.seeds)]
    means = summary(found)
    record(
        given.out, "Choices in parts and among candidates against exact ones", "benchmarks/wide_selection.py", checks(means),
        cpu_seconds=time.process_time() - begun, parts=PARTS, seeds=given.seeds, means=means, rows=found,
    )  # fmt: skip


def clusters(n: int = 100_000, test: int = 10_000, centres: int = 100) -> Data:
    """Noise about centres; the class of a centre is its number modulo ten."""
    random = np.random.default_rng(0)
    share = np.geomspace(1, 0.08, centres)
    group = random.choice(centres, n + test, p=share / share.sum())
    x = 0.5 * random.normal(size=(centres, D)).astype(np.float32)[group] + random.standard_normal(
        (n + test, D), dtype=np.float32
    )
    y = group % CLASSES
    return Data(x[:n], y[:n], x[n:], y[n:])


def cifar10(folder: Path, work: Path) -> Data:
    """Features of mean 0 and deviation 1, then projected."""
    numerics = resolve(choose_device("cpu"))
    pool = open_frozen(First(Cifar(folder, classes=CLASSES), *IMAGES), ENCODED, work / "cache", numerics)
    assert (
        isinstance(pool.images, FeatureImages)
        and isinstance(pool.test.images, FeatureImages)
        and pool.targets is not None
    )
    mean, deviation = (
        np.array(each, dtype=np.float32) for each in (pool.images.spread.mean, pool.images.spread.deviation)
    )
    axes = np.random.default_rng(0).standard_normal((len(mean), D)).astype(np.float32) / np.float32(D**0.5)
    x, test = (
        np.concatenate([(images._features[where] - mean) / deviation @ axes for where in chunks(len(images))])
        for images in (pool.images, pool.test.images)
    )
    return Data(x, np.asarray(pool.targets), test, pool.test.answers(slice(None)))


def head(x: np.ndarray, y: np.ndarray, steps: int = 60) -> Callable[[np.ndarray], np.ndarray]:
    """Softmax regression with an L2 penalty, to its minimum nearly; gives class probabilities."""
    z, target = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y)
    weight, bias = torch.zeros(CLASSES, x.shape[1], requires_grad=True), torch.zeros(CLASSES, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(z @ weight.T + bias, target) + 1e-2 * weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)
    w, b = weight.detach(), bias.detach()
    return lambda x: (torch.from_numpy(np.ascontiguousarray(x)) @ w.T + b).softmax(1).numpy()


def cases() -> dict[str, Case]:
    even = partial(similarity, uncertain=False)
    return {
        "core_set": Case(lambda _: CoreSet(), 100_000, 1_000, 1_000, "covering radius", radius),
        "badge": Case(lambda _: Badge(), 100_000, 1_000, 1_000, "k-means++ potential", potential),
        "typiclust": Case(lambda _: TypiClust(), 100_000, 20, 100, "inertia about picks", inertia),
        "probcover": Case(lambda data: ProbCover(delta=near(data)), 20_000, 20, 100, "share covered", covered, True),
        "max_herding": Case(lambda _: MaxHerding(), 10_000, 20, 100, "mean similarity", even, True),
        "uherding": Case(
            lambda _: UHerding(held_out=0.0),
            10_000,
            200,
            100,
            "similarity of what is unsure",
            partial(similarity, uncertain=True),
            True,
        ),
    }


def measured(pool: str, whole: Data, seeds: int) -> Iterator[dict[str, Any]]:
    for name, case in cases().items():
        data = whole.first(case.n)
        strategy = case.make(data)
        for seed in range(seeds):
            rows = labeled(data, case.labels, seed)
            exact: set[str] = set()
            for search in ("exact", "partition", "candidates", "a tenth", "random"):
                begun = time.process_time()
                picks = chosen(strategy, rows, case.budget, seed, search)
                seconds = time.process_time() - begun
                exact = set(picks.ids) if search == "exact" else exact
                places = np.array([int(id) for id in picks.ids])
                seen = np.concatenate([np.flatnonzero(rows.labeled), places])
                row = {
                    "pool": pool, "strategy": name, "n": len(rows.ids), "labels": case.labels, "budget": case.budget,
                    "search": search, "seed": seed, "what": case.what, "objective": case.objective(rows, places, strategy),
                    "accuracy": accuracy(data, seen), "clusters": shown(data, seen), "cpu_seconds": seconds,
                    "shared_with_exact": len(exact & set(picks.ids)) / case.budget, "searched": dict(picks.searched),
                }  # fmt: skip
                print({k: v for k, v in row.items() if k not in ("what", "searched")}, flush=True)
                yield row


def labeled(data: Data, count: int, seed: int) -> Rows:
    """With `count` labels at random, and what a head on them says of all."""
    mask = np.zeros(len(data.x), dtype=bool)
    mask[np.random.default_rng(seed).permutation(len(mask))[:count]] = True
    p = head(data.x[mask], data.y[mask])(data.x)
    two = np.sort(p, 1)[:, -2:]
    ids = tuple(f"{i:06d}" for i in range(len(mask)))
    return Rows(ids, mask, 1 - (two[:, 1] - two[:, 0]), data.x, p, np.where(mask, data.y, -1))


def chosen(strategy: Strategy, rows: Rows, budget: int, seed: int, search: str) -> Picks:
    if search == "random":
        return select(Random(), rows, budget, seed)
    if search == "a tenth":
        some = drawn(rows, rows.free(), len(rows.ids) // TENTH, seed)
        return select(strategy, rows.take(np.concatenate([np.flatnonzero(rows.labeled), some])), budget, seed)
    return select(strategy, rows, budget, seed, search=SEARCHES[search])


def accuracy(data: Data, seen: np.ndarray) -> float:
    """In per cent, of a head on these labels."""
    return 100 * float((head(data.x[seen], data.y[seen])(data.test_x).argmax(1) == data.test_y).mean())


def near(data: Data) -> float:
    """The radius on unit vectors within which a sample has 1 % of the others."""
    some = unit(data.x, np.random.default_rng(0).permutation(len(data.x))[:1_000])
    return float(np.quantile(np.sqrt(np.maximum(2 - 2 * some @ some.T, 0)), 0.01))


def radius(rows: Rows, picks: np.ndarray, _: Strategy) -> float:
    assert rows.vector is not None
    return float(nearest(rows.vector, np.concatenate([np.flatnonzero(rows.labeled), picks])).max())


def potential(rows: Rows, picks: np.ndarray, _: Strategy) -> float:
    """Mean squared distance of the gradients to the nearest pick's."""
    assert rows.vector is not None and rows.probabilities is not None
    a, z = torch.from_numpy(residuals(rows.probabilities[:])), torch.from_numpy(rows.vector[:])
    own = a.square().sum(1) * z.square().sum(1)
    total = 0.0
    for where in chunks(len(a), 2_048):
        inner = (a[where] @ a[picks].T) * (z[where] @ z[picks].T)
        total += float((own[where, None] + own[picks] - 2 * inner).amin(1).clamp_min(0).double().sum())
    return total / len(a)


def inertia(rows: Rows, picks: np.ndarray, _: Strategy) -> float:
    """Mean squared distance to the nearest labeled sample, on unit vectors."""
    assert rows.vector is not None
    x = unit(rows.vector, np.arange(len(rows.ids)))
    return float(np.square(nearest(x, np.concatenate([np.flatnonzero(rows.labeled), picks]))).mean())


def covered(rows: Rows, picks: np.ndarray, strategy: Strategy) -> float:
    assert rows.vector is not None and isinstance(strategy, ProbCover)
    x = unit(rows.vector, np.arange(len(rows.ids)))
    seen = np.concatenate([np.flatnonzero(rows.labeled), picks])
    return float((nearest(x, seen) < strategy.delta).mean())


def similarity(rows: Rows, picks: np.ndarray, _: Strategy, uncertain: bool) -> float:
    """Weighted mean of the largest kernel to a labeled sample; bandwidth 1."""
    assert rows.vector is not None and rows.score is not None
    x = unit(rows.vector, np.arange(len(rows.ids)))
    kernel = np.exp(-np.square(nearest(x, np.concatenate([np.flatnonzero(rows.labeled), picks])).astype(np.float64)))
    return float(np.average(kernel, weights=rows.score if uncertain else None))


_CLUSTERS: dict[int, np.ndarray] = {}


def shown(data: Data, seen: np.ndarray) -> int:
    """Of 100 clusters of the pool by k-means, how many have a label."""
    key = id(data)
    if key not in _CLUSTERS:
        _CLUSTERS[key] = k_means(unit(data.x, np.arange(len(data.x))), 100, 0)[0]
    return len(np.unique(_CLUSTERS[key][seen]))


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds: the objective over exact's of the same seed, and accuracy with its gain over Random's."""
    kept = {(r["pool"], r["strategy"], r["search"], r["seed"]): r for r in found}
    made = []
    for pool, strategy, search in dict.fromkeys((r["pool"], r["strategy"], r["search"]) for r in found):
        rows = [r for r in found if (r["pool"], r["strategy"], r["search"]) == (pool, strategy, search)]
        exact, random = ([kept[pool, strategy, other, r["seed"]] for r in rows] for other in ("exact", "random"))
        gains = [r["accuracy"] - s["accuracy"] for r, s in zip(rows, random, strict=True)]
        made.append(
            {
                "pool": pool, "strategy": strategy, "search": search, "what": rows[0]["what"], "n": rows[0]["n"],
                "objective": statistics.mean(r["objective"] for r in rows),
                "of_exact": statistics.mean(r["objective"] / e["objective"] for r, e in zip(rows, exact, strict=True)),
                "accuracy": statistics.mean(r["accuracy"] for r in rows), "over_random": statistics.mean(gains),
                "deviation": statistics.stdev(gains) if len(gains) > 1 else 0.0,
                "clusters": statistics.mean(r["clusters"] for r in rows),
                "cpu_seconds": statistics.mean(r["cpu_seconds"] for r in rows),
            }
        )  # fmt: skip
    return made


Bounds = dict[bool, tuple[float, Literal["at least", "at most"]]]


def checks(means: list[dict[str, Any]]) -> list[Check]:
    """The objective over that of the exact choice; of a choice in parts with a bound."""
    made: list[Check] = []
    bounds: Bounds = {True: (0.9, "at least"), False: (1.1, "at most")}
    for m in (m for m in means if m["search"] != "exact"):
        bound, must_be = bounds[cases()[m["strategy"]].larger]
        name = f"{m['strategy']}, {m['pool']}, {m['n']:,} rows: {m['what']}, {m['search']} / exact"
        detail = f"accuracy {m['accuracy']:.2f} %, {m['over_random']:+.2f} over Random; {m['cpu_seconds']:.2g} CPU s"
        made.append(Check(name, m["of_exact"], bound if m["search"] == "partition" else None, must_be, detail=detail))
    return made


if __name__ == "__main__":
    main()
