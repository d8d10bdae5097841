"""CUDA graphs: a step that does the same work every time is recorded once and replayed, which costs the CPU next to nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")

ORDINARY = 3
"""Calls before the recording: they compile, choose kernels and build what is built at first use."""


class Replayed(Generic[Made]):
    """Calls `work`, and replays it later on. All calls have tensors of the same shapes, dtypes and layouts.

    work: launches the same kernels in every call, on tensors that are given or stay where they are; it never waits for the
    device, and what it returns is overwritten by the next call. Random numbers are those that torch's CUDA generator would give:
    its state is read at each replay.
    """

    def __init__(self, work: Callable[..., Made], device: torch.device):
        self._work, self._device = work, device
        self._ordinary = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._made: Made

    def __call__(self, *given: Tensor) -> Made:
        if self._graph is None and self._ordinary < ORDINARY:
            self._ordinary += 1
            return self._beside(given)
        if self._graph is None:
            self._inputs = [torch.empty_like(tensor, device=self._device) for tensor in given]
        for mine, tensor in zip(self._inputs, given, strict=True):
            mine.copy_(tensor, non_blocking=True)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may pin memory for the next batches meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._made = self._work(*self._inputs)
        self._graph.replay()
        return self._made

    def _beside(self, given: tuple[Tensor, ...]) -> Made:
        """On a stream of its own, as a recording demands of the calls before it."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            made = self._work(*given)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return made


class Beside:
    """A stream of its own on CUDA: what is launched inside `forked` runs beside what is launched next, up to `join`.

    On other devices one runs after the other.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @contextmanager
    def forked(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What is launched from here on waits for both."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
