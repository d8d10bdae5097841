"""One class a sample: cross-entropy, accuracy, and the accuracy of each class."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from mcdal.device import wide
from mcdal.errors import SelectionError
from mcdal.tasks.base import Meter, Task
from mcdal.values import Metrics, Output


@dataclass(frozen=True)
class Classification(Task):
    """Single-label classification. `classes[i]` is the name of class index i."""

    classes: tuple[str, ...]
    weights: tuple[float, ...] | None = None

    name = "classification"
    headline = "accuracy"

    def fault(self, answer: int | UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> str | None:
        if isinstance(answer, np.ndarray):
            return "with a mask, where one class is asked for"
        there = f"there are classes 0 to {len(self.classes) - 1}"
        return None if 0 <= answer < len(self.classes) else f"as class {answer}, but {there}"

    def losses(self, logits: Float[Tensor, "b c"], y: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        return F.cross_entropy(logits, y, self._weights(logits), reduction="none")

    def losses_of_whole(self, logits: Float[Tensor, "b c"], y: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.losses(logits, y)

    def right(self, logits: Float[Tensor, "b c"], y: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        return (logits.argmax(1) == y).to(wide(logits.device)).mean()

    def reduce(self, score: Float[Tensor, "b *space"]) -> Float[Tensor, " b"]:
        if score.ndim != 1:
            raise SelectionError(
                f"a strategy measured scores of shape {tuple(score.shape)} on {len(score)} samples: give ({len(score)},)"
            )
        return score

    def pooled(self, values: Float[Tensor, "b d *space"]) -> Float[Tensor, "b d"]:
        return values

    def weighing(self, weights: tuple[float, ...]) -> "Classification":
        return replace(self, weights=weights)

    def meter(self) -> "ClassificationMeter":
        return ClassificationMeter(self.classes)


class ClassificationMeter(Meter):
    """Counts in one confusion matrix (true class, predicted class) and sums the cross-entropy."""

    def __init__(self, classes: tuple[str, ...]):
        self.classes = classes
        self._confusion: Tensor | None = None
        self._loss: Tensor | None = None

    def add(self, output: Output, y: Int[Tensor, " b"]) -> None:
        c = len(self.classes)
        cells = y * c + output.logits.argmax(1)
        confusion = torch.bincount(cells, minlength=c * c)
        loss = F.cross_entropy(output.logits, y, reduction="sum").to(wide(y.device))
        self._confusion = confusion if self._confusion is None else self._confusion + confusion
        self._loss = loss if self._loss is None else self._loss + loss

    def result(self) -> Metrics:
        """accuracy, balanced_accuracy (mean recall of the classes present), loss (nats), and accuracy/CLASS for each class."""
        if self._confusion is None or self._loss is None:
            return {}
        c = len(self.classes)
        confusion = self._confusion.reshape(c, c).double().cpu()
        total, right = confusion.sum(1), confusion.diagonal()
        present = total > 0
        recall = right[present] / total[present]
        names = [name for name, there in zip(self.classes, present.tolist(), strict=True) if there]
        return {
            "accuracy": float(right.sum() / total.sum()),
            "balanced_accuracy": float(recall.mean()),
            "loss": float(self._loss.cpu() / total.sum()),
            **{f"accuracy/{name}": float(r) for name, r in zip(names, recall, strict=True)},
        }
