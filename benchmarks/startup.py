"""What the command costs before it does anything: `mcdal --help` and `mcdal strategies` beside Python's own start.

Fresh processes that take turns, processor time of each and of what it starts; the first turn, which reads files from the disk,
does not count. A ratio is to a Python that imports typer, which reads the words a person types, and nothing of the package.
Importing torch takes seconds, so no command that only tells something may do it: modules are counted, not timed.

    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.startup
"""

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.side_by_side import Check, Seconds, check, run_alone

ROOT = Path(__file__).parents[1]
PYTHON, TYPER = "Python", "Python with typer"
BOUNDS = {"--help": (2.5, 0.3), "strategies": (5.0, 0.6)}
"""By command: what it may be of Python with typer, and CPU seconds beyond Python's own start."""
SIDES: dict[str, Sequence[str]] = {
    PYTHON: ("-c", "pass"),
    TYPER: ("-c", "import typer"),
    **{command: ("-m", "mcdal", command) for command in BOUNDS},
}
HEAVY = "torch", "scipy", "sklearn", "matplotlib", "pyarrow", "PIL"
AFTERWARDS = """
import sys
from mcdal.cli import main
sys.argv = ["mcdal", {command!r}]
try:
    main()
finally:
    print("imported", *({heavy!r} & sys.modules.keys()), file=sys.stderr)
"""


def fresh(words: Sequence[str]) -> str:
    """What a fresh Python with these words says on standard error. CalledProcessError where it fails."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths}
    ran = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=environment)
    return ran.stderr


def seconds_of(words: Sequence[str]) -> float:
    """CPU seconds of such a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    fresh(words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(command: str) -> list[str]:
    """Which of HEAVY the command has imported when it is done."""
    said = fresh(("-c", AFTERWARDS.format(command=command, heavy=set(HEAVY))))
    return said.splitlines()[-1].split()[1:]


def measured(repetitions: int) -> list[Check]:
    seconds: Seconds = {name: [] for name in SIDES}
    for repetition in range(1 + repetitions):
        for name, words in SIDES.items():
            taken = seconds_of(words)
            if repetition:
                seconds[name].append(taken)
    found = []
    for command, (times, beyond) in BOUNDS.items():
        found.append(check(f"mcdal {command} / {TYPER}", seconds, command, TYPER, "at most", times))
        own = statistics.median(seconds[command]) - statistics.median(seconds[PYTHON])
        found.append(Check(f"mcdal {command} beyond {PYTHON}'s start", own, beyond, "at most", unit="CPU s"))
        heavy = imported(command)
        told = f"of {', '.join(HEAVY)}: {', '.join(heavy) or 'none'}"
        found.append(Check(f"mcdal {command}: large packages imported", len(heavy), 0, "at most", unit="", detail=told))
    return found


def checks(quick: bool) -> list[Check]:
    """Quick: fewer turns."""
    return measured(7 if quick else 21)


if __name__ == "__main__":
    run_alone("startup", "The command's start", __doc__, checks)
