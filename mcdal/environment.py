"""What a result was computed with: recorded with every session, compared when a run is continued."""

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mcdal.device import Numerics
from mcdal.version import __version__

# A difference in one of these can change the last bits of a float, and with them a pick.
DECISIVE = (
    "mcdal",
    "commit",
    "torch",
    "device",
    "precision",
    "channels_last",
    "compile",
    "threads",
    "processes",
    "trained_on",
    "cpu",
)
HERE = "this machine"
"""Where a training is made that nobody has sent elsewhere."""


def environment(numerics: Numerics, processes: int = 1, trained_on: str = HERE) -> dict[str, str]:
    """Versions, commit, device and arithmetic of this process. processes: that train together. trained_on: where they do."""
    gpu = torch.cuda.get_device_name(numerics.device) if numerics.device.type == "cuda" else None
    return {
        "mcdal": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "torchvision", "timm")},
        "device": gpu or str(numerics.device),
        "precision": numerics.precision,
        "channels_last": str(numerics.channels_last),
        "compile": str(numerics.compile),
        "threads": str(torch.get_num_threads()),
        "processes": str(processes),
        "trained_on": trained_on,
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "host": platform.node(),
        "system": platform.platform(),
    }


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed that may change last bits, in words."""
    before = {"trained_on": HERE, **before}  # nothing else was possible before it was recorded
    return [f"{key} {before[key]} -> {now[key]}" for key in DECISIVE if key in before and before[key] != now[key]]


def commit() -> str:
    """The commit of the checkout that this package runs from, with "+" where files differ from it; "none" outside a checkout."""
    here = Path(__file__).parent
    try:
        # Installed below somebody's own checkout, this package is not part of it.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, timeout=10, check=True
        )
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "none"
    return said.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
