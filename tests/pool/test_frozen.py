"""Features of a frozen encoder: computed once, found again, taken up after a kill, never stale; every strategy that can runs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mcdal import training
from mcdal.augment import Augment
from mcdal.cli import main
from mcdal.config import Config
from mcdal.encoders.base import Built, Encoder, randomly, sides
from mcdal.errors import ConfigError, McdalError, PoolError, StoreError
from mcdal.estimate import estimate
from mcdal.loop import run
from mcdal.models.pretrained import read_weights
from mcdal.models.probe import Probe
from mcdal.models.small import SmallConv
from mcdal.plan import Plan
from mcdal.pool import frozen as module
from mcdal.pool.frozen import open_frozen
from mcdal.recipes.base import frozen
from mcdal.registry import listed, load
from mcdal.settings import to_json
from mcdal.store import Store
from mcdal.strategies.base import Strategy
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import FakeSource, fake_config, fake_pool
from mcdal.training import Training
from tests.runs import content

NUMERICS = Training(precision="float32").numerics("cpu")


def network(side: int = 6, features: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, features), nn.ReLU())


@dataclass(frozen=True)
class Tiny(Encoder):
    """One layer."""

    weights: str | None = None
    """A file."""
    size: int | None = None
    """Side."""

    def build(self) -> Built:
        size = sides(self.size, (6, 6))
        made = randomly(lambda: network(size[0]))
        if self.weights is not None:
            made.load_state_dict(read_weights(self.weights))
        return Built(made, size, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))


class Killed(BaseException):
    """Ends a process as SIGKILL does: nothing gets to tidy up."""


@pytest.fixture
def passes(monkeypatch):
    """How many images went through an encoder."""
    seen = []
    real = Built.features
    monkeypatch.setattr(Built, "features", lambda self, x: (seen.append(len(x)), real(self, x))[1])
    return seen


def config(strategy: Strategy | None = None, encoder: Encoder | None = None, **changes: object) -> Config:
    made = frozen(fake_config(strategy or MCDAL()), encoder or Tiny())
    short = replace(made.training, epochs=2, steps_per_epoch=4, batch_size=8, unlabeled_batch_size=8)
    return replace(made, training=short, **changes)


def opened(cache, encoder=None, source=None):
    return open_frozen(source or FakeSource(), encoder or Tiny(), cache, NUMERICS)


def rows(pool):
    positions = [np.arange(len(pool))]
    return next(iter(pool.images.batches(positions, torch.device("cpu"))))


def test_rows_are_what_the_encoder_gives_with_mean_0_and_deviation_1(tmp_path):
    pool, images = opened(tmp_path), fake_pool()
    built = Tiny().build()
    x = torch.from_numpy(images.images.pixels).permute(0, 3, 1, 2)
    raw = built.features(x)
    varies = raw.std(0) > 0
    wanted = (raw - raw.mean(0)) / torch.where(varies, raw.std(0, correction=0), 1.0)
    torch.testing.assert_close(rows(pool)[:, :, 0, 0], wanted, atol=1e-5, rtol=1e-4)
    assert pool.shape == (8, (1, 1)) and pool.images.ids == images.images.ids
    tested = next(iter(pool.test.images.batches([pool.test.positions], torch.device("cpu"))))
    of_test = built.features(torch.from_numpy(images.test.images.pixels).permute(0, 3, 1, 2))
    of_test = (of_test - raw.mean(0)) / torch.where(varies, raw.std(0, correction=0), 1.0)
    torch.testing.assert_close(tested[:, :, 0, 0], of_test, atol=1e-5, rtol=1e-4)
    assert pool.images.picture(3).tolist() == images.images.picture(3).tolist()


def test_kept_as_files_that_others_can_read(tmp_path):
    pool = opened(tmp_path)
    (folder,) = tmp_path.glob("features-*[0-9a-f]")
    assert json.loads((folder / "ids.json").read_text())["pool"] == list(pool.images.ids)
    assert np.load(folder / "pool.npy", mmap_mode="r").shape == (60, 8)
    assert not list(tmp_path.glob("*.parts"))


def test_computed_once_for_all_runs_of_a_store(tmp_path, passes):
    run(Plan(config(MCDAL())), tmp_path, device="cpu")
    first = sum(passes)
    assert first == 90 + module.LOOKED_AT
    for plan in (Plan(config(Margin())), Plan(config(MCDAL()), seed=1)):
        run(plan, tmp_path, device="cpu")
    assert sum(passes) == first + 2 * module.LOOKED_AT  # a look at whether they are still right


def test_taken_up_where_a_kill_left_them(tmp_path, passes, monkeypatch):
    monkeypatch.setattr(module, "PART", 16)
    whole = rows(opened(tmp_path / "whole"))
    passes.clear()
    written = []
    real = module._write

    def dies(path, features):
        if len(written) == 3:
            raise Killed
        written.append(path)
        real(path, features)

    monkeypatch.setattr(module, "_write", dies)
    with pytest.raises(Killed):
        opened(tmp_path / "killed")
    monkeypatch.setattr(module, "_write", real)
    passes.clear()
    assert torch.equal(rows(opened(tmp_path / "killed")), whole)
    assert sum(passes) == 90 - 3 * 16 + module.LOOKED_AT
    assert not list((tmp_path / "killed").glob("*.parts"))


@pytest.mark.parametrize("change", ["weights", "size", "data"])
def test_other_weights_sizes_and_data_are_never_served_by_old_features(tmp_path, change):
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    encoder, source = Tiny(str(tmp_path / "w.safetensors")), FakeSource()
    before = rows(opened(tmp_path / "cache", encoder, source))
    again = rows(opened(tmp_path / "cache", encoder, source))
    assert torch.equal(before, again)
    if change == "weights":
        torch.manual_seed(9)
        save_file(network().state_dict(), tmp_path / "w.safetensors")
    if change == "size":
        encoder = Tiny(size=5)
    if change == "data":
        source = FakeSource(seed=1)
    after = rows(opened(tmp_path / "cache", encoder, source))
    assert not torch.equal(before, after)
    assert len(list((tmp_path / "cache").glob("features-*[0-9a-f]"))) == 2


def test_the_same_weights_elsewhere_are_the_same_features(tmp_path, passes):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        save_file(network().state_dict(), tmp_path / name / "w.safetensors")
        opened(tmp_path / "cache", Tiny(str(tmp_path / name / "w.safetensors")))
    assert sum(passes) == 90 + 2 * module.LOOKED_AT


def test_features_that_are_not_what_the_encoder_gives_now_are_refused(tmp_path):
    opened(tmp_path)
    (folder,) = tmp_path.glob("features-*[0-9a-f]")
    kept = np.load(folder / "pool.npy")
    np.save(folder / "pool.npy", kept[::-1])
    with pytest.raises(PoolError, match=f"features in {folder}.*remove that folder"):
        opened(tmp_path)


def test_a_feature_that_is_no_number_names_the_image(tmp_path):
    save_file({k: v * torch.nan for k, v in network().state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(PoolError, match=r"a feature of 'fake/.*' that is not a finite number"):
        opened(tmp_path, Tiny(str(tmp_path / "w.safetensors")))


def test_a_run_is_not_continued_with_other_weights(tmp_path):
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    plan = Plan(config(encoder=Tiny(str(tmp_path / "w.safetensors"))))
    run(plan, tmp_path / "runs", device="cpu")
    torch.manual_seed(5)
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(StoreError, match="other weights of the encoder"):
        run(plan, tmp_path / "runs", device="cpu")


def test_weights_may_lie_elsewhere_when_a_run_continues(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        save_file(network().state_dict(), tmp_path / name / "w.safetensors")
        weights = str(tmp_path / name / "w.safetensors")
        plan = Plan(config(encoder=Tiny(weights)), overrides={"encoder": "tiny", "encoder.weights": weights})
        ids = run(plan, tmp_path / "runs", device="cpu")
        assert plan.run_id == ids
    store = Store(tmp_path / "runs", create=False)
    assert len(store.runs()) == 1
    store.close()


def test_the_encoder_is_in_the_recorded_config():
    recorded = to_json(config())["encoder"]
    assert recorded["type"].endswith(":Tiny") and recorded["weights"] is None


ABLE = [
    name
    for name in listed("strategies")
    if not {"images", "stages"} & set(load("strategies", name).about.needs)  # what cannot is tested below
]
QUICKER = {"daal": {"passes": 2, "width": 8, "latent": 4}}


@pytest.mark.parametrize("name", ABLE)
def test_every_strategy_that_needs_neither_pixels_nor_stages_runs(name, tmp_path):
    """Two rounds of its picks, with a linear head and with a hidden layer; started alike, ended with the budget."""
    for hidden in (0, 6):
        strategy = load("strategies", name)(**QUICKER.get(name, {}))
        plan = Plan(replace(config(strategy), model=Probe(hidden), gallery=2))
        out = tmp_path / str(hidden)
        run_id = run(plan, out, device="cpu")
        store = Store(out, create=False)
        asked = [store.asked(run_id, r.round) for r in store.rounds(run_id)]
        store.close()
        assert [len(ids) for ids in asked] == [12, 6, 6, 6]
        assert len({id for ids in asked for id in ids}) == 30


@pytest.mark.parametrize("name", sorted(set(listed("strategies")) - set(ABLE)))
def test_strategies_that_need_more_are_refused_before_anything_is_read(name, tmp_path):
    needed = {"ll": "inner stages of the model", "vaal": "the pixels", "sraal": "the pixels"}[name]
    kind = load("strategies", name)
    with pytest.raises(ConfigError, match=f"strategy = {kind.__name__}: it needs {needed}.*features alone"):
        config(kind())


def test_models_and_training_that_do_not_fit_are_refused():
    fits = config()
    with pytest.raises(ConfigError, match="works on images, and an encoder gives features"):
        replace(fits, model=SmallConv())
    with pytest.raises(ConfigError, match="Probe: it works on features, so it needs an encoder"):
        replace(fits, encoder=None)
    with pytest.raises(ConfigError, match=r"training\.augment"):
        replace(fits, training=replace(fits.training, augment=Augment(1, False, 0.0)))


def test_rows_of_features_are_not_augmented():
    x = torch.randn(3, 5, 1, 1)
    assert Augment()(x) is x


def test_an_estimate_says_how_long_encoding_takes_and_keeps_nothing(tmp_path):
    found = estimate(Plan(config()), tmp_path, "cpu")
    assert found.seconds_encoding > 0 and found.seconds > found.seconds_encoding
    assert not list(tmp_path.rglob("*.npy"))
    run(Plan(config()), tmp_path, device="cpu")
    assert estimate(Plan(config()), tmp_path, "cpu").seconds_encoding == 0


MINE = '''
from dataclasses import dataclass
import time, torch
from torch import nn
from mcdal.encoders.base import Built, Encoder, sides
from mcdal.models.pretrained import read_weights

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 16)
    def forward(self, x):
        time.sleep(SLEEP)
        return self.layer(x.flatten(1)).relu()

@dataclass(frozen=True)
class Mine(Encoder):
    """Mine."""
    weights: str = "none"
    """A file."""
    def build(self):
        network = Slow()
        network.load_state_dict(read_weights(self.weights))
        return Built(network, (8, 8))
'''


@pytest.fixture
def mine(tmp_path):
    torch.manual_seed(0)
    layer = nn.Linear(192, 16)
    save_file({"layer.weight": layer.weight.data, "layer.bias": layer.bias.data}, tmp_path / "w.safetensors")
    (tmp_path / "mine.py").write_text(MINE.replace("SLEEP", "0"))
    (tmp_path / "slow.py").write_text(MINE.replace("SLEEP", "0.05"))
    return tmp_path


def command(folder, out, file="mine", *more):
    words = [
        "run",
        "digits",
        "--encoder",
        f"{folder / file}.py:Mine",
        "--set",
        f"encoder.weights={folder / 'w.safetensors'}",
    ]
    return [*words, "--device", "cpu", "--out", str(out), "--set", "training.steps_per_epoch=3", *more]


def play(words):
    with pytest.raises(SystemExit) as ended:
        sys.argv = ["mcdal", *words]
        main()
    return ended.value.code


def test_the_command_from_run_to_report(mine, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    out = tmp_path / "runs"
    assert play(command(mine, out, "mine", "--dry-run")) in (0, None)
    assert "encoding images, once" in " ".join(capsys.readouterr().out.split())
    for more in (["-s", "mcdal"], ["-s", "random"], ["-s", "mcdal", "--set", "model.hidden=8"]):
        assert play(command(mine, out, "mine", "--set", "protocol.rounds=2", *more)) in (0, None)
    assert "round 1: 60 labels" in capsys.readouterr().out
    assert len(list((out / "cache").glob("features-*[0-9a-f]"))) == 1
    assert play(["status", "--out", str(out)]) in (0, None)
    assert capsys.readouterr().out.count("done") == 3
    assert play(["report", "--out", str(out)]) in (0, None)
    page = (out / "report" / "index.html").read_text()
    assert "frozen Mine" in page and "data:image/png" in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--encoder", "nothing"], "no encoder 'nothing'"),
        (["--encoder", "timm:resnet10t", "--set", "encoder=timm"], "give one of them"),
        (["--encoder", "efficientnet_lite0", "-s", "vaal"], "strategy = VAAL: it needs the pixels"),
        (["--encoder", "efficientnet_lite0", "--set", "encoder.side=3"], "has no field 'side'"),
        (["--encoder", "efficientnet_lite0", "--set", "training.augment.flip=true"], "training.augment"),
        (["--encoder", "efficientnet_lite0", "--set", "encoder.weights=nowhere.pth"], "nowhere.pth: no such file"),
    ],
)
def test_what_cannot_be_is_told(more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [])
    assert play(["run", "digits", *more, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.slow
def test_killed_while_encoding_and_continued_is_the_same_run(mine, tmp_path):
    """Real processes: features and results are those of a run that nobody stopped."""
    environment = {**os.environ, "PYTHONPATH": str(Path(training.__file__).parents[1])}
    python = [sys.executable, "-m", "mcdal"]
    for out in ("killed", "whole"):
        words = python + command(mine, tmp_path / out, "slow", "--set", "protocol.rounds=1", "--json")
        if out == "killed":
            process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
            parts = tmp_path / out / "cache"
            until = time.monotonic() + 60
            while not list(parts.glob("*.parts/pool-*.npy")) and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert list(parts.glob("*.parts/*.npy")) and not list(parts.glob("features-*[0-9a-f]/index.json"))
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    one, two = (next((tmp_path / out / "cache").glob("features-*/pool.npy")) for out in ("killed", "whole"))
    assert one.read_bytes() == two.read_bytes() and one.parent.name == two.parent.name


def test_errors_of_the_encoder_come_before_the_images_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeSource, "open", lambda *_: pytest.fail("read the images"))
    with pytest.raises(McdalError, match="no such file"):
        run(Plan(config(encoder=Tiny("nowhere.safetensors"))), tmp_path, device="cpu")
