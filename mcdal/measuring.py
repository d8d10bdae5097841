"""One pass over the pool: rows by id. Test-time transform, every sample, no trace left in the model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mcdal.augment import Augmentation, normalize
from mcdal.device import Numerics, choose_device, resolve
from mcdal.errors import PoolError, SelectionError
from mcdal.events import Listener, nobody
from mcdal.models.base import Model
from mcdal.pool.base import LabeledView, Pool, Quarantined, UnlabeledView
from mcdal.selection import check_picks
from mcdal.selection.limits import Limit, within
from mcdal.selection.search import Search, told
from mcdal.strategies.base import Strategy, overrides, own_modules
from mcdal.streams import numpy_generator, own_randomness, stream
from mcdal.tasks.base import Meter, Task
from mcdal.values import Batch, Measurement, Metrics, Output, Picks, Rows
from mcdal.windows import forward

EXACT = Search(how="exact")


def measure(
    model: Model,
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    seed: int = 0,
    augment: Augmentation | None = None,
    embedding: Float[np.ndarray, "n e"] | None = None,
    window: tuple[int, int] | None = None,
    listen: Listener = nobody,
) -> Rows:
    """What `strategy` measures on every sample of the pool, labeled or not; no pass at all where it measures nothing.

    embedding: features of the pool's samples, in the pool's order, that do not come from the model; see `Batch.embedding`.
    augment: only to repeat the published sampling, which measures augmented images in random order and drops the last partial
    batch of unlabeled ones; these get the lowest score of the others. window: see `mcdal.windows`.
    """
    numerics = numerics or resolve(choose_device("auto"))
    ids = pool.images.ids
    y = pool.known(labels)
    labeled = y >= 0
    if not overrides(strategy, "measure"):
        return Rows(ids, labeled, y=y)
    view, dropped = (pool.whole(), 0) if augment is None else _published_order(labeled, pool, batch_size, seed)
    gathered = Gathered(len(pool))
    numerics.place(model).eval()  # before inference mode, which would make weights that cannot be trained again
    with own_randomness(), torch.inference_mode():
        torch.manual_seed(stream(seed, "measure"))
        for module in own_modules(strategy):
            module.eval()
        seen = forward(model, window, "stages" in strategy.needs)
        for batch in one_pass(seen, pool, view, numerics, batch_size, augment):
            if embedding is not None:
                chosen = view.positions[gathered.count : gathered.count + len(batch.ids)]
                batch = replace(batch, embedding=torch.from_numpy(embedding[chosen]).to(batch.x.device))
            with numerics.autocast(), numerics.compiled(len(batch.ids) == batch_size):
                measured = strategy.measure(batch)
            gathered.add(measured, pool.task, len(batch.ids))
            listen("measure", done=gathered.count, total=len(pool))
    score, vector, probabilities = gathered.arrays()
    if score is not None and dropped:
        score[-dropped:] = score[:-dropped].min()
    if augment is not None:  # back from the order in which they were measured
        back = np.argsort(view.positions)
        score, vector, probabilities = (c if c is None else c[back] for c in (score, vector, probabilities))
    return Rows(ids, labeled, score, vector, probabilities, y)


def measure_features(
    pool: Pool,
    strategy: Strategy,
    features: Float[np.ndarray, "n e"],
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    seed: int = 0,
    listen: Listener = nobody,
) -> Rows:
    """As `measure`, before there is a label and a model: batches have an `embedding` alone, no image and no output.

    features: of the pool's samples, in the pool's order.
    """
    numerics = numerics or resolve(choose_device("auto"))
    ids = pool.images.ids
    nothing = np.zeros(len(ids), dtype=bool), np.full(len(ids), -1)
    if not overrides(strategy, "measure"):
        return Rows(ids, nothing[0], y=nothing[1])
    gathered = Gathered(len(pool))
    with own_randomness(), torch.inference_mode():
        torch.manual_seed(stream(seed, "measure"))
        for first in range(0, len(ids), batch_size):
            embedding = torch.tensor(features[first : first + batch_size], device=numerics.device)
            empty = embedding.new_empty(len(embedding), 0, 0, 0)
            measured = strategy.measure(Batch(ids[first : first + batch_size], empty, embedding=embedding))
            gathered.add(measured, pool.task, len(embedding))
            listen("measure", done=gathered.count, total=len(pool))
    return Rows(ids, nothing[0], *gathered.arrays(), y=nothing[1])


def _published_order(labeled: np.ndarray, pool: Pool, batch_size: int, seed: int) -> tuple[UnlabeledView, int]:
    """The labeled samples, then the unlabeled ones in random order, and how many of these the last partial batch holds."""
    unlabeled = numpy_generator(seed, "published order").permutation(np.flatnonzero(~labeled))
    dropped = len(unlabeled) % batch_size if len(unlabeled) >= batch_size else 0
    return UnlabeledView(pool.images, np.concatenate([np.flatnonzero(labeled), unlabeled])), dropped


def evaluate(
    model: Model,
    pool: Pool,
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    window: tuple[int, int] | None = None,
    listen: Listener = nobody,
) -> Metrics:
    """The task's metrics on the pool's test images, by names that begin with `test/`.

    Images that turn out to be unusable are left out. PoolError where all of them are.
    """
    numerics = numerics or resolve(choose_device("auto"))
    meter, done, counted = pool.task.meter(), 0, 0
    bad: tuple[Quarantined, ...] = ()
    unusable: frozenset[str] = frozenset()
    numerics.place(model).eval()
    with own_randomness(), torch.inference_mode():
        for batch in one_pass(forward(model, window, stages=False), pool, pool.test, numerics, batch_size, None):
            done += len(batch.ids)
            if (now := pool.test.images.quarantined) is not bad:
                bad, unusable = now, frozenset(image.id for image in now)
            counted += _add(meter, batch, unusable)
            listen("test", done=done, total=len(pool.test))
    if done and not counted:
        raise PoolError(f"no test image of {pool.name!r} can be read, such as {bad[0].id}: {bad[0].reason}")
    return {f"test/{name}": value for name, value in meter.result().items()}


def _add(meter: Meter, batch: Batch, unusable: frozenset[str]) -> int:
    """To the meter what is not black because it could not be read; how many these are."""
    assert batch.output is not None and batch.y is not None
    kept = [i for i, id in enumerate(batch.ids) if id not in unusable]
    if len(kept) == len(batch.ids):
        meter.add(batch.output, batch.y)
    elif kept:
        rows = torch.tensor(kept, device=batch.y.device)
        meter.add(Output(batch.output.logits[rows], batch.output.features[rows]), batch.y[rows])
    return len(kept)


def select(
    strategy: Strategy,
    rows: Rows,
    budget: int,
    seed: int = 0,
    *,
    limits: Sequence[Limit] = (),
    search: Search = EXACT,
    listen: Listener = nobody,
) -> Picks:
    """What the strategy picks, checked: `budget` distinct unlabeled ids, or all that are left.

    limits: what a batch may hold at most, begun on these rows; it may then be smaller. search: whether all rows are searched at
    once, and what else; `listen` is told where they were not, and `Picks.searched` says it.
    """
    if budget < 1:
        raise SelectionError(f"a budget of {budget} asks for nothing: give at least 1")

    def once(rows: Rows, budget: int) -> Picks:
        with own_randomness():
            torch.manual_seed(stream(seed, "select"))
            picks = strategy.select(rows, budget, seed)
        check_picks(picks, rows, budget, type(strategy).__name__)
        return picks

    made: list[Mapping[str, str | int]] = []

    def choose(rows: Rows, budget: int) -> Picks:
        picks = search.choose(once, rows, budget, strategy.demand, seed)
        if picks.searched["how"] != "exact":  # else it was checked
            check_picks(picks, rows, budget, f"{type(strategy).__name__}, {picks.searched['how']},")
        made.append(picks.searched)
        return picks

    # A pick has no label yet, so a strategy that learns from labels must not take it for a labeled one.
    as_labeled = "labels" not in strategy.needs
    picks = within(choose, rows, budget, limits, as_labeled) if limits else choose(rows, budget)
    inexact = next((how for how in made if how["how"] != "exact"), None)
    if inexact is not None:
        listen("notice", text=told(inexact))
    return replace(picks, searched=inexact or {"how": "exact"})


def one_pass(
    model: Callable[[Tensor], Output],
    pool: Pool,
    view: LabeledView | UnlabeledView,
    numerics: Numerics,
    batch_size: int,
    augment: Augmentation | None,
) -> Iterator[Batch]:
    """The view once, in its order, with the model's output."""
    device = numerics.device
    starts = range(0, len(view), batch_size)
    positions = (view.positions[i : i + batch_size] for i in starts)
    for i, x in zip(starts, view.images.batches(positions, device), strict=True):
        ids = tuple(map(view.images.ids.__getitem__, view.positions[i : i + batch_size].tolist()))
        y = (
            torch.from_numpy(view.answers(slice(i, i + batch_size))).to(device)
            if isinstance(view, LabeledView)
            else None
        )
        x = numerics.arrange(normalize(x if augment is None else augment(x), pool.mean, pool.std))
        with numerics.autocast(), numerics.compiled(len(ids) == batch_size):
            output = model(x)
        yield Batch(ids, x, y, output)


