"""Files beside the store, one folder a run: written whole or not at all, read without executing anything."""

import contextlib
import io
import os
import pickle
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from filelock import FileLock, Timeout

from mcdal.errors import StoreError, TrainingError
from mcdal.locks import is_locked
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
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; nothing recorded is lost: make room or change permissions, "
            "then run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A power cut may undo a renaming that only the memory knows of, and the store would then speak of a missing file."""
    if sys.platform == "win32":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror or error}; change its permissions") from error


class Artifacts:
    """What a run keeps in files: the state of a training under way, and each round's model, measured rows and pictures."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def only_process(self) -> Iterator[None]:
        """Holds the run. The lock dies with its process, so a killed run can be continued at once."""
        # The second is for those who only ask whether it is held: they take it for an instant.
        lock = FileLock(self.folder / "lock", timeout=1)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"another process is working on {self.folder.name}: wait for it, or end it first"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error.strerror or error}; give another --out") from error
        try:
            yield
        finally:
            lock.release()

    def held(self) -> bool:
        """Whether some process is working on the run now. Creates nothing and disturbs nobody."""
        return is_locked(self.folder / "lock")

    def sweep(self) -> None:
        """Removes what killed processes left half written. Only for the process that holds the run."""
        for part in self.folder.rglob("*.part"):
            _remove(part)

    def write_model(self, round: int, model: Model) -> None:
        """The trained model as safetensors: for this project and for anybody else's."""
        # Cloned, since a network may hold one layer under two names, and the format refuses shared memory.
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        write_atomically(self._round(round) / "model.safetensors", safetensors.torch.save(tensors))

    def write_rows(self, round: int, rows: Rows) -> None:
        """What was measured to select this round's picks: id, labeled, score (vectors are not kept)."""
        columns: dict[str, Any] = {"sample_id": list(rows.ids), "labeled": rows.labeled}
        if rows.score is not None:
            columns["score"] = rows.score
        write_atomically(self._rows(round), _parquet(columns))

    def read_rows(self, round: int) -> Rows | None:
        """The rows that `write_rows` kept, or None."""
        path = self._rows(round)
        with _damage_named(path, "the round then shows no scores"):
            table = _table(path)
            if table is None:
                return None
            ids, labeled = _column(table, "sample_id", pa.string()), _column(table, "labeled", pa.bool_())
            score = None
            if "score" in table.column_names:
                score = _column(table, "score", pa.float32(), pa.float64()).to_numpy()
            return Rows(tuple(ids.to_pylist()), labeled.to_numpy(), score)

    def write_gallery(self, round: int, pictures: Mapping[str, bytes]) -> None:
        """PNG pictures of some of the round's picks by id, most wanted first, so that a report needs no data set."""
        columns = {"sample_id": pa.array(pictures, pa.string()), "png": pa.array(pictures.values(), pa.binary())}
        write_atomically(self._gallery(round), _parquet(columns))

    def read_gallery(self, round: int) -> dict[str, bytes]:
        """The pictures that `write_gallery` kept; empty where there are none."""
        path = self._gallery(round)
        with _damage_named(path, "the round then shows no pictures"):
            table = _table(path)
            if table is None:
                return {}
            ids, pictures = _column(table, "sample_id", pa.string()), _column(table, "png", pa.binary())
            return dict(zip(ids.to_pylist(), pictures.to_pylist(), strict=True))

    def checkpoint(self, round: int, every_seconds: float) -> "Checkpoint":
        """Where the training of a round keeps its state."""
        return Checkpoint(self._round(round) / "training.pt", every_seconds)

    def forget_training(self, before: int) -> None:
        """Removes training states of earlier rounds: only the newest is ever needed again."""
        for round in range(before):
            _remove(self._round(round) / "training.pt")

    def _rows(self, round: int) -> Path:
        return self._round(round) / "rows.parquet"

    def _gallery(self, round: int) -> Path:
        return self._round(round) / "gallery.parquet"

    def _round(self, round: int) -> Path:
        return self.folder / f"round_{round:03d}"


def _parquet(columns: Mapping[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def _table(path: Path) -> pa.Table | None:
    """The table, or None where there is no file. Read from its bytes: by path, folders such as `lr=0.1` become columns."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()


def _column(table: pa.Table, name: str, *types: pa.DataType) -> pa.ChunkedArray:
    """The column, if it is of one of the types and without gaps."""
    column = table[name]
    if column.type not in types or column.null_count:
        raise ValueError(f"{name} is {column.type} with {column.null_count} gaps")
    return column


@contextmanager
def _damage_named(path: Path, without: str) -> Iterator[None]:
    """What cannot be read as a StoreError that names the file."""
    try:
        yield
    except PermissionError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; change its permissions") from error
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}): restore it from a backup, or remove it; {without}"
        ) from error


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
        content = packed(state, check=not self._loads)
        self._loads = True
        write_atomically(self.path, content)
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


def packed(state: Mapping[str, object], check: bool) -> bytes:
    """The state as a file's content. check: makes sure that it can be loaded, before anybody relies on it."""
    content = _saved(state)
    if check and not _loads(content):
        parts = state.get("strategy")
        parts = parts if isinstance(parts, Mapping) else {}
        named = [name for name, part in parts.items() if not _loads(_saved(part))]
        raise TrainingError(
            f"the strategy's state {', '.join(map(repr, named))} holds what a checkpoint cannot load again: "
            "let its state_dict() give tensors, numbers and text alone (no numpy values)"
        )
    return content


def _saved(value: object) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


def _loads(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return False
    return True


def _check_sums(path: Path) -> None:
    """PyTorch reads a file with flipped bits without a word, though it keeps the sums that would tell."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(f"{bad} is not what was written")
