"""Files beside the store, one folder a run: written whole or not at all, read without executing anything."""

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from jaxtyping import Bool, Float
from safetensors import SafetensorError

from mcdal.checkpoint import Checkpoint
from mcdal.errors import HeldError, StoreError
from mcdal.inputs import Inputs
from mcdal.locks import is_locked
from mcdal.models.base import Model
from mcdal.pictures import Heat, Scene
from mcdal.tensors import write_tensors
from mcdal.values import Ids, Rows
from mcdal.writing import write_atomically


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror or error}; change its permissions") from error


@dataclass(frozen=True)
class Scored:
    """The scores that a round picked from, one a row of the pool."""

    score: Float[np.ndarray, " n"]
    labeled: Bool[np.ndarray, " n"]
    picked: Bool[np.ndarray, " n"]


class Artifacts:
    """What a run keeps in files: the state of a training under way, and each round's model, measured rows and pictures."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._column: tuple[Ids, pa.Array] | None = None  # the ids of a run's pool, which every round writes

    @contextmanager
    def only_process(self) -> Iterator[None]:
        """Holds the run. The lock dies with its process, so a killed run can be continued at once."""
        # The second is for those who only ask whether it is held: they take it for an instant.
        lock = FileLock(self.folder / "lock", timeout=1)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise HeldError(f"another process is working on {self.folder.name}: wait for it, or end it first") from None
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

    def write_model(self, round: int, model: Model, inputs: Inputs | None = None) -> None:
        """The trained model as safetensors: for this project and for anybody else's. inputs: what it is given."""
        about = {} if inputs is None else inputs.to_text()
        write_tensors(self._round(round) / "model.safetensors", model.state_dict(), about)

    def read_model(self, round: int) -> dict[str, torch.Tensor] | None:
        """The weights that `write_model` kept, or None."""
        path = self._round(round) / "model.safetensors"
        if not path.exists():
            return None
        with _damage_named(path, "the round is then trained again"):
            return safetensors.torch.load_file(path)

    def read_inputs(self, round: int) -> Inputs | None:
        """What the model of a round is given; None where there is no model, or none that said so."""
        path = self._round(round) / "model.safetensors"
        if not path.exists():
            return None
        with _damage_named(path, "the round is then trained again"), safetensors.safe_open(path, "pt") as file:
            return Inputs.from_text(file.metadata() or {})

    def write_rows(self, round: int, rows: Rows, picked: Bool[np.ndarray, " n"] | None = None) -> None:
        """What was measured to select this round's picks: id, labeled, score, and which were picked (vectors are not kept)."""
        if self._column is None or self._column[0] is not rows.ids:
            self._column = rows.ids, pa.array(rows.ids, pa.string())
        columns: dict[str, Any] = {"sample_id": self._column[1], "labeled": rows.labeled}
        columns |= {name: c for name, c in (("score", rows.score), ("picked", picked)) if c is not None}
        write_atomically(self._rows(round), _parquet(columns))

    def read_rows(self, round: int) -> Rows | None:
        """The rows that `write_rows` kept, or None."""
        path = self._rows(round)
        with _damage_named(path, "the round then shows no scores"):
            table = _table(path)
            if table is None:
                return None
            ids = _column(table, "sample_id", pa.string())
            return Rows(tuple(ids.to_pylist()), _flags(table, "labeled"), _score(table))

    def read_scores(self, round: int, picks: Sequence[str]) -> Scored | None:
        """The scores of the rows that `write_rows` kept, or None where there are none.

        picks: the round's; only looked for among the rows where these do not tell which were picked, as those of the first
        stores do not. Ids are not read otherwise: they are most of the file, and the same in each round.
        """
        path = self._rows(round)
        with _damage_named(path, "the round then shows no scores"):
            table = _table(path, without="sample_id", where="picked")
            if table is None:
                return None
            if "picked" in table.column_names:
                picked = _flags(table, "picked")
            else:
                ids = _column(table, "sample_id", pa.string())
                picked = pc.is_in(ids, value_set=pa.array(picks, pa.string())).to_numpy()
            labeled, score = _flags(table, "labeled"), _score(table)
            return None if score is None else Scored(score, labeled, picked)

    def write_gallery(self, round: int, pictures: Mapping[str, bytes]) -> None:
        """PNG pictures of some of the round's picks by id, most wanted first, so that a report needs no data set."""
        write_atomically(self._gallery(round), _parquet(_pictures(pictures)))

    def read_gallery(self, round: int) -> dict[str, bytes]:
        """The pictures that `write_gallery` kept; empty where there are none."""
        path = self._gallery(round)
        with _damage_named(path, "the round then shows no pictures"):
            return dict(zip(*_lists(path, "sample_id", "png"), strict=True))

    def write_heat(self, round: int, heat: Heat) -> None:
        """Where in the pictures of `write_gallery` the strategy saw what it picked by."""
        n = len(heat.pictures)
        scale = {"low": pa.array([heat.low] * n, pa.float64()), "high": pa.array([heat.high] * n, pa.float64())}
        write_atomically(self._round(round) / "heat.parquet", _parquet({**_pictures(heat.pictures), **scale}))

    def read_heat(self, round: int) -> Heat | None:
        """What `write_heat` kept, or None."""
        path = self._round(round) / "heat.parquet"
        with _damage_named(path, "the round then shows no heat"):
            ids, pictures, low, high = _lists(path, "sample_id", "png", "low", "high")
            return Heat(dict(zip(ids, pictures, strict=True)), low[0], high[0]) if ids else None

    def write_scenes(self, scenes: Mapping[str, Scene]) -> None:
        """Test images with their true masks, the same in every round."""
        views = {"image": [s.image for s in scenes.values()], "truth": [s.truth for s in scenes.values()]}
        columns = {"sample_id": pa.array(scenes, pa.string())} | {k: pa.array(v, pa.binary()) for k, v in views.items()}
        write_atomically(self.folder / "scenes.parquet", _parquet(columns))

    def read_scenes(self) -> dict[str, Scene]:
        """What `write_scenes` kept; empty where there is nothing."""
        path = self.folder / "scenes.parquet"
        with _damage_named(path, "the run then shows no predicted masks"):
            ids, *views = _lists(path, "sample_id", "image", "truth")
            return dict(zip(ids, map(Scene, *views), strict=True))

    def write_predictions(self, round: int, masks: Mapping[str, bytes]) -> None:
        """PNG masks that the round's model predicts of the scenes, by id."""
        write_atomically(self._round(round) / "predictions.parquet", _parquet(_pictures(masks)))

    def read_predictions(self, round: int) -> dict[str, bytes]:
        """What `write_predictions` kept; empty where there is nothing."""
        path = self._round(round) / "predictions.parquet"
        with _damage_named(path, "the round then shows no predicted masks"):
            return dict(zip(*_lists(path, "sample_id", "png"), strict=True))

    def pass_folder(self, round: int, name: str) -> Path:
        """Where a pass over a pool in shards keeps what it has measured, until the round is recorded."""
        return self._round(round) / f"pass_{name}"

    def forget_passes(self, round: int) -> None:
        """Removes what a round's passes have measured: vectors may be larger than all the rest."""
        for folder in self._round(round).glob("pass_*"):
            shutil.rmtree(folder, ignore_errors=True)

    def checkpoint(self, round: int, every_seconds: float) -> Checkpoint:
        """Where the training of a round keeps its state."""
        return Checkpoint(self._round(round) / "training.pt", every_seconds)

    def has_training(self, round: int) -> bool:
        """Whether the training of a round has kept a state."""
        return (self._round(round) / "training.pt").exists()

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
    # Without dictionaries of values that hardly repeat: looking for repetitions takes longer than writing them.
    pq.write_table(pa.table(columns), sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    return sink.getvalue()


def _table(path: Path, without: str = "", where: str = "") -> pa.Table | None:
    """The table, or None where there is no file; the column `without` is left out where there is a column `where`.

    Read from its bytes: by path, folders such as `lr=0.1` become columns.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    names = file.schema_arrow.names
    return file.read([name for name in names if name != without or where not in names])


def _pictures(pictures: Mapping[str, bytes]) -> dict[str, pa.Array]:
    return {"sample_id": pa.array(pictures, pa.string()), "png": pa.array(pictures.values(), pa.binary())}


def _lists(path: Path, *names: str) -> list[list[Any]]:
    """Columns of pictures and what is said of them; empty ones where there is no file."""
    table, types = _table(path), {"sample_id": pa.string(), "low": pa.float64(), "high": pa.float64()}
    if table is None:
        return [[] for _ in names]
    return [_column(table, name, types.get(name, pa.binary())).to_pylist() for name in names]


def _column(table: pa.Table, name: str, *types: pa.DataType) -> pa.ChunkedArray:
    """The column, if it is of one of the types and without gaps."""
    column = table[name]
    if column.type not in types or column.null_count:
        raise ValueError(f"{name} is {column.type} with {column.null_count} gaps")
    return column


def _flags(table: pa.Table, name: str) -> Bool[np.ndarray, " n"]:
    flags: Bool[np.ndarray, " n"] = _column(table, name, pa.bool_()).to_numpy()
    return flags


def _score(table: pa.Table) -> Float[np.ndarray, " n"] | None:
    return _column(table, "score", pa.float32(), pa.float64()).to_numpy() if "score" in table.column_names else None


@contextmanager
def _damage_named(path: Path, without: str) -> Iterator[None]:
    """What cannot be read as a StoreError that names the file."""
    try:
        yield
    except PermissionError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; change its permissions") from error
    except (OSError, ValueError, KeyError, pa.ArrowException, SafetensorError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}): restore it from a backup, or remove it; {without}"
        ) from error
