"""Large images in windows that overlap: features are computed window by window, and the head sees them as one map."""

import itertools
from collections.abc import Callable

from torch import Tensor

from mcdal.errors import ConfigError
from mcdal.models.base import Model, apply_head
from mcdal.values import Output

OVERLAP = 4
"""Neighbouring windows share at least this part of their side, one in so many: what lies near a border has seen too little."""


def in_windows(model: Model, x: Tensor, window: tuple[int, int], stages: bool = True) -> Output:
    """The model's output on images `b c h w`, with no more than a window's activations at once.

    Where windows overlap, each gives the half that lies nearer to its middle. Features and stages are put together, and
    logits are the head's of all features: as exact as features do not depend on what is further away than half of an overlap.
    stages: whether somebody looks at them; else they are left out. ConfigError where the sides of image and window are no
    multiples of the step between two features.
    """
    height, width = x.shape[2:]
    rows, columns = min(window[0], height), min(window[1], width)
    if (rows, columns) == (height, width):
        said: Output = model(x)
        return said
    first: list[Output] = [model(x[:, :, :rows, :columns])]  # a list, so that nobody holds it once its turn is over
    maps = [first[0].features, *first[0].stages]  # all of them: windows lie on the grid of the coarsest
    step = max(_stride(rows, m.shape[2]) for m in maps)
    if any(side % step for side in (height, width, rows, columns)) or any(rows % m.shape[2] for m in maps):
        raise ConfigError(
            f"training.window = {window}: windows and images ({height} x {width}) must be multiples of {step} pixels here, "
            "which one place of the coarsest features covers: take such sizes, or leave the window out"
        )
    whole = [
        m.new_empty(*m.shape[:2], height * m.shape[2] // rows, width * m.shape[3] // columns)
        for m in _maps(first[0], stages)
    ]
    del maps
    for (top, upper, lower), (left, begin, end) in itertools.product(
        _cuts(height, rows, step), _cuts(width, columns, step)
    ):
        output: Output = first.pop() if first else model(x[:, :, top : top + rows, left : left + columns])
        for large, small in zip(whole, _maps(output, stages), strict=True):
            v, h = rows // small.shape[2], columns // small.shape[3]
            large[:, :, upper // v : lower // v, begin // h : end // h] = small[
                :, :, (upper - top) // v : (lower - top) // v, (begin - left) // h : (end - left) // h
            ]
        del output
    features, *kept = whole
    return Output(apply_head(model.head, features, (height, width)), features, tuple(kept))


def _stride(pixels: int, places: int) -> int:
    """Pixels to a place; of a side that is no multiple of them the next power of two, as strides are."""
    return pixels // places if pixels % places == 0 else 1 << (pixels // places).bit_length()


def _maps(output: Output, stages: bool) -> list[Tensor]:
    return [output.features, *(output.stages if stages else ())]


def _cuts(length: int, window: int, step: int) -> list[tuple[int, int, int]]:
    """For windows along one side: where each begins, and from where to where its features count."""
    if window >= length:
        return [(0, 0, length)]
    stride = max(step, (window - window // OVERLAP) // step * step)
    starts = [*range(0, length - window, stride), length - window]
    middles = [(a + window + b) // 2 // step * step for a, b in itertools.pairwise(starts)]
    return list(zip(starts, [0, *middles], [*middles, length], strict=True))


def forward(model: Model, window: tuple[int, int] | None, stages: bool) -> Callable[[Tensor], Output]:
    """The model on whole images, or in windows. stages: whether somebody looks at them."""
    if window is None:
        return model
    return lambda x: in_windows(model, x, window, stages)