class Gathered:
    """What was measured on the batches so far. Scores stay on the device until the end; the others fill one array each."""

    def __init__(self, n: int):
        self.count = 0
        self._n = n
        self._scores: list[Tensor] = []
        self._columns: dict[str, np.ndarray] = {}

    def add(self, measured: Measurement, task: Task, size: int) -> None:
        if measured.score is not None:
            score = task.reduce(measured.score)
            if len(score) != size:
                raise SelectionError(f"a strategy measured {len(score)} scores on {size} samples: give one a sample")
            self._scores.append(score)
        for name, column in (("vector", measured.vector), ("probabilities", measured.probabilities)):
            if column is not None:
                self._fill(name, task.pooled(column), size)
        self.count += size

    def _fill(self, name: str, column: Tensor, size: int) -> None:
        if len(column) != size:
            raise SelectionError(f"a strategy measured {name} of {len(column)} rows on {size} samples: give a row each")
        if name not in self._columns:
            self._columns[name] = np.empty((self._n, column.shape[1]), dtype=np.float32)
        self._columns[name][self.count : self.count + size] = column.float().cpu().numpy()

    def arrays(self) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """score, vector, probabilities"""
        score = None
        if self._scores:
            scores = torch.cat(self._scores)
            score = (scores if scores.dtype is torch.float64 else scores.float()).cpu().numpy()
        return score, self._columns.get("vector"), self._columns.get("probabilities")
