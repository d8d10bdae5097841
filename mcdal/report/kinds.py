"""What a report draws of a run and how it is called, by what a label of the run is."""

from dataclasses import dataclass

from mcdal.tasks.base import Task
from mcdal.tasks.classification import Classification
from mcdal.tasks.segmentation import Segmentation


@dataclass(frozen=True)
class Kind:
    """The metrics of a task. headline: what curves are drawn of. beside: a second curve. by_class: those of single classes."""

    task: type[Task]
    headline_name: str
    beside: str
    beside_name: str
    by_class: str
    by_class_name: str

    @property
    def headline(self) -> str:
        return f"test/{self.task.headline}"

    @property
    def difference_name(self) -> str:
        return f"{self.headline} difference"


ONE_CLASS = Kind(
    Classification,
    "test accuracy",
    "test/balanced_accuracy",
    "balanced test accuracy",
    "test/accuracy/",
    "test accuracy",
)
MASKS = Kind(
    Segmentation, "test mean IoU", "test/pixel_accuracy", "test pixel accuracy", "test/iou/", "test IoU"
)  # fmt: skip
