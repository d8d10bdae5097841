"""Files beside the store: whole or not there, read without executing anything, and held by one process at a time."""

import contextlib
import errno
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

import mcdal.loop
from mcdal.artifacts import Artifacts
from mcdal.checkpoint import Checkpoint
from mcdal.errors import StoreError
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.strategies.random import Random
from mcdal.testing import fake_config, fake_trained
from mcdal.values import Rows
from mcdal.writing import write_atomically
from tests.runs import content
from tests.test_sqlite import open_folder, somebody_else  # noqa: F401

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and permissions are another matter here")


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Writing


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for text in (b"one", b"two"):
        write_atomically(path, text)
        assert path.read_bytes() == text
    assert files(tmp_path) == ["new/file"]


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def denied(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def stopped(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("broken", [(os, "fsync"), (Path, "replace"), (Path, "open")], ids=lambda b: b[1])
@pytest.mark.parametrize(
    ("fault", "raised", "words"),
    [
        (full, StoreError, r"cannot write .*file: No space left on device; nothing recorded is lost: make room"),
        (denied, StoreError, r"cannot write .*file: Permission denied; .* change permissions"),
        (stopped, KeyboardInterrupt, None),
    ],
    ids=["full", "denied", "stopped"],
)
def test_a_failed_write_leaves_the_old_content_and_nothing_beside(tmp_path, monkeypatch, broken, fault, raised, words):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(*broken, fault)
        with pytest.raises(raised, match=words):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == ["file"]


@contextlib.contextmanager
def no_file_larger_than(bytes):
    """As on a full disk: part of what is written arrives, the rest is refused."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@posix
@pytest.mark.parametrize("size", [50, 300_000], ids=["at its beginning", "in its middle"])
def test_a_state_or_a_model_that_the_disk_cannot_hold(tmp_path, size):
    """Both are written by libraries, which have errors of their own for it."""
    artifacts, model = Artifacts(tmp_path), fake_trained(Random()).model
    checkpoint = artifacts.checkpoint(0, 0.0)
    model.extra = torch.nn.Linear(400, 400)
    checkpoint.save({"step": 1})
    artifacts.write_model(0, model)
    before = (tmp_path / "round_000" / "model.safetensors").read_bytes()
    with no_file_larger_than(size):
        with pytest.raises(StoreError, match=r"cannot write .*training\.pt: File too large; nothing recorded is lost"):
            checkpoint.save({"step": 2, "model": model.state_dict()})
        with pytest.raises(
            StoreError, match=r"cannot write .*model\.safetensors: .*File too large.*; nothing recorded"
        ):
            artifacts.write_model(0, model)
    assert checkpoint.load() == {"step": 1}
    assert (tmp_path / "round_000" / "model.safetensors").read_bytes() == before
    assert files(tmp_path) == ["round_000/model.safetensors", "round_000/training.pt"]


def test_a_model_keeps_every_name_of_shared_memory(tmp_path):
    model = fake_trained(Random()).model
    whole = torch.arange(12.0)
    model.first, model.same = torch.nn.Parameter(whole), torch.nn.Parameter(whole)
    model.part, model.turned = torch.nn.Parameter(whole[4:6]), torch.nn.Parameter(whole.view(3, 4).T)
    model.empty, model.bare = torch.nn.Parameter(torch.empty(0)), torch.nn.Parameter(torch.empty(0))
    Artifacts(tmp_path).write_model(0, model)
    found = safetensors.torch.load_file(tmp_path / "round_000" / "model.safetensors")
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(StoreError, match=r"cannot write .*round_000.rows\.parquet"):
        Artifacts(tmp_path / "runs").write_rows(0, ROWS)
    with (
        pytest.raises(StoreError, match=r"cannot write to .*runs.r: .*give another --out"),
        Artifacts(tmp_path / "runs" / "r").only_process(),
    ):
        pass


def test_what_a_kill_left_half_written_is_swept(tmp_path):
    artifacts = Artifacts(tmp_path)
    artifacts.write_rows(0, ROWS)
    (tmp_path / "round_000" / "rows.parquet.99.part").write_bytes(b"half")
    artifacts.sweep()
    assert files(tmp_path) == ["round_000/rows.parquet"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    run(Plan(fake_config()), out, device="cpu")
    return content(out)


@pytest.mark.parametrize("name", ["training.pt", "rows.parquet", "gallery.parquet", "model.safetensors"])
def test_a_run_on_a_full_disk_is_continued_when_there_is_room(tmp_path, whole, monkeypatch, name):
    real, written = Path.replace, []

    def replace(self, target):
        written.append(target.name)
        if target.name == name and written.count(name) == 2:
            full()
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(StoreError, match=rf"round \d: cannot write .*{name}: No space left"):
            run(Plan(fake_config()), tmp_path, device="cpu")
    run(Plan(fake_config()), tmp_path, device="cpu")
    assert content(tmp_path) == whole
    assert not [name for name in files(tmp_path) if name.endswith(".part")]


# Rows and pictures

ROWS = Rows(("a", "b", "c"), np.array([True, False, False]), np.array([0.5, -1.0, np.inf], np.float32))


@pytest.mark.parametrize("folder", ["plain", "score=1", "with space", "100%41", "a#b?c", "bücher 图"])
def test_rows_and_pictures_come_back(tmp_path, folder):
    artifacts = Artifacts(tmp_path / folder)
    assert artifacts.read_rows(0) is None and artifacts.read_gallery(0) == {}
    artifacts.write_rows(0, ROWS)
    artifacts.write_rows(1, Rows(ROWS.ids, ROWS.labeled))
    artifacts.write_gallery(0, {"b": b"png b", "a": b"png a"})
    artifacts.write_gallery(1, {})
    found, bare = artifacts.read_rows(0), artifacts.read_rows(1)
    assert found.ids == bare.ids == ROWS.ids and bare.score is None
    np.testing.assert_array_equal(found.labeled, ROWS.labeled)
    np.testing.assert_array_equal(found.score, ROWS.score)
    assert list(artifacts.read_gallery(0).items()) == [("b", b"png b"), ("a", b"png a")]
    assert artifacts.read_gallery(1) == {}


def test_files_of_the_first_stores_are_read(tmp_path):
    """Without sums of their pages, and compressed otherwise."""
    folder = tmp_path / "round_000"
    folder.mkdir()
    pq.write_table(pa.table({"sample_id": ["a"], "labeled": [True], "score": [0.5]}), folder / "rows.parquet")
    pq.write_table(pa.table({"sample_id": ["a"], "png": [b"png"]}), folder / "gallery.parquet")
    assert Artifacts(tmp_path).read_rows(0).score.tolist() == [0.5]
    assert Artifacts(tmp_path).read_gallery(0) == {"a": b"png"}


def test_scores_and_which_were_picked_come_back(tmp_path):
    artifacts = Artifacts(tmp_path)
    assert artifacts.read_scores(0, ("b",)) is None
    artifacts.write_rows(0, ROWS, np.array([False, True, False]))
    artifacts.write_rows(1, ROWS)  # as the first stores did
    artifacts.write_rows(2, Rows(ROWS.ids, ROWS.labeled), np.array([False, True, False]))
    for round in (0, 1):
        found = artifacts.read_scores(round, ("b",))
        np.testing.assert_array_equal(found.score, ROWS.score)
        assert found.score.dtype == np.float32
        assert found.labeled.tolist() == [True, False, False] and found.picked.tolist() == [False, True, False]
    assert artifacts.read_scores(2, ("b",)) is None
    assert artifacts.read_rows(0).ids == artifacts.read_rows(2).ids == ROWS.ids


def test_rows_of_another_pool_have_their_own_ids(tmp_path):
    artifacts = Artifacts(tmp_path)
    for round, ids in enumerate((("a", "b", "c"), ("a", "b", "d"), ("a", "b", "c"))):
        artifacts.write_rows(round, replace(ROWS, ids=ids))
        assert artifacts.read_rows(round).ids == ids


DAMAGES = {
    "empty": lambda whole: b"",
    "another file": lambda whole: b"not what you think",
    "cut short": lambda whole: whole[: len(whole) // 2],
    "tail lost": lambda whole: whole[:-20],
    "zeros": lambda whole: whole[:20] + bytes(len(whole) - 40) + whole[-20:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_named(tmp_path, damage):
    artifacts = Artifacts(tmp_path)
    artifacts.write_rows(3, ROWS)
    artifacts.write_gallery(3, {"a": b"png"})
    scores = lambda round: artifacts.read_scores(round, ("a",))  # noqa: E731
    for name, read in (("rows", artifacts.read_rows), ("rows", scores), ("gallery", artifacts.read_gallery)):
        path = tmp_path / "round_003" / f"{name}.parquet"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(StoreError, match=rf"round_003.{name}\.parquet is damaged .*: restore it .* or remove it"):
            read(3)


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["a"]},
        {"sample_id": ["a"], "labeled": [1], "png": ["text"]},
        {"sample_id": ["a", None], "labeled": [True, False], "png": [b"1", b"2"]},
        {"sample_id": ["a"], "labeled": [True], "score": ["high"], "png": [None]},
    ],
)
def test_tables_of_something_else_are_named(tmp_path, columns):
    (tmp_path / "round_000").mkdir()
    for name in ("rows", "gallery"):
        pq.write_table(pa.table(columns), tmp_path / "round_000" / f"{name}.parquet")
    artifacts = Artifacts(tmp_path)
    for read in (artifacts.read_rows, lambda round: artifacts.read_scores(round, ("a",)), artifacts.read_gallery):
        with pytest.raises(StoreError, match=r"parquet is damaged"):
            read(0)


@posix
def test_files_that_may_not_be_read_are_not_called_damaged(open_folder):  # noqa: F811
    artifacts = Artifacts(open_folder)
    artifacts.write_rows(0, ROWS)
    artifacts.checkpoint(0, 0.0).save({"step": 1})
    for path in (open_folder / "round_000").iterdir():
        path.chmod(0)
    with somebody_else():
        for read in (lambda: artifacts.read_rows(0), artifacts.checkpoint(0, 0.0).load):
            with pytest.raises(StoreError, match=r"cannot read .*: Permission denied; change its permissions"):
                read()


# The state of a training


def saved(folder):
    checkpoint = Checkpoint(folder / "training.pt", 0.0)
    state = {"step": 3, "model": {"w": torch.arange(2000.0)}, "last_epoch": {"loss": 0.5}}
    checkpoint.save(state)
    return checkpoint, state


def test_a_state_comes_back(tmp_path):
    assert Checkpoint(tmp_path / "training.pt", 0.0).load() is None
    checkpoint, state = saved(tmp_path)
    found = checkpoint.load()
    assert torch.equal(found["model"].pop("w"), state["model"].pop("w"))
    assert found == state


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_named(tmp_path, damage):
    checkpoint, _ = saved(tmp_path)
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    with pytest.raises(StoreError, match=r"training\.pt is damaged .*: remove it, and the round is trained again"):
        checkpoint.load()


def test_no_flipped_bit_is_trained_on(tmp_path):
    checkpoint, state = saved(tmp_path)
    content, draws, found = checkpoint.path.read_bytes(), random.Random(0), 0
    for _ in range(100):
        flipped = bytearray(content)
        flipped[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        checkpoint.path.write_bytes(flipped)
        try:
            loaded = checkpoint.load()
        except StoreError:
            found += 1
        else:  # between the archive's parts are bytes that say nothing
            assert torch.equal(loaded["model"]["w"], state["model"]["w"]) and loaded["step"] == 3
    assert found > 80


class _Malicious:
    """Runs a command where it is unpickled carelessly."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_code_in_a_state_is_refused(tmp_path):
    path, trace = tmp_path / "training.pt", tmp_path / "trace"
    torch.save({"step": _Malicious(f"echo > '{trace}'")}, path)
    with zipfile.ZipFile(path) as archive:
        pickle.loads(archive.read("training/data.pkl"))  # careless
    assert trace.exists(), "the file does what it is for"
    trace.unlink()
    with pytest.raises(StoreError, match=r"training\.pt is damaged \(UnpicklingError\): remove it"):
        Checkpoint(path, 0.0).load()
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), "state"])
def test_what_is_no_state_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "training.pt")
    with pytest.raises(StoreError, match=r"training\.pt is damaged"):
        Checkpoint(tmp_path / "training.pt", 0.0).load()


