"""Two processes, a killed process, a full disk, and damaged entries."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import layouts
import numpy as np
import pytest

from mcdal.errors import PoolError
from mcdal.pool import cache as caches
from mcdal.pool.folder import Folder

ROOT = Path(__file__).parents[2]
# Opens a folder and prints each report; at the word "stop" it waits there to be killed.
OPEN = """
import json, sys, time
from pathlib import Path
from mcdal.pool.folder import Folder

def listen(kind, **fields):
    print(json.dumps(fields), flush=True)
    if "stop" in sys.argv and fields["done"] >= 500:
        time.sleep(600)

pool = Folder(Path(sys.argv[1]), workers=0).open(Path(sys.argv[2]), listen)
print(json.dumps({"fingerprint": pool.fingerprint, "sum": int(pool.images.pixels.sum(dtype="int64"))}), flush=True)
"""


def start(folder: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(folder), str(cache), *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return layouts.class_folders(tmp_path / "pets", each=300)


def test_a_killed_process_leaves_nothing_that_is_used(many: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    victim = start(many, cache, "stop")
    assert victim.stdout is not None
    reports = [json.loads(victim.stdout.readline()) for _ in range(2)]
    assert reports[1]["done"] == 500
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    (left_over,) = cache.glob("*.tmp-*")
    assert (left_over / "pixels.npy").exists()
    pool = Folder(many).open(cache)
    assert np.array_equal(pool.images.picture(0), layouts.noise(int(pool.images.ids[0][4:7]), 8, 8, 3))
    assert not list(cache.glob("*.tmp-*"))


def test_two_processes_at_once_decode_once_and_agree(many: Path, tmp_path: Path) -> None:
    both = [start(many, tmp_path / "cache") for _ in range(2)]
    said = [[json.loads(line) for line in process.communicate()[0].splitlines()] for process in both]
    assert said[0][-1] == said[1][-1]
    decoding = [any("decoding" in report.get("what", "") for report in reports) for reports in said]
    assert sorted(decoding) == [False, True]


def test_the_second_opening_decodes_nothing(many: Path, tmp_path: Path) -> None:
    reports: list[dict[str, object]] = []

    def listen(kind: str, **fields: object) -> None:
        reports.append(fields)

    first = Folder(many).open(tmp_path / "cache", listen)
    assert reports[-1]["done"] == reports[-1]["total"] == 600
    reports.clear()
    second = Folder(many).open(tmp_path / "cache", listen)
    assert not reports
    assert second.fingerprint == first.fingerprint and second.mean == first.mean
    (many / "cat" / "000.png").write_bytes(layouts.encoded(layouts.noise(5, 8, 8, 3)))
    Folder(many).open(tmp_path / "cache", listen)
    assert reports


@pytest.mark.parametrize("damage", ["cut", "remove pixels", "remove index", "cut index"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    Folder(folder).open(tmp_path / "cache")
    (pixels,) = (tmp_path / "cache").glob("*/pixels.npy")
    index = pixels.parent / caches.INDEX
    if damage == "cut":
        os.truncate(pixels, 200)
    elif damage == "cut index":
        os.truncate(index, 10)
    else:
        (pixels if damage == "remove pixels" else index).unlink()
    pool = Folder(folder).open(tmp_path / "cache")
    assert pool.images.picture(0).shape == (8, 8, 3)


def test_what_is_read_is_never_written_back(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    pool = Folder(folder).open(tmp_path / "cache")
    before = pool.images.picture(0)
    pool.images.pixels[0] = 0  # type: ignore[attr-defined]
    assert np.array_equal(Folder(folder).open(tmp_path / "cache").images.picture(0), before)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 10,000 bytes: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_that_names_the_folder(many: Path, tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(PoolError, match=f"cannot write the image cache in {tmp_path / 'cache'}: File too large"):
        Folder(many).open(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.tmp-*"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(PoolError, match=r"cannot write the image cache in .*cache"):
        Folder(layouts.class_folders(tmp_path / "pets")).open(tmp_path / "cache")


def test_a_read_only_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    first = Folder(folder).open(tmp_path / "cache")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caches.FileLock, "acquire", refuse)
    assert Folder(folder).open(tmp_path / "cache").fingerprint == first.fingerprint
    with pytest.raises(PoolError, match="Permission denied"):
        Folder(folder, size=4).open(tmp_path / "cache")


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caches.entry(tmp_path, "key", interrupted)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
