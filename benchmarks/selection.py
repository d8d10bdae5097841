"""Core-set and BADGE against plain loops and against scikit-activeml, on the same arrays; one thread.

*Plain* core-set: the labeled rows as centres in blocks of products, then for each pick one product of all rows with it
and a running minimum. The *factorised loop* of BADGE: for each pick two such products, with residuals and with features, a
cumulative sum, a draw. Both are torch at its quickest; ours ends with the same core-set, and with the same distribution of
BADGE's batches (`tests/selection`, `tests/strategies/test_badge.py`). scikit-activeml's CoreSet runs once, after a first small
call; its Badge takes as long for every pick, so a few are timed and scaled up.

Two kinds of features of 512 numbers: `network`, like pooled features (clusters, not negative, with outliers, a few strong
directions), and `gauss`, without any structure to make use of.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/selection.py
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import RESULTS, Check, check, interleaved, peak_megabytes, ratio, record
from mcdal.selection.k_center import k_center
from mcdal.selection.k_means_pp import outer_k_means_pp
from mcdal.strategies.badge import residuals

D = 512
Problem = tuple[tuple[str, ...], np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--million", action="store_true", help="a million rows in a mapped file as well: 2 GB, minutes")
    parser.add_argument("--out", type=Path, default=RESULTS / "selection.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = checks(given.quick)
    if not given.quick:
        found += [] if given.without_peers else [*peer_core_set(), *peer_badge()]
        found += memory() + (million() if given.million else [])
    record(given.out, "Core-set and BADGE", "python benchmarks/selection.py --million", found)


def checks(quick: bool) -> list[Check]:
    """Ratios to the plain loops; quick: 20,000 rows, and bounds of that size."""
    n, labeled, budget, times = (20_000, 2_000, 1_000, 3) if quick else (50_000, 5_000, 2_500, 3)
    found = []
    for kind in ("network", "gauss"):
        cases = {"": (labeled, budget, 5 if quick else 15), ", small batch": (labeled, 100, 2.5 if quick else 6)}
        if not quick or kind == "network":
            cases[", cold start"] = 1, budget, 3 if quick else 5
        for what, (known, b, bound) in cases.items():
            given = core_set_problem(n, known, kind)
            sides = {"plain": partial(plain_core_set, given, b), "ours": partial(our_core_set, given, b)}
            name = f"core-set, {n:,} x {D} {kind}, {known:,} labeled, {b:,} picks{what}"
            found.append(check(name, interleaved(sides, times), "plain", "ours", "at least", bound))
    for classes in (10, 100):
        given_badge = badge_problem(n, labeled, "network", classes)
        sides = {"loop": partial(badge_loop, given_badge, budget), "ours": partial(our_badge, given_badge, budget)}
        name = f"BADGE, {n:,} x {D}, {classes} classes, {budget:,} picks"
        found.append(check(name, interleaved(sides, times), "loop", "ours", "at least", 12 if quick else 30))
    return found


def features(n: int, kind: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "gauss":
        return random.standard_normal((n, D), dtype=np.float32)
    centres, y = random.standard_normal((10, D)).astype(np.float32), random.integers(0, 10, n)
    spread = np.exp(0.3 * random.standard_normal((n, 1))).astype(np.float32)
    spectrum = (4 / np.sqrt(1 + np.arange(D))).astype(np.float32)
    x = random.standard_normal((n, D), dtype=np.float32) * spread * spectrum + 0.7 * centres[y]
    return np.maximum(x, 0)


def core_set_problem(n: int, labeled: int, kind: str) -> Problem:
    mask = np.zeros(n, dtype=bool)
    mask[np.random.default_rng(1).permutation(n)[:labeled]] = True
    return tuple(f"{i:08d}" for i in range(n)), features(n, kind), mask


def our_core_set(given: Problem, budget: int) -> list[int]:
    return k_center(*given, budget)[0]


def plain_core_set(given: Problem, budget: int) -> list[int]:
    _, vectors, labeled = given
    x = torch.from_numpy(vectors)
    squared = x.square().sum(1)
    centres = torch.from_numpy(np.flatnonzero(labeled))
    far = torch.full((len(x),), torch.inf)
    for block in centres.split(1_000):
        for rows in torch.arange(len(x)).split(8_192):
            apart = torch.addmm(squared[block], x[rows], x[block].T, alpha=-2).amin(1) + squared[rows]
            far[rows] = torch.minimum(far[rows], apart)
    far[centres] = -1
    picks: list[int] = []
    while len(picks) < budget:
        pick = int(far.argmax())
        picks.append(pick)
        torch.minimum(far, squared + squared[pick] - 2 * torch.mv(x, x[pick]), out=far)
        far[pick] = -1
    return picks


def badge_problem(n: int, labeled: int, kind: str, classes: int) -> dict[str, Any]:
    z = features(n, kind)
    logits = (z - z.mean(0)) @ np.random.default_rng(3).standard_normal((D, classes)).astype(np.float32)
    p = torch.from_numpy(4 * logits / logits.std()).softmax(1).numpy()
    return {"ids": tuple(f"{i:08d}" for i in range(n)), "p": p, "z": z, "candidates": np.arange(labeled, n)}


def our_badge(given: dict[str, Any], budget: int) -> list[int]:
    random = np.random.default_rng(0)
    return outer_k_means_pp(given["ids"], residuals(given["p"]), given["z"], given["candidates"], budget, random)[0]


def badge_loop(given: dict[str, Any], budget: int) -> list[int]:
    random = np.random.default_rng(0)
    a, z = (torch.from_numpy(x[given["candidates"]]) for x in (residuals(given["p"]), given["z"]))
    own = a.square().sum(1) * z.square().sum(1)
    picks = [int(own.argmax())]
    squared = torch.full((len(z),), torch.inf)
    while len(picks) < budget:
        last = picks[-1]
        apart = own + own[last] - 2 * torch.mv(a, a[last]) * torch.mv(z, z[last])
        torch.minimum(squared, apart.clamp_min_(0), out=squared)
        squared[last] = 0
        total = squared.double().cumsum(0)
        picks.append(int(torch.searchsorted(total, random.random() * float(total[-1]), right=True)))
    return picks


def peer_core_set() -> list[Check]:
    """scikit-activeml's CoreSet, whole."""
    from skactiveml.pool import CoreSet

    def peer(given: Problem, budget: int) -> None:
        _, x, labeled = given
        CoreSet(random_state=0).query(x, np.where(labeled, 0.0, np.nan), batch_size=budget)

    peer(core_set_problem(2_000, 100, "network"), 10)
    given = core_set_problem(50_000, 5_000, "network")
    ours = interleaved({"ours": partial(our_core_set, given, 2_500)}, 3)
    theirs = interleaved({"peer": partial(peer, given, 2_500)}, 1, warm=0)
    value = theirs["peer"][0] / float(np.median(ours["ours"]))
    detail = f"peer {theirs['peer'][0]:.1f} s once, after a small call"
    return [
        Check(
            "scikit-activeml's CoreSet, 50,000 x 512, 5,000 labeled, 2,500 picks", value, 40, "at least", detail=detail
        )
    ]


