"""docs/speed.md, made of the results under benchmarks/results: `scripts/docs` writes it, a test looks whether it is current."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "results"
INTRODUCTION = """# How fast it is

Made by `scripts/docs` from the files under `benchmarks/results`; do not edit. Every figure is a ratio of two sides that took
turns in one process, unless it says otherwise: medians of process CPU time on one thread, with half the interquartile range as
its noise. A bound is what `mcdal` holds itself to; **missed** ones are told as they are. `make bench` repeats the quick ones.
`benchmarks/README.md` says what each script does and what was learned.
"""


def text() -> str:
    """The page."""
    results = [json.loads(path.read_text()) | {"file": path.name} for path in sorted(RESULTS.glob("*.json"))]
    return "\n".join([INTRODUCTION, *(section(result) for result in results if result.get("checks"))])


def section(result: dict[str, Any]) -> str:
    env = result["environment"]
    where = f"{result['machine']}; {env['device']}, {env['precision']}" if env["device"] != "cpu" else result["machine"]
    made = f"{result['date']}, commit {env['commit']}, torch {env['torch']}, {where}. `{result['command']}`"
    lines = [
        f"## {result['title']}",
        "",
        f"{made} ({result['file']})",
        "",
        "| what | measured | bound | |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(check) for check in result["checks"]), ""])


def row(check: dict[str, Any]) -> str:
    noise = f" ± {100 * check['noise']:.0f} %" if check["noise"] else ""
    bound = "" if check["bound"] is None else f"{check['must_be']} {check['bound']:g}"
    missed = "" if check["holds"] else "**missed** "
    return f"| {check['name']} | {check['value']:.3g} {check['unit']}{noise} | {bound} | {missed}{check['detail']} |"


def main() -> int:
    if "--check" in sys.argv:
        return int(PAGE.read_text() != text())
    PAGE.write_text(text())
    print(f"{PAGE.relative_to(ROOT)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
