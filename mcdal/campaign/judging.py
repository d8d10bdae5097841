"""What a model is worth on the audit images, which it was never trained on: accuracy, recall by class, calibration."""

from dataclasses import dataclass

import numpy as np

from mcdal.calibration import Calibration, calibrate
from mcdal.campaign.progress import interval
from mcdal.campaign.trained import RoundModel


@dataclass(frozen=True)
class Share:
    """`count` of `of`, with the ends of Wilson's 95 % interval."""

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def wilson(cls, count: int, of: int) -> "Share":
        return cls(count, of, *(interval(count / of, of) if of else (0.0, 1.0)))

    @property
    def value(self) -> float:
        return self.count / self.of


@dataclass(frozen=True)
class Audit:
    """Of one model, on the audit images that have a label by now. recall: by class, of those that the audit shows.

    unknown: labels of classes that came after the model; it is wrong on them, and they say nothing of its calibration.
    """

    round: int
    accuracy: Share | None
    recall: dict[str, Share]
    calibration: Calibration
    unknown: int = 0


def judge(trained: RoundModel) -> Audit:
    """accuracy is None where no audit image has a label."""
    test, classes = trained.pool.test, trained.pool.classes
    found = [logits for _, logits in trained.logits(test.images, test.positions)]
    logits = np.concatenate(found) if found else np.zeros((0, len(trained.inputs.classes)), np.float32)
    y = test.y
    right = logits.argmax(1) == y
    known = y < logits.shape[1]
    recall = {
        classes[c]: Share.wilson(int(right[y == c].sum()), int((y == c).sum())) for c in np.unique(y).tolist()
    }  # fmt: skip
    accuracy = Share.wilson(int(right.sum()), len(y)) if len(y) else None
    calibration = calibrate(logits[known].astype(np.float64), y[known])
    return Audit(trained.round, accuracy, recall, calibration, int((~known).sum()))
