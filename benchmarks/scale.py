"""docs/scale.md, derived from the results under benchmarks/results: `scripts/docs` writes it, a test looks whether it is current.

What was measured at a million and ten million rows, and what follows for a hundred million and a billion: hours, workers and
cost, each beside what it was derived from. Prices and the machine are assumptions; `python -m benchmarks.scale --print` with
others prints the page for them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "scale.md", ROOT / "benchmarks" / "results"
TEMPLATE = Path(__file__).with_suffix(".md.j2")
SIZES = (10_000_000, 100_000_000, 1_000_000_000)
SMALL_MACS, LARGE_MACS = 0.556e9, 1.814e9
"""Multiplications and additions of a ResNet-18 for an image: with the stem of CIFAR at 32 pixels, with ImageNet's at 224."""
VECTOR_BYTES = 1_024
"""Of a row of 512 numbers in float16."""
BYTES_OF_A_RUN = 20
"""That a run holds in memory of each image (docs/shards.md)."""


@dataclass(frozen=True)
class Assumed:
    """What a user would replace by their own numbers."""

    nodes: int = field(default=20, metadata={"says": "machines that measure at once"})
    cores: int = field(default=16, metadata={"says": "cores of each"})
    gpu_dollars: float = field(default=3.0, metadata={"says": "dollars an hour of such a machine with one GPU"})
    core_dollars: float = field(default=0.04, metadata={"says": "dollars an hour of a core"})
    gib_dollars: float = field(default=0.023, metadata={"says": "dollars a month of a GiB in a bucket"})
    image_bytes: int = field(
        default=50_000, metadata={"says": "bytes of an image, as of the photographs that were read"}
    )


ASSUMED = Assumed()


@dataclass(frozen=True)
class Rates:
    """What was measured. Of a core, but for `gpu`."""

    read: float
    """Images a second, read and scaled to 224 pixels."""
    forward: float
    """Images a second through ResNet-18 at 224 pixels, in float32."""
    gpu: float
    """The same on a GPU, from its rate at 32 pixels by the number of multiplications."""
    listed: float
    index_bytes: float
    steps: Mapping[int, Mapping[str, Mapping[str, float]]]
    """Of million.py, by the number of rows."""

    @classmethod
    def of_results(cls) -> "Rates":
        reading, gpu = checks("reading.json"), checks("gpu_measure.json")
        at_32 = float(gpu["measure of 400,000 over a bare forward pass"]["detail"].split()[0].replace(",", ""))
        return cls(
            reading["tar: read at 224 pixels"]["value"], reading["ResNet-18 at 224 pixels"]["value"],
            at_32 * SMALL_MACS / LARGE_MACS, reading["tar: listed"]["value"], reading["tar: index"]["value"],
            {int(rows): steps for rows, steps in load("million.json")["rows"].items()},
        )  # fmt: skip

    @property
    def largest(self) -> int:
        return max(self.steps)

    def seconds(self, step: str, rows: int) -> float:
        """Of one core, in proportion to the most rows that were measured."""
        return self.steps[self.largest][step]["cpu"] * rows / self.largest

    def gigabytes(self, step: str, rows: int) -> float:
        """Of memory beside the files: what was held at both ends, drawn on as a line."""
        most, least = self.largest, min(rows for rows, steps in self.steps.items() if step in steps)
        high, low = (self.steps[n][step]["peak"] for n in (most, least))
        slope = max(0.0, (high - low) / (most - least))
        return (high + slope * (rows - most)) / 1e3

    def growth(self, step: str) -> float:
        """Processor time a row at the most rows over that at the least."""
        most, least = self.largest, min(rows for rows, steps in self.steps.items() if step in steps)
        return self.steps[most][step]["cpu"] / self.steps[least][step]["cpu"] / (most / least)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def checks(name: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in load(name)["checks"]}


CHOICES = {
    "Margin: the largest of ready scores": "top-b of these files",
    "core-set, 1,000 picks": "core-set",
    "BADGE, 1,000 picks": "BADGE",
    "MCDAL post hoc: scores of all": "MCDAL post hoc, scores",
}
"""What the page calls a step of million.py."""


