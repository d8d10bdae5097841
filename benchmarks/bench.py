"""`make bench`: the quick ratios of all measurements; fails where one misses its bound by more than the noise it measured.

A bound that the committed result of the same name misses too is told as known; it fails where it has become worse. Noise excuses
15 % at most (`side_by_side.NOISE`): a measurement with a number that is too noisy to tell is made once more, and then counts.

OMP_NUM_THREADS=1 python -m benchmarks.bench [NAME ...]
"""

import importlib
import json
import sys
import time

import torch

from benchmarks.side_by_side import NOISE, RESULTS, Check, show

SLACK = 0.1
MODULES = (
    "selection",
    "scores",
    "choices",
    "clustering",
    "posthoc",
    "overhead",
    "original_loop",
    "frozen",
    "store",
    "startup",
)


def main(names: list[str]) -> int:
    torch.set_num_threads(1)
    unknown = set(names) - set(MODULES)
    if unknown:
        print(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    begun, found = time.monotonic(), list[Check]()
    for name in names or MODULES:
        print(f"{name}:", flush=True)
        since = time.monotonic()
        found += measured(name)
        print(f"     {name} took {time.monotonic() - since:.0f} s", flush=True)
    missed = [check for check in found if not check.holds]
    known = landed()
    failed = [check for check in missed if not as_landed(check, known.get(check.name))]
    print(f"{len(found)} numbers in {time.monotonic() - begun:.0f} s, {len(missed)} beyond their bounds")
    print(*(f"known: {check.name}" for check in missed if check not in failed), sep="\n")
    for check in failed:
        print(f"FAILED: {check.name}" + f", too noisy to tell: ±{100 * check.noise:.0f} %" * check.too_noisy)
    return 1 if failed else 0


def measured(name: str) -> list[Check]:
    """The quick checks of a module; once more where one is too noisy to tell, and what is then found counts."""
    module = importlib.import_module(f"benchmarks.{name}")
    checks: list[Check] = module.checks(quick=True)
    show(checks)
    if any(check.too_noisy for check in checks):
        print("once more, since it was too noisy to tell:", flush=True)
        checks = module.checks(quick=True)
        show(checks)
    return checks


def landed() -> dict[str, Check]:
    """The committed checks by name, of those that have a bound."""
    files = (json.loads(path.read_text()) for path in RESULTS.glob("*.json"))
    fields = Check.__dataclass_fields__
    checks = (Check(**{k: v for k, v in c.items() if k in fields}) for file in files for c in file.get("checks", []))
    return {check.name: check for check in checks if check.bound is not None}


def as_landed(check: Check, before: Check | None) -> bool:
    """Whether the committed value misses the bound too, and this one is no worse by more than noise."""
    if before is None or before.met:
        return False
    worse = check.value / before.value if check.must_be == "at most" else before.value / check.value
    return worse <= 1 + max(min(max(check.noise, before.noise), NOISE), SLACK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
