"""A digest of what somebody's objects hold and of the code of their classes, so that a change of either is seen."""

import dataclasses
import enum
import functools
import hashlib
import inspect
import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OURS = ("mcdal", "torch", "builtins", "abc", "typing", "enum")
PLAIN = (bool, int, float, complex, str, bytes, type(None), Path, torch.dtype, torch.device, re.Pattern, range)
OF_EVERY_MODULE = frozenset(vars(nn.Module())) | {"_compiled_call_impl", "rebuild"}


class UnknownError(Exception):
    """Nobody can tell whether a value of this kind is the same the next time."""


class Digest:
    """dtype: that of all floating weights, so that a network is the same before and after it is placed."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        self._sha = hashlib.sha256()
        self._dtype = dtype
        self._under_way: list[object] = []

    def text(self) -> str:
        """What was fed so far, in 24 digits."""
        return self._sha.hexdigest()[:24]

    def say(self, *words: object) -> None:
        """Texts, kept apart."""
        for word in words:
            content = str(word).encode()
            self._sha.update(f"{len(content)}:".encode() + content)

    def module(self, module: nn.Module) -> None:
        """Weights, layers and what else they hold, and of classes that are neither ours nor torch's the code."""
        self.say(re.sub(r"0x[0-9a-f]+", "", repr(module)))
        self.state(module.state_dict())
        for name, part in module.named_modules():
            self.kind(type(part))
            for buffer in sorted(part._non_persistent_buffers_set):
                self.say(name, buffer)
                self.value(part._buffers[buffer])
            if type(part).__module__.split(".")[0] != "torch":  # whose layers say by their names what they hold
                self._held(name, part)

    def _held(self, name: str, module: nn.Module) -> None:
        """Attributes that tell what they are; a pass changes none of them."""
        for attribute, value in sorted(vars(module).items()):
            if attribute not in OF_EVERY_MODULE:
                try:
                    content = self._of(value)
                except UnknownError:  # a lock, a stream: no number of anybody's output
                    continue
                self.say(name, attribute, content)

    def state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            self.say(name)
            if isinstance(value, Mapping):
                self.state(value)
            elif isinstance(value, Tensor):
                self.tensor(value)
            else:
                self.say(repr(value))

    def tensor(self, value: Tensor) -> None:
        plain = value.detach().cpu().to(self._dtype if value.is_floating_point() else value.dtype).contiguous()
        self.say(plain.dtype, tuple(plain.shape))
        self._sha.update(plain.reshape(-1).view(torch.uint8).numpy().data)

    def kind(self, kind: type) -> None:
        """Its name; of somebody's own, which may be edited between two passes, the source as well."""
        for base in kind.__mro__:
            self.say(base.__qualname__)
            if not _is_ours(base):
                source = _source(base)
                self.say(source) if source is not None else self._functions(base)

    def _functions(self, kind: type) -> None:
        """Typed into a session: there is no file to read."""
        for name, value in sorted(vars(kind).items()):
            if isinstance(value, FunctionType):
                self.say(name)
                self._code(value.__code__)

    def value(self, value: object) -> None:
        """Anything that a field may hold. UnknownError where that is nothing that can be compared."""
        if any(value is other for other in self._under_way):
            self.say("again")
            return
        self._under_way.append(value)
        try:
            self._value(value)
        finally:
            self._under_way.pop()

    def _value(self, value: object) -> None:
        self.say(type(value).__qualname__)
        if isinstance(value, enum.Enum):
            self.say(value.name)
        elif isinstance(value, PLAIN):
            self.say(repr(value))
        elif isinstance(value, Tensor):
            self.tensor(value)
        elif isinstance(value, np.ndarray | np.generic):
            self._array(np.asarray(value))
        elif isinstance(value, nn.Module):
            self.module(value)
        elif isinstance(value, type):
            self.kind(value)
        elif isinstance(value, Mapping):
            self._any_order([(key, value[key]) for key in value])
        elif isinstance(value, set | frozenset):
            self._any_order(list(value))
        elif isinstance(value, list | tuple | deque):
            self.say(len(value))
            for part in value:
                self.value(part)
        elif callable(value) and not hasattr(type(value), "__dataclass_fields__"):
            self._callable(value)
        else:
            self._object(value)

    def _array(self, array: np.ndarray) -> None:
        if array.dtype.hasobject:
            raise UnknownError(f"an array of {array.dtype}")
        self.say(array.dtype.str, array.shape)
        self._sha.update(np.ascontiguousarray(array).tobytes())

    def _any_order(self, values: Sequence[object]) -> None:
        self.say(len(values), *sorted(self._of(value) for value in values))

    def _of(self, value: object) -> str:
        part = Digest(self._dtype)
        part._under_way = self._under_way
        part.value(value)
        return part.text()

    def _callable(self, value: Any) -> None:
        if isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.value(part)
        elif isinstance(value, MethodType):
            self.value(value.__func__)
            self.value(value.__self__)
        elif isinstance(value, FunctionType):
            self.say(value.__qualname__)
            self._code(value.__code__)
            for held in (
                value.__defaults__,
                value.__kwdefaults__,
                [_content(cell) for cell in value.__closure__ or ()],
            ):
                self.value(held)
        elif isinstance(value, BuiltinFunctionType | np.ufunc):
            self.say(getattr(value, "__module__", ""), value.__name__)
            if not isinstance(owner := getattr(value, "__self__", None), ModuleType | type(None)):
                self.value(owner)
        else:
            self._object(value)

    def _code(self, code: CodeType) -> None:
        """What it does, wherever its lines stand in the file."""
        self.say(code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars)
        for constant in code.co_consts:
            self._code(constant) if isinstance(constant, CodeType) else self.value(constant)

    def _object(self, value: object) -> None:
        """A dataclass by what it is given; any other object as it would be pickled."""
        self.kind(type(value))
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                if field.init:
                    self.say(field.name)
                    self.value(getattr(value, field.name))
            return
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:  # whatever an object says that is not to be copied
            raise UnknownError(f"a {type(value).__name__}") from error
        for part in [made] if isinstance(made, str) else [*made[:3], *(list(each or ()) for each in made[3:5])]:
            self.value(part)


def _is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] in OURS


def _content(cell: CellType) -> object:
    """None of a variable that has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


@functools.cache
def _source(kind: type) -> str | None:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return None