def test_a_damaged_state_removed_is_the_same_run(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mcdal.loop, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(Plan(fake_config()), tmp_path, device="cpu")
    (path,) = tmp_path.rglob("training.pt")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"round 0: .*training\.pt is damaged"):
        run(Plan(fake_config()), tmp_path, device="cpu")
    path.unlink()
    run(Plan(fake_config()), tmp_path, device="cpu")
    assert content(tmp_path) == whole


# The lock


def _hold(folder, held, with_child):
    with Artifacts(folder).only_process():
        if with_child and os.fork() == 0:  # as a loader of images has
            time.sleep(30)
            os._exit(0)
        held.set()
        time.sleep(60)


@contextlib.contextmanager
def another_process(folder, with_child=False):
    """A process that holds the run of this folder."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    held = context.Event()
    process = context.Process(target=_hold, args=(folder, held, with_child))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: these do without them
        process.start()
    try:
        assert held.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


@posix
@pytest.mark.parametrize("with_child", [False, True], ids=["alone", "with a child"])
def test_a_killed_process_frees_its_run_at_once(tmp_path, with_child):
    artifacts = Artifacts(tmp_path)
    with another_process(tmp_path, with_child) as process:
        assert artifacts.held()
        with pytest.raises(StoreError, match="another process is working on"), artifacts.only_process():
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not artifacts.held()
        with artifacts.only_process():
            assert artifacts.held()
    assert not artifacts.held()


def test_asking_creates_nothing(tmp_path):
    assert not Artifacts(tmp_path / "nowhere").held()
    (tmp_path / "file").touch()
    assert not Artifacts(tmp_path / "file").held()
    assert files(tmp_path) == ["file"] and not (tmp_path / "nowhere").exists()


def test_asking_changes_nothing(tmp_path):
    artifacts = Artifacts(tmp_path)
    with artifacts.only_process():
        before = (tmp_path / "lock").stat()
        assert artifacts.held() and artifacts.held()
        assert (tmp_path / "lock").stat() == before
    assert not artifacts.held()
    assert (tmp_path / "lock").stat() == before


@posix
def test_who_only_asks_holds_up_nobody(tmp_path):
    """Neither others who ask, nor a process that begins in that instant."""
    import fcntl

    artifacts = Artifacts(tmp_path)
    with artifacts.only_process():
        pass
    asking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    assert not artifacts.held()
    threading.Timer(0.2, os.close, [asking]).start()
    with artifacts.only_process():
        assert artifacts.held()


@posix
def test_asking_where_nothing_can_be_written(open_folder):  # noqa: F811
    artifacts = Artifacts(open_folder)
    with artifacts.only_process():
        open_folder.chmod(0o555)
        with somebody_else():
            assert artifacts.held()
    with somebody_else():
        assert not artifacts.held()


def test_errors_of_the_work_are_not_called_errors_of_the_lock(tmp_path):
    with pytest.raises(FileNotFoundError, match="the images"), Artifacts(tmp_path).only_process():
        raise FileNotFoundError(errno.ENOENT, "the images")
    with pytest.raises(TimeoutError), Artifacts(tmp_path).only_process():
        raise TimeoutError
    assert not Artifacts(tmp_path).held()
