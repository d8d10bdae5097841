"""Whether the discrepancy loss makes MCDAL steadier (the paper's Fig. 10): its seeds with and without it in results of areas.py.

Standard deviations over seeds of the area and of the last round, in points, and Pitman's and Morgan's test that both are alike.

    PYTHONPATH=.:benchmarks python benchmarks/steadiness.py [NAME ...]
"""

import argparse
import json
from pathlib import Path

import numpy as np

from mcdal.statistics.curves import area
from mcdal.statistics.paired import deviation, steadiness

WITH, WITHOUT = "mcdal", "mcdal: no discrepancy loss"
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="results/areas_NAME.json; all that have both by default")
    given = parser.parse_args()
    print("| pool | seeds | of | with the loss | without | ratio | p |\n|---|---|---|---|---|---|---|")
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        chosen = not given.names or path.stem.removeprefix("areas_") in given.names
        if chosen and isinstance(found, dict) and {WITH, WITHOUT} <= set(found.get("curves", {})):
            _told(path.stem, found)


def _told(name: str, found: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    curves, labels = found["curves"], np.array(found["labels"])
    seeds = sorted(set(curves[WITH]) & set(curves[WITHOUT]), key=int)
    sides = [np.array([curves[side][seed] for seed in seeds]) for side in (WITH, WITHOUT)]
    for of, values in (("area", [area(labels, s) for s in sides]), ("last round", [s[:, -1] for s in sides])):
        told = steadiness(*values)
        mine, theirs = (100 * deviation(v) for v in values)
        print(f"| {name} | {len(seeds)} | {of} | {mine:.2f} | {theirs:.2f} | {told.ratio:.2f} | {told.p:.2g} |")


if __name__ == "__main__":
    main()
