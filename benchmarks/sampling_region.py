"""The paper's Fig. 2 from a real training: where MCDAL's heads disagree in a feature space of two dimensions, early and late.

Four of scikit-learn's digits, a small network whose features are two numbers, a few labels. Lines are where the most likely class
changes, for the task's own head and for the two auxiliary ones; the shade is the discrepancy (Eq. 4). Dots are images at their
features: labeled ones in black, unlabeled ones in grey, with a ring where MCDAL would pick.

    PYTHONPATH=.:benchmarks python benchmarks/sampling_region.py
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from mcdal.discrepancy import discrepancy
from mcdal.measuring import measure, select
from mcdal.models.base import Model, apply_head
from mcdal.models.small import SmallConv
from mcdal.pool.base import ArrayImages, LabeledView, Pool
from mcdal.pool.digits import Digits
from mcdal.recipes.digits import digits
from mcdal.report.ink import BLUE, GREY, INK, ORANGE, STYLE, VERMILLION
from mcdal.selection import at_random
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import train
from mcdal.values import Output

CLASSES = (1, 3, 8, 9)
LABELS, PICKS, SEED = 12, 10, 1
MOMENTS = {"early": 30, "late": 300}
GRID = 400
OUT = Path(__file__).parent / "results" / "sampling_region.png"


class Flat(Model):
    """A small network whose features are two numbers."""

    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.body = SmallConv(width=16).build(classes, channels, (8, 8))
        self.flatten = nn.Linear(self.body.head.in_features, 2)
        self.head = nn.Linear(2, classes)

    def forward(self, x: Tensor) -> Output:
        features = self.flatten(self.body(x).features)
        return Output(apply_head(self.head, features), features)


class Moments:
    """A keeper that goes on training and remembers some of its states."""

    def __init__(self) -> None:
        self.states: dict[int, dict[str, Any]] = {}

    def load(self) -> None:
        return None

    def due(self) -> bool:
        return True

    def save(self, state: dict[str, Any]) -> None:
        if state["step"] in MOMENTS.values():
            self.states[state["step"]] = copy.deepcopy({k: state[k] for k in ("model", "strategy")})


def main() -> None:
    torch.set_num_threads(1)
    pool, config = few_digits(), digits()
    training = replace(
        config.training, epochs=1, steps_per_epoch=max(MOMENTS.values()), batch_size=LABELS, precision="float32"
    )
    truth = pool.truth()
    labels = {id: truth[id] for id in at_random(pool.images.ids, LABELS, SEED).ids}
    torch.manual_seed(SEED)
    model, strategy, moments = Flat(len(CLASSES), pool.shape[0]), MCDAL(), Moments()
    numerics = training.numerics("cpu")
    train(model, pool, labels, strategy, training, numerics=numerics, seed=SEED, keeper=moments)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.6), layout="constrained")
        for axes, (name, step) in zip(figure.subplots(1, 2), MOMENTS.items(), strict=True):
            state = moments.states[step]
            model.load_state_dict(state["model"])
            for part, kept in state["strategy"].items():
                strategy.state()[part].load_state_dict(kept)
            rows = measure(model, pool, labels, strategy, numerics=numerics)
            picks = select(strategy, rows, PICKS, SEED)
            draw(axes, model, strategy, pool, labels, picks.ids)
            axes.set_title(f"{name}: after {step} steps", loc="left", size=10.5, weight="bold")
        legend(figure)
        OUT.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(OUT, dpi=110, metadata={"Software": None})
    print(OUT)


def few_digits() -> Pool:
    """The pool with the chosen digits alone."""
    whole = Digits().open(Path("unused"))
    assert isinstance(whole.images, ArrayImages) and whole.targets is not None
    keep = np.flatnonzero(np.isin(whole.targets, CLASSES))
    images = ArrayImages(tuple(whole.images.ids[i] for i in keep), whole.images.pixels[keep])
    targets = np.searchsorted(CLASSES, whole.targets[keep])
    test = LabeledView(images, np.arange(len(keep)), targets)
    return replace(whole, images=images, targets=targets, test=test, classes=tuple(map(str, CLASSES)))


@torch.inference_mode()
def draw(axes: Axes, model: Flat, strategy: MCDAL, pool: Pool, labels: dict[str, int], picked: tuple[str, ...]) -> None:
    (x,) = pool.images.batches([np.arange(len(pool))], torch.device("cpu"))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (pool.mean, pool.std))
    at = model.eval()((x.float() / 255 - mean) / std).features.numpy()
    (left, low), (right, high) = np.quantile(at, 0.005, 0), np.quantile(at, 0.995, 0)
    wide, tall = 0.12 * (right - left), 0.12 * (high - low)
    across = np.linspace(left - wide, right + wide, GRID)
    up = np.linspace(low - tall, high + tall, GRID)
    grid = torch.tensor(np.stack(np.meshgrid(across, up), -1).reshape(-1, 2), dtype=torch.float32)
    heads = torch.cat([apply_head(model.head, grid)[None], strategy.state()["heads"](grid)])
    p = heads.softmax(2)
    shade = discrepancy(p, "l1").view(GRID, GRID).numpy()
    extent = (across[0], across[-1], up[0], up[-1])
    colour = np.empty((GRID, GRID, 4))
    colour[..., :3], colour[..., 3] = to_rgb(ORANGE), 0.75 * shade / max(shade.max(), 1e-9)
    axes.imshow(colour, origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    for head, line, width in zip(p, (INK, BLUE, VERMILLION), (1.8, 1.1, 1.1), strict=True):
        best = head.argmax(1).view(GRID, GRID).numpy()
        for c in range(len(CLASSES)):
            axes.contour(across, up, best == c, levels=[0.5], colors=[line], linewidths=width)
    labeled = np.array([id in labels for id in pool.images.ids])
    chosen = np.array([id in picked for id in pool.images.ids])
    axes.scatter(*at[~labeled].T, s=7, color=GREY, alpha=0.6, linewidth=0)
    axes.scatter(*at[chosen].T, s=52, facecolor="none", edgecolor=INK, linewidth=1.1)
    axes.scatter(*at[labeled].T, s=22, color=INK)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])


def legend(figure: Figure) -> None:
    lines = {"task's head": INK, "first auxiliary head": BLUE, "second": VERMILLION}
    handles = [Line2D([], [], color=c, label=name, linewidth=1.5) for name, c in lines.items()]
    dots = {"marker": "o", "linestyle": "none"}
    handles += [
        Line2D([], [], color=INK, markersize=5, label="labeled", **dots),
        Line2D([], [], color=GREY, markersize=4, label="unlabeled", **dots),
        Line2D([], [], markerfacecolor="none", markeredgecolor=INK, markersize=8, label="picked", **dots),
        Line2D([], [], color=ORANGE, marker="s", markersize=8, linestyle="none", label="discrepancy"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)


if __name__ == "__main__":
    main()
