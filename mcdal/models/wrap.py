"""Your own `nn.Module` as a model: name the layer that is its head."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model, apply_head
from mcdal.values import Output


def wrap(module: nn.Module, head: str | None = None) -> Model:
    """A model around `module`, which may return logits, `(logits, features)` or an `Output`.

    head: name of the submodule that makes the logits, as in `module.named_modules()`: "fc", "classifier.1". It may
    be left out where that is "head". If the module returns only logits, the features are what its head was given.
    """
    if isinstance(module, Model):
        return module
    name = "head" if head is None else head
    if name not in dict(module.named_modules(remove_duplicate=False)) or not name:
        layers = [n for n, m in module.named_modules() if n and any(True for _ in m.parameters(recurse=False))]
        told = "has no submodule 'head': name the head" if head is None else f"has no submodule {head!r}"
        raise ConfigError(f"{type(module).__name__} {told}; its layers are {', '.join(layers[-12:]) or 'none'}")
    if not any(True for _ in module.get_submodule(name).parameters()):
        raise ConfigError(
            f"{name!r} of {type(module).__name__} has no parameters; name the layer that makes the logits"
        )
    return Wrapped(module, name)


class Wrapped(Model):
    """Runs the module and listens at its head. The head stays where it is in the module, and in its state dict."""

    def __init__(self, module: nn.Module, head: str):
        super().__init__()
        self.module = module
        self.head_name = head

    @property
    def head(self) -> nn.Module:  # type: ignore[override]  # a second registration would double it in the state dict
        return self.module.get_submodule(self.head_name)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Nothing: a module that is listened to runs as it is written."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        heard: list[tuple[Tensor, Tensor]] = []

        def listen(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            heard.append((given[0], made))

        # A hook for this pass only: nothing stays behind that a deep copy would carry along.
        handle = self.head.register_forward_hook(listen)
        try:
            result = self.module(x)
        finally:
            handle.remove()
        if len(heard) != 1:
            raise ConfigError(f"{self._called()} runs its head {self.head_name!r} {len(heard)} times; it must run once")
        return self._output(result, *heard[0])

    def _output(self, result: object, given: Tensor, made: Tensor) -> Output:
        if isinstance(result, Output):
            logits, features, stages = result.logits, result.features, result.stages
        elif isinstance(result, tuple) and len(result) == 2:
            (logits, features), stages = result, ()
        elif isinstance(result, Tensor):
            logits, features, stages = result, given, ()
        else:
            kind = type(result).__name__
            raise ConfigError(
                f"{self._called()} returns a {kind}; it must return logits, (logits, features) or an Output"
            )
        if logits is not made:
            raise ConfigError(
                f"the logits of {self._called()} are not what its head {self.head_name!r} gives: name the layer that "
                "makes them, and leave out what comes after it, such as a softmax"
            )
        if logits.dtype != next(self.head.parameters()).dtype:  # bfloat16, made under autocast
            logits = apply_head(self.head, given)
        return Output(logits, features.to(torch.promote_types(features.dtype, torch.float32)), stages)

    def _called(self) -> str:
        return type(self.module).__name__


@dataclass(frozen=True)
class Custom(Architecture):
    """Your own network in a recipe: a function that makes it anew for every round."""

    factory: Callable[..., nn.Module] | str
    """A function `factory()` or `factory(classes)` that returns a module, or where it is: "package.module:function"."""

    head: str | None = None
    """Name of the submodule that makes the logits, such as fc."""

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> Model:
        """A new module, wrapped. ConfigError if there is no such function, head, or if the head has other classes."""
        factory = _find(self.factory) if isinstance(self.factory, str) else self.factory
        model = wrap(_call(factory, classes), self.head)
        made = getattr(model.head, "out_features", getattr(model.head, "out_channels", classes))
        if made != classes:
            raise ConfigError(f"model custom: the head gives {made} classes, the pool has {classes}")
        model.rebuild = partial(self.build, classes, channels, size)
        return model


def _call(factory: Callable[..., nn.Module], classes: int) -> nn.Module:
    """With the number of classes where the function asks for it: by name, or as its only required argument."""
    parameters = inspect.signature(factory).parameters
    for name in ("classes", "num_classes"):
        if name in parameters and parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY:
            return factory(**{name: classes})
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters.values() if p.kind in positional and p.default is inspect.Parameter.empty]
    return factory(classes) if required else factory()


def _find(where: str) -> Callable[..., nn.Module]:
    module, _, name = where.partition(":")
    try:
        found: Callable[..., nn.Module] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model.factory is {where!r}; it must be 'package.module:function': {error}") from error
    return found
