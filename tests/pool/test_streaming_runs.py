"""Runs on digits that lie in folders, tars and shards: all the same images, so all the same run."""

from pathlib import Path

import layouts
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from mcdal.cli import app
from mcdal.command import Command
from mcdal.errors import ConfigError
from mcdal.store import Store

QUICK = {
    "source.size": "8", "model.width": "4", "training.epochs": "1", "training.steps_per_epoch": "4", "training.batch_size": "16",
    "protocol.start": "20", "protocol.budget": "10", "protocol.rounds": "2", "gallery": "2",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`folders`, `tars` and `parquet`, 300 digits each."""
    root, found = tmp_path_factory.mktemp("digits"), load_digits()
    images = [layouts.encoded((image * 15.9).astype("uint8")) for image in found.images[:300]]
    labels = [f"digit{label}" for label in found.target[:300]]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / f"folders/{label}/{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    for s in range(3):
        some = range(s * 100, s * 100 + 100)
        members = {
            f"{i:03d}.{end}": images[i] if end == "png" else labels[i].encode() for i in some for end in ("png", "cls")
        }
        layouts.write_tar(root / f"tars/part-{s}.tar", members)
        columns: dict[str, list[object]] = {"label": [labels[i] for i in some]}
        layouts.write_parquet(root / f"parquet/part-{s}.parquet", [images[i] for i in some], columns, rows=50)
    return root


def options() -> list[str]:
    return [word for field, value in QUICK.items() for word in ("--set", f"{field}={value}")]


@pytest.mark.parametrize(
    "kind", ["parquet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("folders", "tars"))]
)
def test_mcdal_run_shards(digits: Path, tmp_path: Path, kind: str) -> None:
    words = ["run", "shards", "--data", str(digits / kind), "--scale", "small", "--out", str(tmp_path), "--quiet"]
    for _ in range(2):  # the second time there is nothing to do
        ran = CliRunner().invoke(app, [*words, *options()])
        assert ran.exit_code == 0, ran.output
    store = Store(tmp_path, create=False)
    (record,) = store.runs()
    rounds = store.rounds(record.run_id)
    store.close()
    assert [r.labeled for r in rounds] == [20, 30] and list(record.classes) == [f"digit{c}" for c in range(10)]


def test_a_url_stays_a_url_and_goes_only_where_it_is_read() -> None:
    plan = Command("shards", "s3://bucket/train", settings=("source.size=8",)).plan()
    assert plan.config.source.data == "s3://bucket/train"  # type: ignore[attr-defined]
    assert Command("shards", "s3://bucket/train").words()[:3] == ["shards", "--data", "s3://bucket/train"]
    plan = Command("shards", "s3://bucket/train", settings=("source.data=s3://other/x",)).plan()
    assert plan.config.source.data == "s3://other/x"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="the recipe parquet reads a folder of this machine"):
        Command("parquet", "s3://bucket/train").plan()
    with pytest.raises(ConfigError, match="--data nowhere does not exist"):
        Command("shards", "nowhere").plan()


def test_what_is_shown_needs_no_data() -> None:
    ran = CliRunner().invoke(app, ["recipes", "shards"])
    assert ran.exit_code == 0 and "source.kind = auto" in ran.output