def peer_badge(few: int = 60) -> list[Check]:
    """scikit-activeml's Badge: seconds a pick, from 4 and from 4 + `few` picks."""
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Given(SkactivemlClassifier):  # type: ignore[misc]
        """Says the probabilities that were given, row for row of X, whose last column is the row's number."""

        def __init__(self, p: Any = None, classes: Any = None, missing_label: float = np.nan):
            super().__init__(classes=classes, missing_label=missing_label)
            self.p = p

        def fit(self, *_: Any) -> "Given":
            return self

        def predict_proba(self, _: Any) -> np.ndarray:
            return self.p

    n, known, classes = 50_000, 5_000, 10
    given = badge_problem(n, known, "network", classes)
    clf = Given(given["p"][known:], classes=np.arange(classes))
    y = np.where(np.arange(n) < known, np.arange(n) % classes, np.nan)

    def peer(picks: int) -> None:
        Badge(random_state=0).query(given["z"], y, clf, fit_clf=False, batch_size=picks)

    ours = interleaved({"ours": partial(our_badge, given, 2_500)}, 3)
    theirs = interleaved({"few": partial(peer, 4), "more": partial(peer, 4 + few)}, 1)
    a_pick = (theirs["more"][0] - theirs["few"][0]) / few
    value = a_pick * 2_500 / float(np.median(ours["ours"]))
    detail = f"peer {a_pick:.2f} s a pick, of {few} picks; 100 classes need 40 GB there and were not run"
    return [
        Check("scikit-activeml's Badge, 50,000 x 512, 10 classes, 2,500 picks", value, 300, "at least", detail=detail)
    ]


