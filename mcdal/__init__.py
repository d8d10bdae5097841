"""Active learning for deep vision: decides which images people should label next.

The names here are the library; they are loaded when first used, so that `import mcdal` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mcdal.version import __version__

if TYPE_CHECKING:
    from mcdal.augment import Augment
    from mcdal.config import Config, Protocol
    from mcdal.encoders.base import Built, Encoder
    from mcdal.errors import McdalError
    from mcdal.loop import run
    from mcdal.measuring import evaluate, measure, select
    from mcdal.models.base import Architecture, Model
    from mcdal.models.probe import Probe
    from mcdal.models.resnet import ResNet
    from mcdal.models.wrap import Custom, wrap
    from mcdal.outputs import select_from
    from mcdal.plan import Plan
    from mcdal.pool.arrays import Arrays
    from mcdal.pool.base import Pool, Source
    from mcdal.pool.datasets import Datasets
    from mcdal.pool.folder import Folder
    from mcdal.report import write_report
    from mcdal.schedule import Optimization
    from mcdal.selection.search import Search
    from mcdal.stack import Stack
    from mcdal.store import Store
    from mcdal.strategies.base import About, Scored, Setting, Strategy
    from mcdal.strategies.margin import Margin
    from mcdal.strategies.mcdal import MCDAL
    from mcdal.strategies.random import Random
    from mcdal.training import Training, train
    from mcdal.values import Batch, Label, Measurement, Output, Picks, Progress, Rows

_HOME = {
    "Augment": "augment",
    "Config": "config",
    "Protocol": "config",
    "Built": "encoders.base",
    "Encoder": "encoders.base",
    "McdalError": "errors",
    "Plan": "plan",
    "run": "loop",
    "evaluate": "measuring",
    "measure": "measuring",
    "select": "measuring",
    "Architecture": "models.base",
    "Model": "models.base",
    "Probe": "models.probe",
    "ResNet": "models.resnet",
    "Custom": "models.wrap",
    "wrap": "models.wrap",
    "select_from": "outputs",
    "Arrays": "pool.arrays",
    "Pool": "pool.base",
    "Source": "pool.base",
    "Datasets": "pool.datasets",
    "Folder": "pool.folder",
    "write_report": "report",
    "Optimization": "schedule",
    "Search": "selection.search",
    "Stack": "stack",
    "Store": "store",
    "About": "strategies.base",
    "Scored": "strategies.base",
    "Setting": "strategies.base",
    "Strategy": "strategies.base",
    "Margin": "strategies.margin",
    "MCDAL": "strategies.mcdal",
    "Random": "strategies.random",
    "Training": "training",
    "train": "training",
    "Batch": "values",
    "Label": "values",
    "Measurement": "values",
    "Output": "values",
    "Picks": "values",
    "Progress": "values",
    "Rows": "values",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"mcdal.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mcdal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
