"""Named tensors in a file of the safetensors format, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mcdal.writing import replaced


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """about: texts that the file holds beside them."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replaced(path) as beside:
        try:
            safetensors.torch.save_file(_apart(plain), beside, dict(about) or None)
        except SafetensorError as error:  # what it says of a full disk
            raise OSError(str(error)) from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each in memory of its own: a network may hold one layer under two names, and the format refuses shared memory."""
    found, seen = {}, set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage()
        alone = memory.data_ptr() not in seen and memory.nbytes() == tensor.nbytes
        seen.add(memory.data_ptr())
        found[name] = tensor if alone else tensor.clone()
    return found
