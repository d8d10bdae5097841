"""`make bench`: the quick ratios of all measurements; fails where one misses its bound by more than the noise it measured.

OMP_NUM_THREADS=1 python -m benchmarks.bench [NAME ...]
"""

import importlib
import sys
import time

import torch

from benchmarks.side_by_side import Check, show

MODULES = ("selection", "scores", "clustering", "posthoc", "overhead", "frozen", "store")


def main(names: list[str]) -> int:
    torch.set_num_threads(1)
    unknown = set(names) - set(MODULES)
    if unknown:
        print(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    begun, found = time.monotonic(), list[Check]()
    for name in names or MODULES:
        print(f"{name}:", flush=True)
        checks = importlib.import_module(f"benchmarks.{name}").checks(quick=True)
        show(checks)
        found += checks
    missed = [check.name for check in found if not check.holds]
    print(
        f"{len(found)} numbers in {time.monotonic() - begun:.0f} s, {len(missed)} beyond their bounds {'; '.join(missed)}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
