"""Runs on digits that lie in folders, tars and shards: all the same images, so all the same run."""

from dataclasses import fields, replace
from pathlib import Path

import layouts
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from mcdal.cli import app
from mcdal.command import Command
from mcdal.errors import ConfigError
from mcdal.events import nobody
from mcdal.loop import run
from mcdal.passes import Here, Processes
from mcdal.pool.streaming.source import Shards
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


class WholeShards(Shards):
    """The same pool, measured as one."""

    def open(self, cache, listen=nobody):
        return replace(super().open(cache, listen), sharded=None)


@pytest.mark.parametrize("strategy", ["margin", "badge"])
def test_a_run_is_the_same_whoever_measures_its_shards(digits: Path, tmp_path: Path, strategy: str) -> None:
    command = Command("shards", digits / "parquet", strategy, scale="small", settings=tuple(options()[1::2]))
    plan = command.plan()
    source = WholeShards(**{f.name: getattr(plan.config.source, f.name) for f in fields(plan.config.source)})
    played = {
        "here": (plan, Here()),
        "processes": (plan, Processes(2)),
        "whole": (replace(plan, config=replace(plan.config, source=source)), None),
    }
    found = {}
    for name, (each, engine) in played.items():
        run_id = run(each, tmp_path / name, device="cpu", engine=engine)
        store = Store(tmp_path / name, create=False)
        found[name] = [store.asked(run_id, r) for r in range(2)], [(m.name, m.value) for m in store.metrics(run_id)]
        store.close()
        assert not list((tmp_path / name).glob("runs/*/round_*/pass_*"))
    assert found["here"] == found["processes"] == found["whole"]


def test_workers_without_a_pool_in_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workers measure a pool in shards, .* this source gives no pool in shards"):
        run(Command("digits").plan(), tmp_path, device="cpu", engine=Processes(2))


def test_images_that_cannot_be_read_are_asked_about_by_nobody(digits: Path, tmp_path: Path) -> None:
    broken = {f"part-{s}:{row}" for s in range(3) for row in range(0, 100, 3)}
    for s in range(3):
        some = range(s * 100, s * 100 + 100)
        images = [layouts.encoded((load_digits().images[i] * 15.9).astype("uint8")) for i in some]
        images = [b"no image" if f"part-{s}:{row}" in broken else image for row, image in enumerate(images)]
        labels: dict[str, list[object]] = {"label": [int(load_digits().target[i]) for i in some]}
        layouts.write_parquet(tmp_path / f"data/part-{s}.parquet", images, labels, rows=50)
    settings = (*options()[1::2], "source.bad_images=quarantine", "source.channels=1")
    plan = Command("shards", tmp_path / "data", "margin", scale="small", settings=settings).plan()
    run_id = run(plan, tmp_path / "out", device="cpu")
    store = Store(tmp_path / "out", create=False)
    asked = [store.asked(run_id, r) for r in range(2)]
    away = store.set_aside_ids(run_id)
    store.close()
    assert [len(ids) for ids in asked] == [20, 10] and not broken & {id for ids in asked for id in ids}
    assert away <= broken and len(away) > 60