def memory() -> list[Check]:
    """Peak beyond the arrays."""
    found = []
    jobs: dict[str, tuple[Callable[..., Any], Callable[..., object], tuple[Any, ...], float]] = {
        "core-set, 50,000 x 512, 5,000 labeled, 2,500 picks": (
            core_set_problem,
            _core_set_2500,
            (50_000, 5_000, "network"),
            150,
        ),
        "BADGE, 50,000 x 512, 10 classes, 2,500 picks": (
            badge_problem,
            _badge_2500,
            (50_000, 5_000, "network", 10),
            200,
        ),
        "BADGE, 50,000 x 512, 100 classes, 2,500 picks": (
            badge_problem,
            _badge_2500,
            (50_000, 5_000, "network", 100),
            200,
        ),
    }
    for name, (prepare, work, arguments, bound) in jobs.items():
        value = peak_megabytes(prepare, work, *arguments)
        found.append(Check(f"memory of {name}", value, bound, "at most", unit="MB"))
    return found


def _core_set_2500(given: Problem) -> object:
    return our_core_set(given, 2_500)


def _badge_2500(given: dict[str, Any]) -> object:
    return our_badge(given, 2_500)


def million(n: int = 1_000_000, budget: int = 1_000, few: int = 20) -> list[Check]:
    """Core-set on a mapped file. The plain loop takes as long for every pick: a few are timed and scaled up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, (n, D))
        for i, start in enumerate(range(0, n, 50_000)):
            mapped[start : start + 50_000] = features(50_000, "network", seed=i)
        mapped.flush()
        del mapped
        given = _mapped(str(path), n)
        sides = {
            "ours": partial(our_core_set, given, budget),
            "few": partial(plain_core_set, given, few),
            "more": partial(plain_core_set, given, 3 * few),
        }
        seconds = interleaved(sides, 3)
        seconds["plain"] = [
            few_ + (more - few_) / (2 * few) * (budget - few)
            for few_, more in zip(seconds["few"], seconds["more"], strict=True)
        ]
        value, noise = ratio(seconds, "plain", "ours")
        ours, plain = (np.median(seconds[side]) for side in ("ours", "plain"))
        detail = f"ours {ours:.1f} s, plain {plain:.0f} s, from {few} and {3 * few} picks"
        name = f"core-set, {n:,} x {D} mapped, 1 labeled, {budget:,} picks"
        peak = peak_megabytes(_mapped, _core_set_1000, str(path), n)
    return [
        Check(name, value, 15, "at least", noise, detail=detail),
        Check(f"memory of {name}", peak, 300, "at most", unit="MB"),
    ]


def _mapped(path: str, n: int) -> Problem:
    mask = np.zeros(n, dtype=bool)
    mask[0] = True
    return tuple(f"{i:08d}" for i in range(n)), np.load(path, mmap_mode="r"), mask


def _core_set_1000(given: Problem) -> object:
    return our_core_set(given, 1_000)


if __name__ == "__main__":
    main()
