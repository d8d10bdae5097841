"""`mcdal embed`: a file of features of the whole pool, continued after a kill, never another one under its name."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import mcdal.checkpoint
import mcdal.embed
from mcdal.augment import normalize
from mcdal.cli import main
from mcdal.embed import Embedding, embed
from mcdal.errors import ConfigError
from mcdal.features import made_by, read_features
from mcdal.simclr import SimCLR
from mcdal.streams import stream
from mcdal.testing import Fake, FakeSource, fake_config, fake_pool
from mcdal.training import Training

QUICK = replace(
    Embedding.of(fake_config()),
    simclr=SimCLR(epochs=3, batch_size=16, projection=6, temperature=0.5),
    checkpoint_seconds=0.0,
)


class Killed(BaseException):
    """Ends a process as SIGKILL does: nothing gets to tidy up."""


def made(folder, embedding=QUICK, **more):
    path = embed(embedding, folder / "f.npz", folder / "cache", device="cpu", **more)
    return read_features(path, fake_pool().images.ids)


def test_every_image_of_the_pool_in_its_test_time_transform(tmp_path):
    """Without training the features are those of the network as the seed draws it."""
    found = made(tmp_path, replace(QUICK, simclr=SimCLR(epochs=0)), seed=4)
    torch.manual_seed(stream(4, "init"))
    model = Fake().build(3, 3, (6, 6)).double().eval()
    pool = fake_pool()
    x = normalize(torch.from_numpy(pool.images.pixels).permute(0, 3, 1, 2), pool.mean, pool.std).double()
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).features.numpy(), rtol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.npz"], "no state is left behind"


def test_the_seed_and_the_fields_decide(tmp_path):
    one = made(tmp_path / "a")
    assert np.array_equal(made(tmp_path / "b"), one)
    assert not np.array_equal(made(tmp_path / "c", seed=1), one)
    for name, other in (
        ("d", replace(QUICK, simclr=replace(QUICK.simclr, crop=0.5))),
        ("e", replace(QUICK, training=replace(QUICK.training, augment=replace(QUICK.training.augment, flip=False)))),
    ):
        assert not np.array_equal(made(tmp_path / name, other), one)


@pytest.mark.parametrize("saves", [1, 4, 9])
def test_killed_and_continued(tmp_path, monkeypatch, saves):
    whole = made(tmp_path / "whole")
    real, done = mcdal.checkpoint.Checkpoint.save, []

    def save(self, state):
        real(self, state)
        done.append(state["step"])
        if len(done) == saves:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mcdal.checkpoint.Checkpoint, "save", save)
        with pytest.raises(Killed):
            made(tmp_path)
    assert not (tmp_path / "f.npz").exists()
    steps = []
    assert np.array_equal(
        made(tmp_path, listen=lambda kind, **f: steps.append(f.get("done")) if kind == "train" else None), whole
    )
    assert done[-1] == saves and all(step > saves for step in steps)


def test_a_state_of_other_settings_is_not_taken_up(tmp_path, monkeypatch):
    other = replace(QUICK, simclr=replace(QUICK.simclr, lr=0.1))
    whole = made(tmp_path / "whole", other)
    monkeypatch.setattr(mcdal.embed, "write_features", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        made(tmp_path)
    monkeypatch.undo()
    assert np.array_equal(made(tmp_path, other), whole)


def test_what_is_there_is_not_made_again_and_never_overwritten(tmp_path, monkeypatch):
    one = made(tmp_path)
    monkeypatch.setattr(mcdal.embed, "pretrain", lambda *_, **__: pytest.fail("trained again"))
    said = []
    elsewhere = replace(QUICK, checkpoint_seconds=5.0, training=replace(QUICK.training, epochs=7))  # without effect
    assert np.array_equal(made(tmp_path, elsewhere, listen=lambda kind, **f: said.append(f["text"])), one)
    assert said == ["nothing was left to do: these features were made before"]
    with pytest.raises(ConfigError, match=r"f\.npz is there already, with other features: give another --out"):
        made(tmp_path, seed=1)
    with pytest.raises(ConfigError, match=r"features are written as \.npz"):
        embed(QUICK, tmp_path / "f.parquet", tmp_path / "cache")
    assert '"simclr.epochs": 3' in made_by(tmp_path / "f.npz") and '"data": "fake-60-3-0"' in made_by(
        tmp_path / "f.npz"
    )


def test_an_embedding_takes_its_parts_from_a_recipe():
    config = fake_config()
    assert Embedding.of(config) == Embedding(config.source, config.model, config.training)
    assert Embedding(FakeSource(), Fake()).training == Training()


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `mcdal` in an empty folder; gives exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from mcdal.testing import fake_config as quick\n")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["mcdal", *words])
        with pytest.raises(SystemExit) as end:
            main()
            sys.exit(0)
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def test_the_command(command, tmp_path):
    words = (
        "embed",
        "mine.py:quick",
        "--device",
        "cpu",
        "--set",
        "simclr.epochs=2",
        "--set",
        "model.width=4",
        "--seed",
        "3",
    )
    code, out, _ = command(*words, "--out", "some where/f.npz")
    assert code == 0
    assert out.splitlines() == [
        "note: some where/f.npz has 4 features of each of 60 images",
        "next: mcdal run mine.py:quick --set 'features=some where/f.npz' --set cold_start=typiclust",
    ]
    assert read_features(tmp_path / "some where" / "f.npz", fake_pool().images.ids).shape == (60, 4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "simclr.epoch=2"], "SimCLR has no field 'epoch': did you mean 'epochs'?"),
        (["--set", "simclr.temperature=0"], "simclr.temperature = 0.0: give a number above 0"),
        (["--set", "strategy.heads=4"], "Embedding has no field 'strategy'"),
        (["--out", "f.csv"], "features are written as .npz"),
        (["--scale", "small"], "takes no --scale"),
        (["--device", "tpu9"], "device 'tpu9' is unknown"),
    ],
)
def test_wrong_input_is_told_in_a_line(command, tmp_path, words, told):
    code, _, err = command("embed", "mine.py:quick", *words)
    assert code == 2 and told in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py" and path.name != "__pycache__"] == []
