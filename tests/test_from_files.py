"""`mcdal select`: files in, joined by id, picks out."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from mcdal.cli import app
from mcdal.errors import McdalError
from mcdal.from_files import named, select_from_files
from mcdal.outputs import select_from
from mcdal.strategies.typiclust import TypiClust

IDS = np.array([f"img/{i:02d}.png" for i in np.random.default_rng(5).permutation(40)])


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "probabilities": random.dirichlet(np.ones(3), 40).astype("f4"),
        "features": random.normal(size=(40, 5)).astype("f4"),
        "labeled": np.arange(40) % 4 == 0,
        "labels": np.where(np.arange(40) % 4 == 0, np.arange(40) % 3, -1),
    }


@pytest.fixture
def folder(tmp_path, arrays, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "ids.npy", IDS)
    return tmp_path


def call(*words):
    result = CliRunner().invoke(app, ["select", *map(str, words)])
    if isinstance(result.exception, McdalError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def read(path):
    header, *lines = path.read_text().splitlines()
    assert header == "id,rank,score"
    rows = [line.rsplit(",", 2) for line in lines]
    assert [int(rank) for _, rank, _ in rows] == list(range(len(rows)))
    return tuple(id for id, _, _ in rows), [float(score) for _, _, score in rows]


BADGE = ["--strategy", "badge", "--budget", "6", "--probabilities", "probabilities.npy", "--features", "features.npy"]


def test_the_command_of_the_readme(folder, arrays):
    result = call(*BADGE, "--labeled", "labeled.npy", "--out", "picks.csv")
    del arrays["labels"]
    expected = select_from("badge", 6, **arrays)
    assert read(folder / "picks.csv") == (expected.ids, expected.score.tolist())
    assert result.stderr == "6 picks of badge: picks.csv\n" and result.stdout == ""


def test_ids_fields_and_seed(folder, arrays):
    words = [
        "--strategy",
        "typiclust",
        "--budget",
        "5",
        "--features",
        "features.npy",
        "--labeled",
        "labeled.npy",
        "--ids",
        "ids.npy",
    ]
    call(*words, "--out", "a.csv", "--set", "strategy.clusters=3", "--seed", 4)
    rows = {name: arrays[name] for name in ("features", "labeled")}
    assert read(folder / "a.csv")[0] == select_from(TypiClust(clusters=3), 5, **rows, ids=IDS, seed=4).ids


def test_standard_output_and_parquet(folder):
    words = ["--strategy", "margin", "--budget", "3", "--probabilities", "probabilities.npy"]
    out = call(*words).stdout
    assert out.splitlines()[0] == "id,rank,score" and len(out.splitlines()) == 4
    call(*words, "--out", "new/p.parquet", "--quiet")
    table = pq.read_table(folder / "new" / "p.parquet")
    assert table.column_names == ["id", "rank", "score"]
    lines = [line.split(",") for line in out.splitlines()[1:]]
    assert table["id"].to_pylist() == [id for id, _, _ in lines]
    assert table["score"].to_pylist() == [float(score) for _, _, score in lines]


def test_files_are_joined_by_their_ids(folder, arrays):
    """Every file in an order of its own, in three kinds of file."""
    random = np.random.default_rng(1)
    a, b, c = (random.permutation(40) for _ in range(3))
    np.savez(folder / "p.npz", ids=IDS[a], probabilities=arrays["probabilities"][a])
    columns = {"id": IDS[b], "features": pa.array(arrays["features"][b].tolist(), pa.list_(pa.float32()))}
    pq.write_table(pa.table(columns), folder / "f.parquet")
    torch.save({"ids": IDS[c].tolist(), "labels": torch.from_numpy(arrays["labels"][c])}, folder / "y.pt")
    words = "--strategy mcdal_posthoc --budget 6 --probabilities p.npz --features f.parquet --labels y.pt"
    call(*words.split(), "--ids", "ids.npy", "--out", "picks.csv")
    rows = {name: arrays[name] for name in ("probabilities", "features", "labels")}
    assert read(folder / "picks.csv")[0] == select_from("mcdal_posthoc", 6, **rows, ids=IDS).ids
    call(*words.split(), "--out", "others.csv")  # without --ids: those of the first file
    assert read(folder / "others.csv")[0] == read(folder / "picks.csv")[0]


def test_labeled_ids_as_lines_of_text(folder, arrays):
    (folder / "labeled.txt").write_text("\n".join(IDS[arrays["labeled"]]) + " \n\n", encoding="utf-8-sig")
    (folder / "ids.txt").write_text("\n".join(IDS))
    call(*BADGE, "--ids", "ids.txt", "--labeled", "labeled.txt", "--out", "a.csv")
    call(*BADGE, "--ids", "ids.npy", "--labeled", "labeled.npy", "--out", "b.csv")
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()


def test_more_than_there_are(folder):
    result = call("--strategy", "random", "--budget", 500, "--labeled", "labeled.npy", "--out", "a.csv")
    assert "no more than 30 samples are unlabeled" in result.stderr
    assert len(read(folder / "a.csv")[0]) == 30


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--strategy margin --budget 3 --probabilities gone.npy", r"probabilities = gone\.npy: there is no such file"),
        ("--strategy margin --budget 3 --probabilities probabilities.npy --out p.txt", r"--out p\.txt: give a file that"),
        ("--strategy margin --budget 3 --probabilities features.npy", "row 00.* given as logits"),
        ("--strategy badge --budget 3 --probabilities probabilities.npy", "badge needs features"),
        ("--strategy random --budget 3 --labeled words.txt", r"words\.txt: labeled are texts; they need --ids"),
        ("--strategy random --budget 3 --ids ids.npy --labeled words.txt", r"words\.txt: 'x' is said to be labeled"),
        ("--strategy random --budget 3 --ids words.txt --features features.npy", r"features\.npy has 40 rows .* 2 ids"),
        ("--strategy random --budget 3 --ids twice.txt", r"twice\.txt: the id 'x' is there twice"),
        ("--strategy core_set --budget 3 --features part.npz --ids ids.npy", r"2 ids of ids\.npy are not in part\.npz"),
        ("--strategy core_set --budget 3 --features more.npz --ids ids.npy", r"1 ids of more\.npz are not in ids\.npy.*'x'"),
        ("--strategy margin --budget 3 --probabilities probabilities.npy --set strategy.n=3", "strategy.n"),
        ("--strategy random --budget 3 --ids gone.txt", r"gone\.txt"),
        ("--strategy random --budget 3 --ids latin.npy", r"latin\.npy: ids are bytes that are no UTF-8 text"),
    ],
)  # fmt: skip
def test_wrong_files(folder, arrays, words, told):
    (folder / "words.txt").write_text("x\ny\n")
    np.save(folder / "latin.npy", np.array([b"caf\xe9", b"x"]))
    (folder / "twice.txt").write_text("x\nx\n")
    np.savez(folder / "part.npz", ids=IDS[2:], features=arrays["features"][2:])
    np.savez(folder / "more.npz", ids=np.append(IDS, "x"), features=np.zeros((41, 2)))
    with pytest.raises(McdalError, match=told):
        call(*words.split())
    assert not list(folder.glob("p.*"))


MILLION = """
import resource, sys
from pathlib import Path
from mcdal.from_files import select_from_files
from mcdal.registry import load
files = {name: Path(f"{name}.npy") for name in ("probabilities", "features", "labeled", "labels")}
picks = select_from_files(load("strategies", sys.argv[1])(), 10, files)
assert len(set(picks.ids)) == 10
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_million_rows_in_four_gib(tmp_path):
    """1,000,000 x 512 float32 is 2 GB on disk; the peak is of the whole process, the mapped pages that it saw included."""
    n = 1_000_000
    random = np.random.default_rng(0)
    block = random.normal(size=(10_000, 512)).astype("f4")
    features = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float32, (n, 512))
    for first in range(0, n, len(block)):
        features[first : first + len(block)] = block + np.float32(first / n)
    features.flush()
    np.save(tmp_path / "probabilities.npy", random.dirichlet(np.ones(10), n).astype("f4"))
    np.save(tmp_path / "labeled.npy", np.arange(n) < 50)
    np.save(tmp_path / "labels.npy", np.where(np.arange(n) < 50, np.arange(n) % 10, -1))
    for strategy in ("margin", "core_set", "badge"):
        done = subprocess.run([sys.executable, "-c", MILLION, strategy], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 4 * 2**30, strategy


def test_how_a_large_table_is_searched_can_be_set_and_is_told(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", random.standard_normal((200, 4)).astype(np.float32))
    chosen, said = named("core_set", ["search.how=partition", "search.parts=4"]), []
    files = {"features": tmp_path / "f.npy"}
    picks = select_from_files(
        chosen.strategy, 10, files, 0, chosen.search, lambda kind, **what: said.append((kind, what))
    )
    assert len(picks) == 10 and picks.searched["parts"] == 4
    told = next(what["text"] for kind, what in said if kind == "notice")
    assert told.startswith("the batch was chosen in 4 random parts")
