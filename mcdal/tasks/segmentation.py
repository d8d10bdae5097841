"""One class for every pixel: cross-entropy without the void ones, and mean IoU over a whole set."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from mcdal.device import wide
from mcdal.tasks.base import Meter, Task
from mcdal.values import VOID, Metrics, Output


@dataclass(frozen=True)
class Segmentation(Task):
    """Semantic segmentation. `classes[i]` is the name of class index i; a mask holds class indices and `VOID`.

    colours: how masks are shown to people, red, green and blue of each class, 0 to 255.
    """

    classes: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    colours: tuple[tuple[int, int, int], ...] | None = None

    name = "segmentation"
    headline = "mean_iou"

    def fault(self, answer: int | UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> str | None:
        if not isinstance(answer, np.ndarray):
            return f"as class {answer}, where a mask is asked for"
        if answer.shape != size:
            return f"with a mask of {answer.shape[1]}x{answer.shape[0]}, but the image has {size[1]}x{size[0]} pixels"
        unknown = answer[(answer >= len(self.classes)) & (answer != VOID)]
        there = f"there are classes 0 to {len(self.classes) - 1}, and {VOID} for none"
        return f"with a mask that holds class {unknown[0]}, but {there}" if len(unknown) else None

    def losses(self, logits: Float[Tensor, "b c h w"], y: Shaped[Tensor, "b h w"]) -> Float[Tensor, " b"]:
        """Weighted cross-entropy (nats), the mean over an image's labeled pixels; 0 for an image of void."""
        if logits.shape[2:] != y.shape[1:]:  # `gather` would take the part that it needs
            raise ValueError(f"logits of {tuple(logits.shape[2:])} pixels for masks of {tuple(y.shape[1:])}")
        weighted = _cross_entropy(logits, y, self._weights(logits))
        count = (y != VOID).flatten(1).sum(1).clamp_min(1)
        return weighted.flatten(1).sum(1) / count

    def losses_of_whole(self, logits: Float[Tensor, "b c"], y: Shaped[Tensor, "b h w"]) -> Float[Tensor, " b"]:
        """Weighted cross-entropy with the classes' shares of the labeled pixels, as if each pixel were told the same."""
        there = torch.arange(logits.shape[1], device=y.device)
        share = (y.flatten(1)[:, :, None] == there).sum(1, dtype=logits.dtype)
        share = share / share.sum(1, keepdim=True).clamp_min(1)
        weights = self._weights(logits)
        return -((share if weights is None else share * weights) * logits.log_softmax(1)).sum(1)

    def right(self, logits: Float[Tensor, "b c h w"], y: Shaped[Tensor, "b h w"]) -> Float[Tensor, ""]:
        known = y != VOID
        said = logits.gather(1, torch.where(known, y, 0)[:, None].long())[:, 0]  # cheaper than to find the likeliest
        right = (said >= logits.amax(1)) & known
        return right.sum(dtype=torch.float32) / known.sum().clamp_min(1)

    def reduce(self, score: Float[Tensor, "b *space"]) -> Float[Tensor, " b"]:
        """The mean over space; a score of the whole image stays."""
        return score if score.ndim == 1 else score.flatten(1).mean(1)

    def pooled(self, values: Float[Tensor, "b d *space"]) -> Float[Tensor, "b d"]:
        return (
            values
            if values.ndim == 2
            else values.flatten(2).mean(2, dtype=torch.promote_types(values.dtype, torch.float32))
        )

    def weighing(self, weights: tuple[float, ...]) -> "Segmentation":
        return replace(self, weights=weights)

    def meter(self) -> "SegmentationMeter":
        return SegmentationMeter(self.classes)


class SegmentationMeter(Meter):
    """Counts all pixels of a set in one confusion matrix (true class, predicted class) and sums the cross-entropy."""

    def __init__(self, classes: tuple[str, ...]):
        self.classes = classes
        self._confusion: Tensor | None = None
        self._loss: Tensor | None = None

    def add(self, output: Output, y: Shaped[Tensor, "b h w"]) -> None:
        c = len(self.classes)
        # Void goes to one more row, since picking out the others would have to wait for the device.
        true = torch.where(y == VOID, c, y.long())
        cells = true * c + likeliest(output.logits)
        confusion = torch.bincount(cells.flatten(), minlength=(c + 1) * c)
        loss = _cross_entropy(output.logits, y, None).sum().to(wide(y.device))
        self._confusion = confusion if self._confusion is None else self._confusion + confusion
        self._loss = loss if self._loss is None else self._loss + loss

    def result(self) -> Metrics:
        """mean_iou (over the classes that occur, true or predicted), pixel_accuracy, loss (nats a pixel), iou/CLASS.

        IoU of a class: pixels that are both, over pixels that are either, of the whole set.
        """
        if self._confusion is None or self._loss is None:
            return {}
        c = len(self.classes)
        confusion = self._confusion.view(c + 1, c)[:c].double().cpu()
        both, total = confusion.diagonal(), confusion.sum()
        either = confusion.sum(0) + confusion.sum(1) - both
        iou = {name: float(b / e) for name, b, e in zip(self.classes, both, either, strict=True) if e > 0}
        if not iou:
            return {}
        return {
            "mean_iou": sum(iou.values()) / len(iou),
            "pixel_accuracy": float(both.sum() / total),
            "loss": float(self._loss.cpu() / total),
            **{f"iou/{name}": value for name, value in iou.items()},
        }


def _cross_entropy(
    logits: Float[Tensor, "b c h w"], y: Shaped[Tensor, "b h w"], weights: Float[Tensor, " c"] | None
) -> Float[Tensor, "b h w"]:
    """Of every pixel, 0 where it is void."""
    loss: Tensor = _CrossEntropy.apply(logits, y, weights)
    return loss


class _CrossEntropy(torch.autograd.Function):
    """-w_y log softmax(z)_y and its gradient w_y (softmax(z) - [c = y]), map by map.

    `nll_loss` wants rows of classes, which costs two copies of all logits, and the gradient of `gather` has no deterministic
    kernel on CUDA.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        logs = logits.contiguous().log_softmax(1)  # along rows of few classes a processor is twenty times as slow
        known = y != VOID
        true = torch.where(known, y, 0).long()
        weight = known.to(logs.dtype) if weights is None else weights[true] * known
        ctx.save_for_backward(logs, true, weight)
        return logs.gather(1, true[:, None])[:, 0] * -weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logs, true, weight = ctx.saved_tensors
        classes = torch.arange(logs.shape[1], device=logs.device)[:, None, None]
        off = logs.exp().add_(true[:, None] == classes, alpha=-1)
        return off.mul_((grad * weight)[:, None]), None, None


def likeliest(logits: Float[Tensor, "b c h w"]) -> Int[Tensor, "b h w"]:
    """argmax over the classes, the first of equal ones; map by map, which is ten times as fast on a processor."""
    if logits.device.type != "cpu":
        return logits.argmax(1)
    best, place = logits[:, 0].clone(), torch.zeros_like(logits[:, 0], dtype=torch.int64)
    for c in range(1, logits.shape[1]):
        better = logits[:, c] > best
        place[better] = c
        torch.maximum(best, logits[:, c], out=best)
    return place
