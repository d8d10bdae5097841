"""One pass over the pool: rows by id. Test-time transform, every sample, no trace left in the model."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mcdal.augment import Augment, normalize
from mcdal.device import Numerics, choose_device, resolve
from mcdal.errors import SelectionError
from mcdal.events import Listener, nobody
from mcdal.models.base import Model
from mcdal.pool.base import LabeledView, Pool, UnlabeledView
from mcdal.selection import check_picks, labeled_rows
from mcdal.strategies.base import Strategy, overrides, own_modules
from mcdal.streams import numpy_generator, own_randomness, stream
from mcdal.values import Batch, Metrics, Output, Picks, Rows


def measure(
    model: Model,
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    seed: int = 0,
    augment: Augment | None = None,
    listen: Listener = nobody,
) -> Rows:
    """What `strategy` measures on every sample of the pool, labeled or not; no pass at all where it measures nothing.

    augment: only to repeat the published sampling, which measures augmented images in random order and drops the last partial
    batch of unlabeled ones; these get the lowest score of the others.
    """
    numerics = numerics or resolve(choose_device("auto"))
    labeled = labeled_rows(pool.images.ids, frozenset(labels))
    if not overrides(strategy, "measure"):
        return Rows(pool.images.ids, labeled)
    view, dropped = (pool.whole(), 0) if augment is None else _published_order(labeled, pool, batch_size, seed)
    gathered = _Gathered(len(pool))
    numerics.place(model).eval()  # before inference mode, which would make weights that cannot be trained again
    with own_randomness(), torch.inference_mode():
        torch.manual_seed(stream(seed, "measure"))
        for module in own_modules(strategy):
            module.eval()
        for batch in _batches(model, pool, view, numerics, batch_size, augment):
            with numerics.autocast():
                measured = strategy.measure(batch)
            gathered.add(
                None if measured.score is None else pool.task.reduce(measured.score), measured.vector, len(batch.ids)
            )
            listen("measure", done=gathered.count, total=len(pool))
    score, vector = gathered.arrays()
    if score is not None and dropped:
        score[-dropped:] = score[:-dropped].min()
    back = np.argsort(view.positions)
    return Rows(
        pool.images.ids, labeled, None if score is None else score[back], None if vector is None else vector[back]
    )


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
    listen: Listener = nobody,
) -> Metrics:
    """The task's metrics on the pool's test images, by names that begin with `test/`."""
    numerics = numerics or resolve(choose_device("auto"))
    meter = pool.task.meter()
    done = 0
    numerics.place(model).eval()
    with own_randomness(), torch.inference_mode():
        for batch in _batches(model, pool, pool.test, numerics, batch_size, None):
            assert batch.output is not None and batch.y is not None
            meter.add(batch.output, batch.y)
            done += len(batch.ids)
            listen("test", done=done, total=len(pool.test))
    return {f"test/{name}": value for name, value in meter.result().items()}


def select(strategy: Strategy, rows: Rows, budget: int, seed: int = 0) -> Picks:
    """What the strategy picks, checked: `budget` distinct unlabeled ids, or all that are left."""
    if budget < 1:
        raise SelectionError(f"a budget of {budget} asks for nothing: give at least 1")
    with own_randomness():
        torch.manual_seed(stream(seed, "select"))
        picks = strategy.select(rows, budget, seed)
    check_picks(picks, rows, budget, type(strategy).__name__)
    return picks


def _batches(
    model: Model,
    pool: Pool,
    view: LabeledView | UnlabeledView,
    numerics: Numerics,
    batch_size: int,
    augment: Augment | None,
) -> Iterator[Batch]:
    """The view once, in its order, with the model's output."""
    device = numerics.device
    starts = range(0, len(view), batch_size)
    positions = (view.positions[i : i + batch_size] for i in starts)
    for i, x in zip(starts, view.images.batches(positions, device), strict=True):
        ids = tuple(view.images.ids[j] for j in view.positions[i : i + batch_size])
        y = torch.from_numpy(view.y[i : i + batch_size]).to(device) if isinstance(view, LabeledView) else None
        x = numerics.arrange(normalize(x if augment is None else augment(x), pool.mean, pool.std))
        with numerics.autocast():
            output: Output = model(x)
        yield Batch(ids, x, y, output)


class _Gathered:
    """Scores and vectors of the batches so far. Scores stay on the device until the end; vectors fill one array."""

    def __init__(self, n: int):
        self.count = 0
        self._n = n
        self._scores: list[Tensor] = []
        self._vectors: np.ndarray | None = None

    def add(self, score: Tensor | None, vector: Tensor | None, size: int) -> None:
        if score is not None:
            if len(score) != size:
                raise SelectionError(f"a strategy measured {len(score)} scores on {size} samples: give one a sample")
            self._scores.append(score)
        if vector is not None:
            if self._vectors is None:
                self._vectors = np.empty((self._n, vector.shape[1]), dtype=np.float32)
            self._vectors[self.count : self.count + size] = vector.float().cpu().numpy()
        self.count += size

    def arrays(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        scores = torch.cat(self._scores) if self._scores else None
        if scores is None:
            return None, self._vectors
        if scores.dtype is not torch.float64:
            scores = scores.float()
        return scores.cpu().numpy(), self._vectors
