"""A user's own weights that the model of every round starts from, in place of random ones."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model
from mcdal.models.pretrained import read_weights
from mcdal.streams import own_randomness

NAMED = 3
"""Keys of each kind that an error names."""


@dataclass(frozen=True)
class StartWeights:
    """Tensors by the names that the model has for them. sha256: of the file, as `sha256sum` gives it."""

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> "StartWeights":
        """ConfigError for a file that is not there, holds no weights, or has one that is not a finite number."""
        path = path.expanduser()
        tensors = read_weights(str(path))
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ConfigError(f"weights = {path}: {name} has a value that is not a finite number")
        with path.open("rb") as file:
            return cls(path, hashlib.file_digest(file, "sha256").hexdigest(), tensors)

    def builder(self, build: Callable[[], Model]) -> Callable[[], Model]:
        """Builds as `build` does, and starts from these; so do fresh copies of what it builds."""
        return _Started(self, build)

    def into(self, model: Model) -> bool:
        """Sets the model's weights; gives whether its head is among them.

        The head keeps what it has where the file has none, or one of another number of classes. Everything else must be in both,
        with the same shape; only the counters of BatchNorm may be missing. ConfigError names what does not fit.
        """
        wanted, head = model.state_dict(keep_vars=True), _head_of(model)
        fresh = all(name not in self.tensors for name in head) or self._of_other_classes(wanted, head)
        taken = {name: tensor for name, tensor in self.tensors.items() if not (fresh and name in head)}
        needed = [name for name in wanted if not (fresh and name in head) and not name.endswith("num_batches_tracked")]
        self._refuse(wanted, needed, taken)
        model.load_state_dict(taken, strict=False)
        return not fresh

    def _of_other_classes(self, wanted: Mapping[str, Tensor], head: frozenset[str]) -> bool:
        """Whether the head in the file differs in first dimensions, which those of the classes are, and in nothing else."""
        if not all(name in self.tensors for name in head):
            return False
        pairs = [(_shape(wanted[name]), _shape(self.tensors[name])) for name in head]
        return any(a != b for a, b in pairs) and all(len(a) == len(b) and a[1:] == b[1:] for a, b in pairs)

    def _refuse(self, wanted: Mapping[str, Tensor], needed: list[str], taken: Mapping[str, Tensor]) -> None:
        missing = [name for name in needed if name not in taken]
        foreign = [name for name in taken if name not in wanted]
        other = [
            f"{name} (expected {list(tensor.shape)}, found {list(taken[name].shape)})"
            for name, tensor in wanted.items()
            if name in taken and not _lazy(tensor) and tensor.shape != taken[name].shape
        ]
        kinds = (
            (missing, "expected and not there"), (foreign, "there and not expected"), (other, "of another shape")
        )  # fmt: skip
        if found := [f"{len(names)} {kind}: {_some(names)}" for names, kind in kinds if names]:
            raise ConfigError(
                f"weights = {self.path}: they do not fit this model; {'; '.join(found)}. Take weights of this very network, "
                "or change the network"
            )


@dataclass(frozen=True)
class _Started:
    """An object and no function, so that the model that holds it can be sent to another process."""

    weights: StartWeights
    build: Callable[[], Model]

    def __call__(self) -> Model:
        model = self.build()
        self.weights.into(model)
        model.rebuild = self
        return model


def check_fits(weights: StartWeights, model: Architecture, classes: int, size: int) -> None:
    """ConfigError where these weights can be of no such model of images of `size`, in grey or in colour.

    For those who have not looked at the images yet.
    """
    with own_randomness():
        try:
            weights.into(model.build(classes, 3, (size, size)))
        except ConfigError as error:
            try:
                weights.into(model.build(classes, 1, (size, size)))
            except ConfigError:
                raise error from None


def _head_of(model: Model) -> frozenset[str]:
    """What the state dict calls the tensors of the head, wherever it lies in the model."""
    own = {id(tensor) for tensor in model.head.state_dict(keep_vars=True).values()}
    return frozenset(name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in own)


def _lazy(tensor: Tensor) -> bool:
    return isinstance(tensor, UninitializedParameter)


def _shape(tensor: Tensor) -> torch.Size:
    return torch.Size() if _lazy(tensor) else tensor.shape


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
