"""What there is to see of a model and a strategy in a few images: for pictures, and without a trace."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.device import Numerics, choose_device, resolve
from mcdal.measuring import one_pass
from mcdal.models.base import Model
from mcdal.pool.base import Pool, UnlabeledView
from mcdal.strategies.base import Strategy, own_modules
from mcdal.streams import own_randomness, stream
from mcdal.windows import forward


def heat(
    model: Model,
    pool: Pool,
    positions: Int[np.ndarray, " k"],
    strategy: Strategy,
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    window: tuple[int, int] | None = None,
    seed: int = 0,
) -> Float[np.ndarray, "k h w"] | None:
    """Where in these images of the pool the strategy sees what it picks by; None where it sees no place (`Strategy.heat`)."""
    numerics = numerics or resolve(choose_device("auto"))
    maps: list[Tensor] = []
    numerics.place(model).eval()
    view = UnlabeledView(pool.images, _whole_batches(positions, min(batch_size, len(pool)), numerics))
    with own_randomness(), torch.inference_mode():
        torch.manual_seed(stream(seed, "measure"))
        for module in own_modules(strategy):
            module.eval()
        seen = forward(model, window, "stages" in strategy.needs)
        for batch in one_pass(seen, pool, view, numerics, batch_size, None):
            with numerics.autocast():
                found = strategy.heat(batch)
            if found is None:
                return None
            maps.append(found.float().cpu())
    return torch.cat(maps)[: len(positions)].numpy() if maps else None


def predict(
    model: Model,
    pool: Pool,
    chosen: Int[np.ndarray, " k"],
    *,
    numerics: Numerics | None = None,
    batch_size: int = 512,
    window: tuple[int, int] | None = None,
) -> Int[np.ndarray, "k *space"]:
    """The most likely class of these test images (by their place in `pool.test`), or of each of their pixels."""
    numerics = numerics or resolve(choose_device("auto"))
    said: list[Tensor] = []
    numerics.place(model).eval()
    places = _whole_batches(chosen, min(batch_size, len(pool.test)), numerics)
    view = UnlabeledView(pool.test.images, pool.test.positions[places])
    with own_randomness(), torch.inference_mode():
        for batch in one_pass(forward(model, window, stages=False), pool, view, numerics, batch_size, None):
            assert batch.output is not None
            said.append(batch.output.logits.argmax(1).cpu())
    return torch.cat(said)[: len(chosen)].numpy()


def _whole_batches(places: Int[np.ndarray, " k"], size: int, numerics: Numerics) -> Int[np.ndarray, " n"]:
    """Where networks are compiled, repeated to fill the batches they are compiled for: others would be compiled anew."""
    return np.resize(places, -(-len(places) // size) * size) if numerics.compile else places
