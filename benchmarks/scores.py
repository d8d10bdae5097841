"""Scores and the choice of the largest, against the best numpy and torch expressions that were found and MCDAL's published loop.

All candidates of a score stand side by side in `CANDIDATES`, each as a whole and in parts that fit a core's cache, and ours is
compared with the fastest of them. The published loop is what the first author's code does at sampling time: batches of 128, two
heads, six softmaxes (each distance takes its own), lists of single numbers, and a top-k over the stack of them. The pass of the
network over the images is on neither side; the heads are on both.

    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.scores
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.side_by_side import Check, Seconds, check, interleaved, ratio, run_alone, show
from mcdal.discrepancy import discrepancy_of
from mcdal.measuring import select
from mcdal.networks.heads import LinearHeads
from mcdal.selection import top
from mcdal.strategies.margin import Margin
from mcdal.uncertainty import entropy, least_confidence, margin
from mcdal.values import Rows

PARTS = 256, 1_024
"""Kilobytes of logits in a part, for the candidates that are tried in parts too."""
BOUND = 1.2
SCREENED = 50_000
FEATURES, BUDGET = 512, 2_500


def transposed_softmax(z: Tensor) -> Tensor:
    return z.T.contiguous().softmax(0)


def tournament(columns: Tensor) -> Tensor:
    first, second = torch.maximum(columns[0], columns[1]), torch.minimum(columns[0], columns[1])
    for share in columns[2:]:
        second = torch.maximum(second, torch.minimum(first, share))
        first = torch.maximum(first, share)
    return 1 - (first - second)


def margin_by_topk(z: Tensor) -> Tensor:
    first, second = z.softmax(1).topk(2, dim=1).values.unbind(1)
    return 1 - (first - second)


def margin_by_sort(z: Tensor) -> Tensor:
    ordered = z.softmax(1).sort(1).values
    return 1 - (ordered[:, -1] - ordered[:, -2])


def margin_by_two_maxima(z: Tensor) -> Tensor:
    p = z.softmax(1)
    first, place = p.max(1)
    return 1 - (first - p.scatter_(1, place[:, None], -1).amax(1))


def margin_by_numpy_argmax(z: Tensor) -> Tensor:
    p = z.softmax(1)
    place = torch.from_numpy(p.numpy().argmax(1))[:, None]
    first = p.gather(1, place)[:, 0]
    return 1 - (first - p.scatter_(1, place, -1).amax(1))


def margin_by_partition(z: Tensor) -> Tensor:
    x = z.numpy()
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    ordered = np.partition(p, p.shape[1] - 2, axis=1)
    return torch.from_numpy(1 - (ordered[:, -1] - ordered[:, -2]))


def entropy_by_entr(z: Tensor) -> Tensor:
    return torch.special.entr(z.softmax(1)).sum(1)


def entropy_by_log_softmax(z: Tensor) -> Tensor:
    logs = z.log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def entropy_of_columns_by_log_softmax(z: Tensor) -> Tensor:
    logs = z.T.contiguous().log_softmax(0)
    return -(logs.exp() * logs).sum(0)


def entropy_of_logits(z: Tensor) -> Tensor:
    below = z - z.amax(1, keepdim=True)
    e = below.exp()
    s = e.sum(1)
    return s.log() - e.mul_(below).sum(1) / s


def entropy_of_columns(z: Tensor) -> Tensor:
    below = z.T.contiguous()
    below -= below.amax(0)
    e = below.exp()
    s = e.sum(0)
    return s.log() - e.mul_(below).sum(0) / s


def entropy_by_numpy(z: Tensor) -> Tensor:
    x = z.numpy()
    below = x - x.max(1, keepdims=True)
    e = np.exp(below)
    s = e.sum(1)
    return torch.from_numpy(np.log(s) - np.einsum("ij,ij->i", e, below) / s)


def pairs(p: Tensor, q: Tensor, r: Tensor, dim: int) -> Tensor:
    return ((p - q).abs() + (p - r).abs() + (q - r).abs()).sum(dim) / p.shape[dim]


def spread(p: Tensor, q: Tensor, r: Tensor, dim: int) -> Tensor:
    high, low = torch.maximum(p, q), torch.minimum(p, q)
    torch.maximum(high, r, out=high)
    torch.minimum(low, r, out=low)
    return high.sub_(low).sum(dim) * (2 / p.shape[dim])


def discrepancy_by(
    distance: Callable[..., Tensor], softmax: Callable[[Tensor], Tensor], dim: int, *z: Tensor
) -> Tensor:
    return distance(*map(softmax, z), dim)


def row_softmax(z: Tensor) -> Tensor:
    return z.softmax(1)


OURS: dict[str, Callable[..., Tensor]] = {
    "discrepancy": lambda *z: discrepancy_of(z, "l1"),
    "entropy": entropy,
    "margin": margin,
    "least confidence": least_confidence,
}
CANDIDATES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "discrepancy": {
        "pairs": partial(discrepancy_by, pairs, row_softmax, 1),
        "pairs of columns": partial(discrepancy_by, pairs, transposed_softmax, 0),
        "largest - smallest": partial(discrepancy_by, spread, row_softmax, 1),
        "largest - smallest of columns": partial(discrepancy_by, spread, transposed_softmax, 0),
    },
    "entropy": {
        "entr": entropy_by_entr,
        "log_softmax": entropy_by_log_softmax,
        "log_softmax of columns": entropy_of_columns_by_log_softmax,
        "logits": entropy_of_logits,
        "logits by column": entropy_of_columns,
        "numpy": entropy_by_numpy,
    },
    "margin": {
        "topk": margin_by_topk,
        "sort": margin_by_sort,
        "two maxima": margin_by_two_maxima,
        "two maxima, numpy's argmax": margin_by_numpy_argmax,
        "tournament of columns": lambda z: tournament(transposed_softmax(z)),
        "numpy partition": margin_by_partition,
    },
    "least confidence": {
        "softmax": lambda z: 1 - z.softmax(1).amax(1),
        "softmax of columns": lambda z: 1 - transposed_softmax(z).amax(0),
        "exp": lambda z: 1 - 1 / (z - z.amax(1, keepdim=True)).exp_().sum(1),
    },
}


def in_parts(work: Callable[..., Tensor], kilobytes: int, *z: Tensor) -> Tensor:
    rows = max(1, kilobytes * 256 // z[0].shape[1])
    return torch.cat([work(*part) for part in zip(*(torch.split(one, rows) for one in z), strict=True)])


def score_check(score: str, n: int, classes: int, repetitions: int) -> Check:
    """Ours over the fastest candidate; all others are told with their times on (at most) the first 50,000 rows."""
    torch.manual_seed(0)
    z = [3 * torch.randn(n, classes) for _ in range(3 if score == "discrepancy" else 1)]
    some = [one[:SCREENED] for one in z]
    ways: dict[str, Callable[..., Tensor]] = {}
    for name, work in CANDIDATES[score].items():
        assert torch.allclose(work(*some), OURS[score](*some), atol=1e-5), f"{name} is no {score}"
        ways[name] = work
        for kilobytes in PARTS:
            if z[0].numel() * 4 > kilobytes * 1_024:
                ways[f"{name}, {kilobytes} KB parts"] = partial(in_parts, work, kilobytes)
    once = interleaved({name: partial(way, *some) for name, way in ways.items()}, 1)
    fast = sorted(ways, key=lambda name: once[name])[:4]
    sides: dict[str, Callable[[], object]] = {name: partial(ways[name], *z) for name in fast}
    again = interleaved({"ours": partial(OURS[score], *z)} | sides, repetitions)
    best = min(fast, key=lambda name: statistics.median(again[name]))
    told = ", ".join(f"{name} {1e3 * times[0]:.3g}" for name, times in sorted(once.items(), key=lambda pair: pair[1]))
    found = check(f"{score}, {n:,} x {classes}: ours / best", again, "ours", best, "at most", BOUND)
    show([found])
    return replace(found, detail=f"{found.detail}; once on {len(some[0]):,} rows, in ms: {told}")


def top_checks(n: int, repetitions: int, peer: bool) -> list[Check]:
    """The ids of the largest, in order, against bare expressions for the same that check nothing.

    Whole is with 10 % labeled, and with what is checked of the picks.
    """
    random = np.random.default_rng(0)
    score, ids = random.random(n, dtype=np.float32), tuple(f"{i:07d}" for i in range(n))
    rows, tensor = Rows(ids, np.arange(n) % 10 == 0, score), torch.from_numpy(score)
    budget = min(BUDGET, n // 10)

    def by_partition() -> list[str]:
        found = np.argpartition(score, n - budget)[n - budget :]
        return [ids[i] for i in found[np.argsort(score[found])[::-1]].tolist()]

    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: top(ids, score, budget),
        "whole": lambda: select(Margin(), rows, budget),
        "torch topk": lambda: [ids[i] for i in tensor.topk(budget).indices.tolist()],
        "numpy argpartition": by_partition,
    }
    seconds = interleaved(sides, repetitions)
    best = min(("torch topk", "numpy argpartition"), key=lambda name: statistics.median(seconds[name]))
    found = [
        check(f"top {budget:,} of {n:,}: ours / best", seconds, "ours", best, "at most", BOUND),
        check(f"top {budget:,} of {n:,}: whole choice, checked / best", seconds, "whole", best, "at most", None),
    ]
    if peer:
        from skactiveml.utils import simple_batch

        seconds |= interleaved({"scikit-activeml": lambda: simple_batch(score.astype(float), 0, budget)}, 1, warm=0)
        seconds["ours"] = [statistics.median(seconds["ours"])]
        found.append(
            check(f"top {budget:,} of {n:,}: simple_batch / ours", seconds, "scikit-activeml", "ours", "at least", None)
        )
    return found


@torch.no_grad()
def published_loop(features: Tensor, logits: Tensor, heads: list[nn.Linear], budget: int) -> np.ndarray:
    """What the published code does with a pool, in our words."""

    def apart(one: Tensor, other: Tensor) -> Tensor:
        return (one.softmax(1) - other.softmax(1)).abs().sum(1)

    every: list[Any] = []
    indices: list[Any] = []
    for start in range(0, len(features), 128):
        z, said, which = features[start : start + 128], logits[start : start + 128], torch.arange(start, start + 128)
        first, second = (head(z) for head in heads)
        every.extend(apart(first, second) + apart(said, first) + apart(said, second))
        indices.extend(which[: len(z)])
    scores = torch.stack(every).view(-1)
    return np.asarray(indices)[scores.topk(budget).indices.numpy()]


@torch.inference_mode()
def our_loop(features: Tensor, logits: Tensor, heads: LinearHeads, ids: tuple[str, ...], budget: int) -> object:
    """As `mcdal.measure` and `select` do: batches of 512, the heads as MCDAL has them, then the top, checked."""
    scores = [
        discrepancy_of([said, *heads(z)], "l1")
        for z, said in zip(torch.split(features, 512), torch.split(logits, 512), strict=True)
    ]
    rows = Rows(ids, np.zeros(len(ids), dtype=bool), torch.cat(scores).numpy())
    return select(Margin(), rows, budget)  # the choice of the largest: MCDAL's own, without its training


def mcdal_check(n: int, classes: int, repetitions: int) -> Check:
    torch.manual_seed(0)
    features, logits = torch.randn(n, FEATURES), 3 * torch.randn(n, classes)
    heads = [nn.Linear(FEATURES, classes) for _ in range(2)]
    ids, budget = tuple(f"{i:07d}" for i in range(n)), min(BUDGET, n // 10)
    joint = LinearHeads(heads)
    picked = our_loop(features, logits, joint, ids, budget)
    assert (
        len(set(map(int, picked.ids)) & set(published_loop(features, logits, heads, budget).tolist())) > 0.99 * budget
    )  # type: ignore[attr-defined]
    seconds: Seconds = interleaved(
        {
            "published": partial(published_loop, features, logits, heads, budget),
            "ours": partial(our_loop, features, logits, joint, ids, budget),
            "products": partial(products, features, joint),
        },
        repetitions,
    )
    cap, _ = ratio(seconds, "published", "products")
    found = check(
        f"MCDAL's choice, {n:,} x {classes}: published loop / ours", seconds, "published", "ours", "at least", 5
    )
    return replace(found, detail=f"{found.detail}; published / our heads' products alone: {cap:.3g}")


@torch.inference_mode()
def products(features: Tensor, heads: LinearHeads) -> None:
    """What of our side no choice can do without."""
    for z in torch.split(features, 512):
        heads(z)


def checks(quick: bool) -> list[Check]:
    """Quick: 50,000 rows alone, and the choice at a million."""
    torch.set_num_threads(1)
    found = [
        score_check(score, n, classes, 3 if n > 100_000 else 5 if quick else 9)
        for n in ((50_000,) if quick else (50_000, 1_000_000))
        for classes in (10, 100)
        for score in OURS
    ]
    found += [c for n in (50_000, 1_000_000) for c in top_checks(n, 9, peer=n < 100_000)]
    return [*found, mcdal_check(50_000, 10, 3), *([] if quick else [mcdal_check(50_000, 100, 3)])]


if __name__ == "__main__":
    run_alone("scores", "Scores and the choice of the largest", __doc__, checks)
