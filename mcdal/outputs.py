"""Choosing from the outputs of any model of yours: class probabilities, features and labels as arrays, without our training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mcdal.errors import ConfigError, SelectionError
from mcdal.events import Listener, nobody
from mcdal.measuring import Gathered, select
from mcdal.registry import listed, load, name_of
from mcdal.selection.search import Search
from mcdal.stack import Matrix, Stack
from mcdal.strategies.base import Strategy, overrides
from mcdal.streams import own_randomness, stream
from mcdal.tasks.classification import Classification
from mcdal.values import Batch, Ids, Measurement, Output, Picks, Rows

Array: TypeAlias = np.ndarray | Tensor | Sequence[object]

AT_ONCE = 8_192
"""Rows that are checked and measured together."""
SUMS_TO_ONE = 2e-2
"""How far a row of probabilities may be from 1: what float16 and bfloat16 leave of it with many classes."""
AUTO = Search()
ON_ARRAYS = frozenset({"probabilities", "features", "labeled", "labels"})


def select_from(
    strategy: Strategy | str,
    budget: int,
    *,
    probabilities: Array | Stack | None = None,
    logits: Array | Stack | None = None,
    features: Array | Stack | None = None,
    labeled: Array | None = None,
    labels: Array | None = None,
    ids: Array | None = None,
    seed: int = 0,
    search: Search = AUTO,
    listen: Listener = nobody,
) -> Picks:
    """What `strategy` (an object or a name) picks from a model's outputs on n samples: `budget` ids with scores, best first.

    probabilities: (n, C), rows of sum 1; or logits: (n, C) before the softmax. features: (n, d), of the layer before the head
    or of another model. labeled: (n,) booleans, what has a label; no row without it. labels: (n,) class indices of the labeled
    rows, -1 of the others; where `labeled` is not given, it is `labels >= 0`. ids: n distinct texts or numbers; the row numbers
    without them, which also are what equal scores are ordered by.

    Arrays are numpy's, which may be memory-mapped, or torch's; features, probabilities and logits may be a `Stack` of files. A
    strategy that needs the task model or a training of its own cannot work so: ConfigError. SelectionError names the row that is
    wrong. search: how the rows are searched, where they are very many; `Picks.searched` says how they were.
    """
    chosen = load("strategies", strategy)() if isinstance(strategy, str) else strategy
    if probabilities is not None and logits is not None:
        raise ConfigError("probabilities and logits are both given: give one of them")
    given = {
        "probabilities": probabilities, "logits": logits, "features": features, "labeled": labeled, "labels": labels,
    }  # fmt: skip
    arrays: dict[str, Any] = {name: _numpy(name, array) for name, array in given.items() if array is not None}
    _check_needs(chosen, arrays)
    known = list(ids.tolist() if isinstance(ids, np.ndarray | Tensor) else ids) if ids is not None else None
    n = _length(arrays, known)
    names = _RowNumbers(n) if known is None else _Given(n, known)
    outputs = _Outputs.of(names.ids, arrays)
    rows = outputs.measured(chosen, seed, listen)
    if rows.labeled.all():
        raise SelectionError(f"all {n} rows are labeled: there is nothing to pick from")
    picks = select(chosen, rows, budget, seed, search=search, listen=listen)
    return Picks(names.shown(picks.ids), picks.score, searched=picks.searched)


class _RowNumbers:
    """Ids of rows without any: their numbers, with leading zeros inside so that their order is that of the rows."""

    def __init__(self, n: int):
        width = len(str(n - 1))
        short = min(width, 3)
        ends = [f"{i:0{short}d}" for i in range(10**short)]  # joining takes a sixth of writing every number out
        starts = (f"row {i:0{width - short}d}" if width > short else "row " for i in range(-(-n // len(ends))))
        self.ids: Ids = tuple(islice((start + end for start in starts for end in ends), n))

    def shown(self, ids: Ids) -> Ids:
        return tuple(str(int(id.removeprefix("row "))) for id in ids)


class _Given:
    """Ids that the caller gave, as texts."""

    def __init__(self, n: int, ids: Sequence[object]):
        self.ids = tuple(str(id) for id in ids)
        if len(self.ids) != n:
            raise SelectionError(f"{len(self.ids)} ids for {n} rows: give one a row")
        seen: set[str] = set()
        for i, id in enumerate(self.ids):
            if id in seen:
                raise SelectionError(f"ids: {id!r} is there twice, the second time at row {i}")
            seen.add(id)

    def shown(self, ids: Ids) -> Ids:
        return ids


def _numpy(name: str, array: Array | Stack) -> np.ndarray | Stack:
    if isinstance(array, Stack) and array.dtype.kind == "f":
        return array
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = array.float() if array.dtype is torch.bfloat16 else array
    found = np.asarray(array)
    dims = 1 if name in ("labeled", "labels") else 2
    if found.ndim != dims or found.dtype.kind not in "biuf":
        shape = "(n,)" if dims == 1 else "(n, d)" if name == "features" else "(n, classes)"
        raise SelectionError(f"{name} are {found.dtype} of shape {found.shape}; give numbers of shape {shape}")
    return found


def _check_needs(strategy: Strategy, arrays: Mapping[str, Any]) -> None:
    name, needs = name_of(strategy), set(strategy.needs)
    if not needs <= ON_ARRAYS:
        what = {"model": "the task model itself", "training": "to train networks beside the task model"}
        why = " and ".join(what[need] for need in strategy.needs if need in what)
        able = ", ".join(n for n in sorted(listed("strategies")) if set(load("strategies", n).about.needs) <= ON_ARRAYS)
        raise ConfigError(f"{name} needs {why}, so it cannot work on arrays; those that can: {able}")
    instead = {"probabilities": ("probabilities", "logits"), "labeled": ("labeled", "labels")}
    wanted = [instead.get(need, (need,)) for need in strategy.needs]
    missing = [" or ".join(names) for names in wanted if not set(names) & set(arrays)]
    if missing:
        raise ConfigError(f"{name} needs {' and '.join(missing)}: not given")


def _length(arrays: Mapping[str, Any], ids: Sequence[object] | None) -> int:
    lengths = {name: len(array) for name, array in arrays.items()} | ({} if ids is None else {"ids": len(ids)})
    if not lengths:
        raise ConfigError("nothing to pick from: give at least ids, labeled, probabilities or features")
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SelectionError(f"the arrays have different numbers of rows: {told}")
    n = next(iter(lengths.values()))
    if n == 0:
        raise SelectionError("the arrays have no rows")
    return n


@dataclass(frozen=True)
class _Outputs:
    """Checked arrays, read in parts."""

    ids: Ids
    labeled: Bool[np.ndarray, " n"]
    y: Int[np.ndarray, " n"]
    logits: Float[Matrix, "n c"] | None
    probabilities: Float[Matrix, "n c"] | None
    features: Float[Matrix, "n d"] | None

    @staticmethod
    def of(ids: Ids, arrays: Mapping[str, Any]) -> "_Outputs":
        logits, probabilities = arrays.get("logits"), arrays.get("probabilities")
        either = logits if logits is not None else probabilities
        classes = None if either is None else either.shape[1]
        y = _labels(ids, arrays.get("labels"), classes)
        labeled = _labeled(ids, arrays.get("labeled"), y, "labels" in arrays)
        features = _floats(arrays.get("features"))
        y = np.where(labeled, y, -1)  # a strategy cannot peek, whatever the caller knows
        if classes is not None and classes < 2:
            raise SelectionError("there is one class: give the probabilities or logits of at least 2")
        found = _Outputs(ids, labeled, y, _floats(logits), _floats(probabilities), features)
        found._check()
        return found

    def _check(self) -> None:
        """Probabilities are what they are called; the strategies refuse what is not finite among the others."""
        if self.probabilities is None:
            return
        for first in range(0, len(self.ids), AT_ONCE):
            p = self.probabilities[first : first + AT_ONCE].astype(np.float64)
            total = p.sum(1)
            bad = np.flatnonzero(~((p >= 0).all(1) & (np.abs(total - 1) < SUMS_TO_ONE)))
            if len(bad):
                row = bad[0]
                wrong = f"sum to {total[row]:.4g}" if (p[row] >= 0).all() else f"go down to {p[row].min():.4g}"
                raise SelectionError(
                    f"the probabilities of {self.ids[first + row]!r} {wrong}: each row must be at least 0 and sum to 1; what "
                    "comes before the softmax is given as logits"
                )

    def measured(self, strategy: Strategy, seed: int, listen: Listener) -> Rows:
        rows = Rows(self.ids, self.labeled, y=self.y)
        if not overrides(strategy, "measure"):
            return rows
        n, shares = len(self.ids), self.logits if self.logits is not None else self.probabilities
        classes = 0 if shares is None else shares.shape[1]
        task = Classification(tuple(map(str, range(classes))))
        gathered = Gathered(n)
        kept: Float[Matrix, "n d"] | None = None
        with own_randomness(), torch.inference_mode():
            torch.manual_seed(stream(seed, "measure"))
            for batch in self._batches():
                measured = strategy.measure(batch)
                assert batch.output is not None
                if measured.vector is batch.output.features and self.features is not None:
                    kept = self.features  # as they lie on disk, instead of a copy
                    measured = Measurement(measured.score, None, measured.probabilities)
                gathered.add(measured, task, len(batch.ids))
                listen("measure", done=gathered.count, total=n)
        score, vector, probabilities = gathered.arrays()
        return Rows(self.ids, self.labeled, score, vector if kept is None else kept, probabilities, self.y)

    def _batches(self) -> Iterator[Batch]:
        """Logits in float64, those of probability 0 -inf; features in float32. What is not given has no columns."""
        for first in range(0, len(self.ids), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            ids = self.ids[part]
            logits, features = torch.zeros(len(ids), 0, dtype=torch.float64), torch.zeros(len(ids), 0)
            if self.logits is not None:
                logits = torch.from_numpy(self.logits[part].astype(np.float64))
            elif self.probabilities is not None:
                logits = torch.from_numpy(self.probabilities[part].astype(np.float64)).log()
            if self.features is not None:
                with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused by name
                    features = torch.from_numpy(self.features[part].astype(np.float32))
            yield Batch(ids, features.new_empty(len(ids), 0, 0, 0), output=Output(logits, features))


def _floats(array: np.ndarray | Stack | None) -> np.ndarray | Stack | None:
    """As it is if it holds floats, so that a memory-mapped array stays on disk; whole numbers become float32."""
    return array if array is None or isinstance(array, Stack) or array.dtype.kind == "f" else array.astype(np.float32)


def _labels(ids: Ids, labels: Shaped[np.ndarray, " n"] | None, classes: int | None) -> Int[np.ndarray, " n"]:
    if labels is None:
        return np.full(len(ids), -1)
    limit = math.inf if classes is None else classes
    bad = np.flatnonzero(~((labels >= -1) & (labels < limit) & (labels == np.floor(labels))))
    if labels.dtype.kind == "b" or len(bad):
        first = int(bad[0]) if len(bad) else 0
        allowed = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise SelectionError(
            f"the label of {ids[first]!r} is {labels[first]}: give class indices, {allowed}, and -1 for none"
        )
    return labels.astype(np.int64)


def _labeled(
    ids: Ids, mask: Shaped[np.ndarray, " n"] | None, y: Int[np.ndarray, " n"], with_labels: bool
) -> Bool[np.ndarray, " n"]:
    if mask is None:
        return y >= 0
    odd = np.flatnonzero((mask != 0) & (mask != 1))
    if len(odd):
        raise SelectionError(
            f"labeled is {mask[odd[0]]} for {ids[odd[0]]!r}: give true or false for each row (mask = zeros(n); mask[rows] = 1)"
        )
    labeled: Bool[np.ndarray, " n"] = mask.astype(bool)
    bare = np.flatnonzero(labeled & (y < 0))
    if with_labels and len(bare):
        raise SelectionError(f"{ids[bare[0]]!r} is labeled, but its label is {y[bare[0]]} ({len(bare)} such rows)")
    return labeled
