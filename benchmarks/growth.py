"""results/million.png: processor time and memory of million.py's steps over the number of rows.

PYTHONPATH=. python -m benchmarks.growth
"""

import json

import matplotlib
import matplotlib.pyplot as plt

from benchmarks.side_by_side import RESULTS

STEPS = {
    "product with 80 columns": "one product with 80 columns",
    "a pass: MCDAL's scores into files": "a pass: MCDAL's scores into files",
    "top-b of these files": "the largest of these scores",
    "Margin over logits": "Margin over logits in memory",
    "core-set": "core-set",
    "BADGE": "BADGE",
    "MCDAL post hoc, scores": "MCDAL post hoc: scores of all",
}


def main() -> None:
    matplotlib.use("svg")
    by_rows = {int(rows): steps for rows, steps in json.loads((RESULTS / "million.json").read_text())["rows"].items()}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, (what, scale, title) in zip(
        axes,
        (("cpu", 1.0, "processor time of one core in s"), ("peak", 1.0, "memory beside mapped files in MB")),
        strict=True,
    ):
        for step, name in STEPS.items():
            points = [(rows, steps[step][what] * scale) for rows, steps in sorted(by_rows.items()) if step in steps]
            axis.plot(*zip(*points, strict=True), marker="o", label=name)
        axis.set(xscale="log", yscale="log", xlabel="rows of 512 features", title=title)
        axis.grid(alpha=0.3)
    rows = sorted(by_rows)
    axes[0].plot(rows, [0.3 * n / rows[0] for n in rows], color="0.6", linestyle=":", label="in proportion to the rows")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(RESULTS / "million.png", dpi=110)


if __name__ == "__main__":
    main()
