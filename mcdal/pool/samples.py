"""What one sample of somebody's dataset holds: an image in one of many forms, and a class index."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from PIL import Image
from torch import Tensor

from mcdal.errors import PoolError


def to_tensor(id: str, sample: Any) -> Shaped[Tensor, "h w c"]:
    """The image of a (image, class index) sample; PoolError names the sample and what is wrong with it."""
    image = _pair(id, sample)[0]
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise PoolError(f"{id} is a PIL image of mode {image.mode}; convert it to RGB in the dataset's transform")
        image = np.array(image)
    if isinstance(image, np.ndarray):
        tensor = torch.from_numpy(np.array(image))
        tensor = tensor if tensor.ndim == 3 else tensor[..., None]
    elif isinstance(image, Tensor):
        tensor = image.detach()
        tensor = (tensor if tensor.ndim == 3 else tensor[None]).permute(1, 2, 0)
    else:
        raise PoolError(f"{id} is a {type(image).__name__}; give a PIL image, an array or a tensor")
    if tensor.ndim != 3 or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
        raise PoolError(f"{id} is {describe(tensor)}; give uint8 or normalised floats with one image a sample")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise PoolError(f"{id} holds NaN or infinity")
    return tensor if tensor.dtype == torch.uint8 else tensor.to(torch.float32)


def class_index(id: str, sample: Any) -> int:
    """The class index of a (image, class index) sample."""
    target = _pair(id, sample)[1]
    if isinstance(target, Tensor | np.ndarray | np.generic) and np.prod(target.shape) == 1:
        target = target.item()
    try:
        index = int(target)
    except (TypeError, ValueError):
        index = -1
    if index != target or index < 0:
        raise PoolError(f"{id} has the label {target!r}; give a class index, 0 or more")
    return index


def _pair(id: str, sample: Any) -> tuple[Any, Any]:
    if not isinstance(sample, tuple | list) or len(sample) < 2:
        raise PoolError(f"{id} is a {type(sample).__name__}; the dataset must give (image, class index)")
    return sample[0], sample[1]


def describe(image: Tensor) -> str:
    return f"{str(image.dtype).removeprefix('torch.')} {'x'.join(map(str, image.shape))}"


def find_targets(dataset: Any, check: Iterable[int]) -> Int[np.ndarray, " n"] | None:
    """Class indices that the dataset knows without reading images, if they agree with what it gives at `check`."""
    known = _known_targets(dataset)
    if known is None or known.ndim != 1 or len(known) != len(dataset) or not np.issubdtype(known.dtype, np.integer):
        return None
    # A target transform or a wrapper may say otherwise.
    agree = all(class_index(f"sample {i}", dataset[int(i)]) == known[i] for i in check)
    return known.astype(np.int64) if agree else None


def _known_targets(dataset: Any) -> Shaped[np.ndarray, "..."] | None:
    if isinstance(dataset, torch.utils.data.Subset):
        inner = _known_targets(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices)]
    if isinstance(dataset, torch.utils.data.TensorDataset):
        return dataset.tensors[1].cpu().numpy() if len(dataset.tensors) > 1 else None
    for name in ("targets", "labels"):
        values = getattr(dataset, name, None)
        if values is not None:
            try:
                return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
            except ValueError:
                return None
    return None
