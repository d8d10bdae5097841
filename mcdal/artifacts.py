"""Files beside the store, one folder a run: written whole or not at all, read without executing anything."""

import contextlib
import io
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from filelock import FileLock, Timeout

from mcdal.errors import StoreError
from mcdal.models.base import Model
from mcdal.values import Rows


def write_atomically(path: Path, content: bytes) -> None:
    """The file has its old content or the new one, whatever happens: written beside it, synced, then renamed."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror}; nothing recorded is lost: make room or change permissions, "
            "then run the same command again"
        ) from error


class Artifacts:
    """What a run keeps in files: the state of a training under way, the last model, and the measured rows of each round."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def only_process(self) -> Iterator[None]:
        """Holds the run. The lock dies with its process, so a killed run can be continued at once."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock", timeout=0)
            with lock:
                yield
        except Timeout:
            raise StoreError(
                f"another process is working on {self.folder.name}: wait for it, or end it first"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error.strerror}; give another --out") from error

    def held(self) -> bool:
        """Whether some process is working on the run now."""
        if not (self.folder / "lock").exists():
            return False
        try:
            with FileLock(self.folder / "lock", timeout=0):
                return False
        except Timeout:
            return True

    def sweep(self) -> None:
        """Removes what killed processes left half written. Only for the process that holds the run."""
        for part in self.folder.rglob("*.part"):
            part.unlink(missing_ok=True)

    def write_model(self, round: int, model: Model) -> None:
        """The trained model as safetensors: for this project and for anybody else's."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        write_atomically(self._round(round) / "model.safetensors", safetensors.torch.save(tensors))

    def write_rows(self, round: int, rows: Rows) -> None:
        """What was measured to select this round's picks: id, labeled, score (vectors are not kept)."""
        columns: dict[str, Any] = {"sample_id": list(rows.ids), "labeled": rows.labeled}
        if rows.score is not None:
            columns["score"] = rows.score
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, compression="zstd")
        write_atomically(self._round(round) / "rows.parquet", sink.getvalue())

    def read_rows(self, round: int) -> Rows | None:
        """The rows that `write_rows` kept, or None."""
        path = self._round(round) / "rows.parquet"
        if not path.exists():
            return None
        table = pq.read_table(path)
        score = table["score"].to_numpy() if "score" in table.column_names else None
        return Rows(tuple(table["sample_id"].to_pylist()), np.asarray(table["labeled"]), score)

    def write_gallery(self, round: int, pictures: Mapping[str, bytes]) -> None:
        """PNG pictures of some of the round's picks by id, most wanted first, so that a report needs no data set."""
        sink = io.BytesIO()
        pq.write_table(pa.table({"sample_id": list(pictures), "png": list(pictures.values())}), sink)
        write_atomically(self._round(round) / "gallery.parquet", sink.getvalue())

    def read_gallery(self, round: int) -> dict[str, bytes]:
        """The pictures that `write_gallery` kept; empty where there are none."""
        path = self._round(round) / "gallery.parquet"
        if not path.exists():
            return {}
        table = pq.read_table(path)
        return dict(zip(table["sample_id"].to_pylist(), table["png"].to_pylist(), strict=True))

    def checkpoint(self, round: int, every_seconds: float) -> "Checkpoint":
        """Where the training of a round keeps its state."""
        return Checkpoint(self._round(round) / "training.pt", every_seconds)

    def forget_training(self, before: int) -> None:
        """Removes training states of earlier rounds: only the newest is ever needed again."""
        for round in range(before):
            (self._round(round) / "training.pt").unlink(missing_ok=True)

    def _round(self, round: int) -> Path:
        return self.folder / f"round_{round:03d}"


class Checkpoint:
    """The state of one training: tensors and plain values, in a file that loads without executing anything."""

    def __init__(self, path: Path, every_seconds: float):
        self.path = path
        self._every = every_seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether `every_seconds` have passed since the last save. When it is saved does not change what is computed."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: dict[str, object]) -> None:
        sink = io.BytesIO()
        torch.save(state, sink)
        write_atomically(self.path, sink.getvalue())
        self._last = time.monotonic()

    def load(self) -> dict[str, object] | None:
        """The state last saved, or None where there is none."""
        if not self.path.exists():
            return None
        try:
            state: dict[str, object] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise StoreError(
                f"{self.path} is damaged ({type(error).__name__}): remove it, and the round is trained again from its start"
            ) from error
        return state
