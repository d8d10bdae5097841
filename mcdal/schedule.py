"""How fast to learn at each step, and the optimizer that follows it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcdal.errors import ConfigError


@dataclass(frozen=True)
class Optimization:
    """SGD with momentum, a warm-up epoch, then a step decay. The rate is a function of the step, so it needs no state."""

    lr: float = 0.1
    """Learning rate after warm-up."""
    momentum: float = 0.9
    """SGD momentum, without Nesterov."""
    weight_decay: float = 5e-4
    """L2 penalty on all parameters."""
    milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Shares of the training after which the learning rate is multiplied by gamma."""
    gamma: float = 0.2
    """Factor at each milestone."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate rises linearly from 0."""

    published_warmup: bool = False
    """Repeats the published warm-up, which counts batches of labeled images: 10 % of CIFAR-10 go up to 10 x lr."""

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay", "gamma", "warmup_epochs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"training.optimization.{name} = {value}: it must be a number of at least 0")
        if not all(0 <= m <= 1 for m in self.milestones):
            raise ConfigError(f"training.optimization.milestones = {self.milestones}: they are shares between 0 and 1")

    def rate(self, step: int, steps: int, warmup: int, labeled_batches: int) -> float:
        """Learning rate of optimizer step `step` (from 0) of `steps`, the first `warmup` of them rising.

        During warm-up: lr (step + 1) / warmup, so it reaches lr and never overshoots. Afterwards: lr gamma^k with k the
        number of milestones passed. labeled_batches: full batches in one pass over the labeled images, for the published
        warm-up alone.
        """
        if step < warmup:
            return self.lr * (step + 1) / (max(1, labeled_batches) if self.published_warmup else warmup)
        passed = sum(step >= round(m * steps) for m in self.milestones)
        return float(self.lr * self.gamma**passed)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
        """SGD over `parameters`; its rate is set before each step by `set_rate`.

        On CUDA it is one kernel that reads the rate from the device.
        """
        parameters = list(parameters)
        cuda = all(p.device.type == "cuda" for p in parameters) and len(parameters) > 0
        lr = torch.tensor(self.lr, device=parameters[0].device) if cuda else self.lr
        fused = {"fused": True} if cuda else {}
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum, weight_decay=self.weight_decay, **fused)


def set_rate(optimizer: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """The learning rate of the steps to come."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # that of a kept state comes back on the CPU
            group["lr"] = group["lr"].to(group["params"][0].device)
        if not isinstance(group["lr"], Tensor):
            group["lr"] = float(lr)
        elif isinstance(lr, Tensor):
            group["lr"].copy_(lr)
        else:
            group["lr"].fill_(lr)
