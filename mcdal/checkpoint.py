"""The state of a training under way, in a file that loads without executing anything."""

import io
import pickle
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from mcdal.errors import StoreError, TrainingError
from mcdal.writing import replaced


class Checkpoint:
    """The state of one training: tensors and plain values, in a file that loads without executing anything."""

    def __init__(self, path: Path, every_seconds: float):
        self.path = path
        self._every = every_seconds
        self._last = time.monotonic()
        self._loads = False  # whether a state was once made sure of

    def due(self) -> bool:
        """Whether `every_seconds` have passed since the last save. When it is saved does not change what is computed."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: dict[str, object]) -> None:
        with replaced(self.path) as beside:
            _save(state, beside)
            if not self._loads:
                _refuse_what_does_not_load(state, beside)
        self._loads = True
        self._last = time.monotonic()

    def load(self) -> dict[str, object] | None:
        """The state last saved, or None where there is none."""
        if not self.path.exists():
            return None
        try:
            _check_sums(self.path)
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise TypeError(f"a {type(state).__name__} is not a state")
        except PermissionError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror or error}; change its permissions") from error
        except Exception as error:  # whatever a reader of archives and pickles stumbles over
            raise StoreError(
                f"{self.path} is damaged ({type(error).__name__}): remove it, and the round is trained again from its start"
            ) from error
        return state


def packed(state: Mapping[str, object]) -> bytes:
    """The state as a file's content, which is made sure to load."""
    sink = io.BytesIO()
    torch.save(state, sink)
    _refuse_what_does_not_load(state, io.BytesIO(sink.getvalue()))
    return sink.getvalue()


def _save(state: Mapping[str, object], path: Path) -> None:
    """Straight into the file: a state is as large as the network and its optimizer, and need not be in memory once more."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # On a full disk PyTorch still tries to end the archive, and speaks of that alone.
            if not isinstance(error.__context__, OSError):
                raise
            raise OSError(error.__context__.errno, error.__context__.strerror) from error


def _refuse_what_does_not_load(state: Mapping[str, object], written: Path | io.BytesIO) -> None:
    """Before anybody relies on it."""
    if _loads(written):
        return
    parts = state.get("strategy")
    parts = parts if isinstance(parts, Mapping) else {}
    named = [name for name, part in parts.items() if not _loads(_saved(part))]
    raise TrainingError(
        f"the strategy's state {', '.join(map(repr, named))} holds what a checkpoint cannot load again: "
        "let its state_dict() give tensors, numbers and text alone (no numpy values)"
    )


def _saved(value: object) -> io.BytesIO:
    sink = io.BytesIO()
    torch.save(value, sink)
    sink.seek(0)
    return sink


def _loads(written: Path | io.BytesIO) -> bool:
    try:
        torch.load(written, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return False
    return True


def _check_sums(path: Path) -> None:
    """PyTorch reads a file with flipped bits without a word, though it keeps the sums that would tell."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(f"{bad} is not what was written")
