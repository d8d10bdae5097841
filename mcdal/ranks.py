"""The processes that train one model together: which of them this one is, and what they tell each other.

Each takes its part of every batch. What they compute together is meant to be what one process would: gradients are averaged,
random numbers are drawn for the whole batch. Alone, everything here is the thing itself.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from mcdal.errors import TrainingError

Said = TypeVar("Said")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `size`. device: where tensors must be to travel."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @classmethod
    def here(cls, device: torch.device) -> "Ranks":
        """Those of torch's default process group, or this process alone where there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, `of_whole`, `batch_mean`, `batch_sum` and `batch_count` are of the batches of all."""
        token = _TOGETHER.set(self)
        try:
            yield
        finally:
            _TOGETHER.reset(token)

    def part(self, rows: int) -> slice:
        """This process's rows of a batch of so many."""
        each = rows // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Makes each tensor the mean of all processes' ones, in place.

        All of a kind in one message, always in the same order: with that the sum has the same bits in every run.
        """
        for some in self._of_a_kind(tensors):
            flat = _flat(some).to(self.device)
            dist.all_reduce(flat)
            _spread(flat.div_(self.size), some)

    def from_first(self, tensors: Sequence[Tensor]) -> None:
        """Makes each tensor that of rank 0, in place."""
        for some in self._of_a_kind(tensors):
            flat = _flat(some).to(self.device)
            dist.broadcast(flat, 0)
            _spread(flat, some)

    def said_by_first(self, said: Said) -> Said:
        """What rank 0 says, in every process."""
        if self.size == 1:
            return said
        given = [said]
        dist.broadcast_object_list(given, 0, device=self.device)
        return given[0]

    def mean_of(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Of each number the mean over the processes, which have the same names."""
        if self.size == 1 or not numbers:
            return dict(numbers)
        values = torch.tensor(list(numbers.values()), dtype=torch.float64)
        self.average([values])
        return dict(zip(numbers, values.tolist(), strict=True))

    def refuse_apart(self, parts: Mapping[str, Iterable[Tensor]]) -> None:
        """TrainingError where a part is not the same to the last bit in all processes."""
        if self.size == 1:
            return
        sums = torch.tensor([_sum(tensors) for tensors in parts.values()], dtype=torch.int64, device=self.device)
        all_sums = [torch.empty_like(sums) for _ in range(self.size)]
        dist.all_gather(all_sums, sums)
        apart = [name for i, name in enumerate(parts) if len({int(each[i]) for each in all_sums}) > 1]
        if apart:
            raise TrainingError(
                f"training.processes: {', '.join(apart)} came apart in the {self.size} processes: a strategy's networks and all "
                "its optimizers must be in its `state()` when `attach` returns, and `step` must not draw weights by itself"
            )

    def _of_a_kind(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        kinds: dict[object, list[Tensor]] = {}
        for tensor in tensors if self.size > 1 else ():
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        return list(kinds.values())


ALONE = Ranks()
_TOGETHER: ContextVar[Ranks] = ContextVar("together", default=ALONE)


def together() -> Ranks:
    """Those that train together now; a process alone outside of a training."""
    return _TOGETHER.get()


def of_whole(x: Shaped[Tensor, "b *rest"], make: Callable[[Tensor], Tensor]) -> Shaped[Tensor, "b *rest"]:
    """This process's rows of what `make` makes of the whole batch, for something that draws random numbers for each row.

    x: this process's rows, as many as the others have; theirs are 0 here. `of_whole(x, torch.randn_like)` is the noise that
    one process would have drawn.
    """
    ranks = together()
    if ranks.size == 1:
        return make(x)
    rows: list[Tensor] = [torch.zeros_like(x)] * ranks.size
    rows[ranks.rank] = x
    return make(torch.cat(rows))[ranks.part(len(x) * ranks.size)]


def batch_sum(values: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """What stands for the sum over the whole batch in a loss: gradients are averaged over the processes."""
    return values.sum() * together().size


def batch_count(rows: int) -> int:
    """How many rows all processes have together."""
    ranks = together()
    if ranks.size == 1:
        return rows
    count = torch.tensor(rows, device=ranks.device)
    dist.all_reduce(count)
    return int(count)


def batch_mean(values: Float[Tensor, " b"], count: int) -> Float[Tensor, ""]:
    """What stands for the mean over the whole batch in a loss, where processes may have unequal numbers of rows.

    count: `batch_count` of them.
    """
    return values.mean() if together().size == 1 else batch_sum(values) / count


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def _sum(tensors: Iterable[Tensor]) -> int:
    """63 bits that tell whether tensors are the same."""
    hashed = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return int.from_bytes(hashed.digest(), "little") >> 1
