"""docs/speed.md, made of the results under benchmarks/results: `scripts/docs` writes it, a test looks whether it is current."""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE, RESULTS, README = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "results", ROOT / "benchmarks" / "README.md"
INTRODUCTION = """# How fast it is

Made by `scripts/docs` from the files under `benchmarks/results`; do not edit. Every figure is a ratio of two sides that took
turns in one process, unless it says otherwise: medians of process CPU time on one thread, with half the interquartile range as
its noise. A bound is what `mcdal` holds itself to; **missed** ones are told as they are. `make bench` repeats the quick ones.
`benchmarks/README.md` says what each script does and what was learned.
"""


VERSIONS = "torch", "numpy", "scikit-learn", "scikit-activeml"
"""What a figure here may depend on, where a result names it."""


def text() -> str:
    """The page."""
    results = [json.loads(path.read_text()) | {"file": path.name} for path in sorted(RESULTS.glob("*.json"))]
    judged = [section(result) for result in results if result.get("checks")]
    return "\n".join([INTRODUCTION, *judged, others([result for result in results if not result.get("checks")])])


def section(result: dict[str, Any]) -> str:
    lines = [
        f"## {result['title']}",
        "",
        f"{made(result)}. `{result['command']}` ({result['file']})",
        "",
        "| what | measured | bound | |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(check) for check in result["checks"]), ""])


def made(result: dict[str, Any]) -> str:
    """When, with what and where, as far as the result says."""
    env = {**result, **result.get("environment", {})}
    commit = [f"commit {env['commit'][:12]}{'+' * env['commit'].endswith('+')}"] if "commit" in env else []
    versions = [f"{name} {env[name]}" for name in VERSIONS if name in env]
    where = [result[name] for name in ("machine", "cpu") if name in result]
    if env.get("device", "cpu") != "cpu":
        where.append(f"{env['device']}, {env['precision']}")
    return ", ".join([result["date"][:10], *commit, *versions, *(["; ".join(where)] if where else [])])


def others(results: list[dict[str, Any]]) -> str:
    """What results hold that are no ratios with a bound, in the words of benchmarks/README.md's table."""
    about = described()
    lines = [
        "## Results of another kind",
        "",
        "No ratio with a bound is in them; `benchmarks/README.md` tells what they say.",
        "",
    ]
    lines += ["| file | what it holds | made by |", "|---|---|---|"]
    for result in results:
        command = f" `{result['command']}`" if "command" in result else ""
        if result["file"] not in about:
            raise ValueError(
                f"{result['file']} has no row in the first table of benchmarks/README.md: say there what it holds"
            )
        lines.append(f"| {result['file']} | {about[result['file']]} | {made(result)}.{command} |")
    return "\n".join([*lines, ""])


def described() -> dict[str, str]:
    """By file: what the first table of benchmarks/README.md says that it holds."""
    found = {}
    for line in README.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 3:
            found |= dict.fromkeys(re.findall(r"`results/([\w]+\.json)`", cells[2]), cells[1])
    return found


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
