"""A model is an encoder and a head: `model(x)` gives an `Output`, and its head can be copied afresh."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from mcdal.errors import ConfigError
from mcdal.models.dense import PixelHead
from mcdal.values import Output


class Model(nn.Module, ABC):
    """Encoder + head. MCDAL needs "two more of the same" head, an ensemble more of the same model: `fresh_head()`, `fresh()`.

    rebuild: builds such a model anew, where resetting each layer would lose something: weights from a file, or an
    initialisation of its own. Set by the architecture that built the model.
    """

    head: nn.Module
    rebuild: Callable[[], "Model"] | None = None

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"]) -> Output: ...

    def fresh_head(self) -> nn.Module:
        """A newly initialised head of the same shape, drawn from torch's global random state."""
        head = copy.deepcopy(self.head)
        _reset(head)
        return head

    def fresh(self) -> "Model":
        """A newly initialised model of the same architecture and placement, drawn from torch's global random state."""
        rebuild, self.rebuild = self.rebuild, None  # not to be copied: it may hold a data set or a file
        try:
            model = copy.deepcopy(self)
        finally:
            self.rebuild = rebuild
        again = None if rebuild is None else rebuild()
        if again is None or any(isinstance(p, UninitializedParameter) for p in again.parameters()):
            _reset(model)  # a lazy layer has no weights yet when it is built
        else:
            model.load_state_dict(again.state_dict())
        return model


def _reset(module: nn.Module) -> None:
    """Draws all parameters of a module anew."""
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if reset is not None:
            reset()
        elif any(True for _ in part.parameters(recurse=False)):
            raise ConfigError(
                f"{type(part).__name__} has parameters but no reset_parameters(): a fresh copy of it cannot be drawn; "
                "give the module that method"
            )


class Architecture(ABC):
    """How to build a model: a dataclass, whose fields are what the recipe may change (`--set model.FIELD=`).

    on_features: whether it takes rows of features, (e, 1, 1), that a frozen encoder has made, and not images.
    dense: whether it says a class for every pixel, and not one for the image.
    """

    on_features: ClassVar[bool] = False
    dense: ClassVar[bool] = False

    @abstractmethod
    def build(self, classes: int, channels: int, size: tuple[int, int]) -> Model:
        """A newly initialised model for images of (channels, *size), drawn from torch's global random state."""


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def apply_head(
    head: nn.Module, features: Float[Tensor, "b d *places"], size: Sequence[int] = ()
) -> Float[Tensor, "b c *space"]:
    """The head in float32 whatever the autocast around it: bfloat16 logits tie too often to be ranked.

    size: height and width of the images, where the caller knows them and the head can use them.
    """
    with torch.autocast(features.device.type, enabled=False):
        weight = next(head.parameters())
        known = (tuple(size),) if len(size) and isinstance(head, PixelHead) else ()
        logits: Tensor = head(features.to(weight.dtype), *known)
    return logits


def global_average(x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d"]:
    """Mean over space, in float32 or wider under autocast.

    A plain mean, not adaptive pooling, whose backward pass is not deterministic on CUDA.
    """
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