def text(assumed: Assumed = ASSUMED) -> str:
    """The page."""
    rates = Rates.of_results()
    core, node = 1 / (1 / rates.read + 1 / rates.forward), min(rates.gpu, assumed.cores * rates.read)
    disk = rates.steps[rates.largest]["read, cold"]
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        assumed=assumed, rates=rates, core=core, node=node, vector_bytes=VECTOR_BYTES,
        least_growth=min(map(rates.growth, CHOICES.values())), most_growth=max(map(rates.growth, CHOICES.values())),
        bound="reading" if node < rates.gpu else "the network",
        at_32=rates.gpu * LARGE_MACS / SMALL_MACS, disk=disk["bytes"] / disk["wall"] / 1e9,
        parquet=checks("reading.json")["parquet: listed"]["value"] / rates.listed,
        measured=measured(rates), passes=passes(assumed, core, node),
        choices=choices(rates, disk["bytes"] / disk["wall"]), index=index(rates, assumed),
        assumptions=table(["", ""], [[str(getattr(assumed, f.name)), f.metadata["says"]] for f in fields(assumed)]),
    )  # fmt: skip


def measured(rates: Rates) -> str:
    sizes, rows = sorted(rates.steps), []
    for title, step in {**CHOICES, "a pass over features on the disk": "a pass: MCDAL's scores into files"}.items():
        of = [rates.steps[n].get(step) for n in sizes]
        cells = [f"{s['cpu']:.3g} s; {s['peak'] / 1e3:.2g} GB" if s else "" for s in of]
        rows.append([title, *cells, f"{rates.growth(step):.2f}"])
    return table(["", *(f"{n:,} rows" for n in sizes), "a row, most over least"], rows)


def passes(assumed: Assumed, core: float, node: float) -> str:
    rows = []
    for images in SIZES:
        of_nodes, of_cores = images / node / 3600, images / core / 3600
        rows.append([
            f"{images:,}", f"{images * assumed.image_bytes / 1e12:.3g} TB", f"{of_nodes:,.3g}", spoken(of_nodes / assumed.nodes),
            f"${of_nodes * assumed.gpu_dollars:,.0f}", f"{of_cores:,.0f}", f"${of_cores * assumed.core_dollars:,.0f}",
        ])  # fmt: skip
    machine = f"hours of machines of {assumed.cores} cores and a GPU"
    return table(
        ["images", "to read", machine, f"{assumed.nodes} of them", "cost", "or hours of cores alone", "cost"], rows
    )


def choices(rates: Rates, speed: float) -> str:
    """speed: of the disk, bytes a second."""
    rows = []
    for title, step in CHOICES.items():
        cells = [f"{spoken(rates.seconds(step, n) / 3600)}; {rates.gigabytes(step, n):.2g} GB" for n in SIZES]
        rows.append([title, *cells])
    rows.append(["vectors on the disk", *(f"{n * VECTOR_BYTES / 1e12:.3g} TB" for n in SIZES)])
    rows.append(["reading them once", *(spoken(n * VECTOR_BYTES / speed / 3600) for n in SIZES)])
    return table(["one core", *(f"{n:,} rows" for n in SIZES)], rows)


def index(rates: Rates, assumed: Assumed) -> str:
    rows = [[
        f"{n:,}", f"{spoken(n / rates.listed / 3600)}", f"{n * rates.index_bytes / 1e9:.3g} GB",
        f"{BYTES_OF_A_RUN * n / 1e9:.3g} GB",
        f"${n * (VECTOR_BYTES + rates.index_bytes) / 2**30 * assumed.gib_dollars:,.0f}",
    ] for n in SIZES]  # fmt: skip
    return table(
        ["images", "listing by one process", "index", "memory of a run", "index and vectors in a bucket, a month"], rows
    )


def spoken(hours: float) -> str:
    """The unit that leaves a number one can picture."""
    for unit, size in (("s", 1 / 3600), ("min", 1 / 60), ("h", 1.0)):
        if hours < 90 * size:
            return f"{hours / size:.2g} {unit}"
    return f"{hours / 24:.2g} days"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    if "--check" in sys.argv:
        return int(PAGE.read_text() != text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    for f in fields(Assumed):
        parser.add_argument(
            f"--{f.name.replace('_', '-')}", type=type(f.default), default=f.default, help=f.metadata["says"]
        )
    given = vars(parser.parse_args())
    if given.pop("print"):
        print(text(Assumed(**given)))
        return 0
    PAGE.write_text(text())
    print(f"{PAGE.relative_to(ROOT)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
