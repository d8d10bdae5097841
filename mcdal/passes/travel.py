"""How a model and its strategy go to another process: all that `measure` needs, and nothing that only training did."""

import io
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, GeneratorType, MethodType
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn

from mcdal.errors import SelectionError
from mcdal.feed import Feed
from mcdal.models.base import Model
from mcdal.own_code import FROM_FILE
from mcdal.pool.base import Images, LabeledView, Pool, UnlabeledView
from mcdal.strategies.base import Strategy

STAYS = (torch.optim.Optimizer, Feed, Pool, Images, LabeledView, UnlabeledView, GeneratorType, zip, map, filter)
"""Of training alone: optimizers, the images, and the batches that come from them."""
_arriving_at: ContextVar[torch.device] = ContextVar("arriving_at")


class LeftBehind:
    """Stands for a part that did not travel. Whoever uses it learns what it was."""

    def __init__(self, what: str):
        self.__dict__["what"] = what

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what pickle and copy ask every object for
            raise AttributeError(name)
        raise self._error()

    def __call__(self, *_: object, **__: object) -> Any:
        raise self._error()

    def __iter__(self) -> Any:
        raise self._error()

    def __next__(self) -> Any:
        raise self._error()

    def _error(self) -> SelectionError:
        return SelectionError(
            f"a strategy used its {self.what} while it measured: a pass over shards takes the model and the strategy's networks "
            "along, but nothing that belongs to training; keep what `measure` needs in numbers, tensors or networks"
        )


def pack(model: Model, strategy: Strategy) -> bytes:
    """Both in one, since a strategy may hold the model. Compiled ones arrive as they were written: `Numerics.place` compiles.

    Classes of a script or of somebody's own file travel by value, those of installed packages by name. SelectionError names
    what cannot travel.
    """
    sink = io.BytesIO()
    with own_files_by_value():
        try:
            _Packer(sink, protocol=pickle.HIGHEST_PROTOCOL).dump((model, strategy))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            who = f"{type(strategy).__name__} with {type(model).__name__}"
            raise SelectionError(
                f"{who} cannot be sent to another process: {error}; keep what `measure` needs in numbers, tensors or networks"
            ) from error
    return sink.getvalue()


def unpack(content: bytes, device: torch.device) -> tuple[Model, Strategy]:
    """What `pack` took; tensors that were on an accelerator come to `device`."""
    token = _arriving_at.set(device)
    try:
        model, strategy = pickle.loads(content)
    finally:
        _arriving_at.reset(token)
    return model, strategy


def pack_any(value: object) -> bytes:
    """Something that holds no network, such as a pool in shards."""
    with own_files_by_value():
        content: bytes = cloudpickle.dumps(value)
    return content


class _Packer(cloudpickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, STAYS):
            return LeftBehind, (type(value).__name__,)
        if isinstance(value, MethodType) and isinstance(value.__self__, STAYS):
            return LeftBehind, (f"{type(value.__self__).__name__}.{value.__name__}",)
        if isinstance(value, FunctionType) and "<locals>" not in value.__qualname__:
            return super().reducer_override(value)
        if isinstance(value, Model) and value.rebuild is not None:
            return _without_rebuild(value)
        if isinstance(value, Tensor) and value.device.type != "cpu":
            return _arrived, (value.detach().cpu(), isinstance(value, nn.Parameter), value.requires_grad)
        return super().reducer_override(value)


def _without_rebuild(model: Model) -> tuple[Any, ...]:
    """It may hold a data set, or weights that the model has already."""
    reduced = model.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    assert isinstance(reduced, tuple) and isinstance(reduced[2], dict)
    return (*reduced[:2], {**reduced[2], "rebuild": None}, *reduced[3:])


def _arrived(tensor: Tensor, parameter: bool, learns: bool) -> Tensor:
    here = tensor.to(_arriving_at.get())
    return nn.Parameter(here, learns) if parameter else here.requires_grad_(learns)


@contextmanager
def own_files_by_value() -> Iterator[None]:
    """Modules that were imported from a path are nowhere to be found by name."""
    own = [module for name, module in sys.modules.items() if name.startswith(FROM_FILE)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
