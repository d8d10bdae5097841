"""Every round starts from a user's weights: which ones are taken, what is refused, and that a run goes on with the same."""

import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mcdal.artifacts import Artifacts
from mcdal.checkpoint import Checkpoint
from mcdal.errors import ConfigError, StoreError
from mcdal.estimate import estimate
from mcdal.loop import run
from mcdal.models.resnet import ResNet
from mcdal.models.timm import Timm
from mcdal.models.wrap import Custom
from mcdal.plan import Plan
from mcdal.schedule import Optimization
from mcdal.settings import override
from mcdal.strategies.ensemble import Ensemble
from mcdal.strategies.margin import Margin
from mcdal.strategies.random import Random
from mcdal.testing import FakeModel, assert_same, fake_config, fake_training
from mcdal.warm_start import StartWeights, check_fits
from tests.runs import content

CLASSES = 3
STILL = Optimization(lr=1e-30, weight_decay=0.0)
"""Steps so small that no weight of float32 moves."""


class Killed(BaseException):
    pass


def weights_file(path, classes=CLASSES, seed=7, **changes):
    torch.manual_seed(seed)
    model = FakeModel(classes)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    state = {**model.state_dict(), **changes}
    state = {name: tensor.clone() for name, tensor in state.items() if tensor is not None}
    torch.save(state, path) if path.suffix == ".pt" else save_file(state, path)
    return path


def play(out, file, strategy=None, **changes):
    config = fake_config(strategy or Random(), weights=file, **changes)
    plan = Plan(config, overrides={"weights": str(file)}, strategy=type(config.strategy).__name__)
    return run(plan, out, device="cpu")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_every_round_starts_from_the_weights(tmp_path, name):
    file = weights_file(tmp_path / name)
    given = StartWeights.read(file).tensors
    run_id = play(tmp_path / "out", file, training=fake_training(precision="float32", optimization=STILL))
    for round in range(4):
        kept = Artifacts(tmp_path / "out" / "runs" / run_id).read_model(round)
        parameters = [key for key in kept if "running" not in key and "num_batches" not in key]
        assert parameters and all(torch.allclose(kept[key], given[key], 0, 1e-20) for key in parameters)


def test_a_head_of_other_classes_starts_fresh_by_the_seed_and_is_told(tmp_path):
    training = fake_training(precision="float32", optimization=STILL)
    heads, notices = {}, []
    for classes in (CLASSES, 5):
        file = weights_file(tmp_path / f"{classes}.safetensors", classes)
        config = fake_config(Random(), weights=file, training=training)
        plan = Plan(config, overrides={"weights": str(file)})
        run_id = run(
            plan, tmp_path / "out", device="cpu", listen=lambda kind, **told: notices.append(told.get("text", ""))
        )
        kept = Artifacts(tmp_path / "out" / "runs" / run_id).read_model(0)
        heads[classes] = kept["head.weight"]
        assert torch.equal(kept["encoder.0.weight"], StartWeights.read(file).tensors["encoder.0.weight"])
    assert torch.equal(heads[CLASSES], StartWeights.read(tmp_path / "3.safetensors").tensors["head.weight"])
    assert heads[5].shape == heads[CLASSES].shape and not torch.equal(heads[5], heads[CLASSES])
    told = [text for text in notices if "head starts at random" in text]
    assert len(told) == 1 and "5.safetensors has none for 3 classes" in told[0]


def test_all_strategies_of_a_seed_start_alike(tmp_path):
    file = weights_file(tmp_path / "w.safetensors", classes=9)
    ids = [play(tmp_path / "out", file, strategy) for strategy in (Random(), Margin())]
    models = [Artifacts(tmp_path / "out" / "runs" / id).read_model(0) for id in ids]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_networks_that_a_strategy_trains_beside_start_from_them_too(tmp_path):
    file = weights_file(tmp_path / "w.safetensors")
    model = StartWeights.read(file).builder(lambda: FakeModel(CLASSES))()
    torch.manual_seed(1)
    assert torch.equal(model.fresh().encoder[0].weight, model.encoder[0].weight)
    assert play(tmp_path / "out", file, Ensemble())


def test_killed_and_continued_it_ends_as_if_nothing_had_been(tmp_path, monkeypatch):
    file = weights_file(tmp_path / "w.safetensors", classes=9)
    play(tmp_path / "whole", file, checkpoint_seconds=0.0)
    real, saves = Checkpoint.save, []

    def save(self, state):
        real(self, state)
        saves.append(state["step"])
        if len(saves) == 11:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("mcdal.checkpoint.Checkpoint.save", save)
        with pytest.raises(Killed):
            play(tmp_path / "out", file, checkpoint_seconds=0.0)
    play(tmp_path / "out", file, checkpoint_seconds=0.0)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_the_file_may_move_but_not_change(tmp_path):
    (tmp_path / "moved").mkdir()
    file = weights_file(tmp_path / "w.safetensors")
    run_id = play(tmp_path / "out", file)
    before = content(tmp_path / "out")
    moved = file.rename(tmp_path / "moved" / "w.safetensors")
    assert play(tmp_path / "out", moved) == run_id and content(tmp_path / "out") == before
    weights_file(moved, seed=8)
    with pytest.raises(StoreError, match=r"weights_sha256: '\w{64}' -> '\w{64}'"):
        play(tmp_path / "out", moved)
    with pytest.raises(StoreError, match="weights_sha256"):
        run(Plan(fake_config(Random()), overrides={"weights": str(moved)}, strategy="Random"), tmp_path / "out")


def test_runs_with_and_without_weights_are_two_runs(tmp_path):
    plans = [Plan(fake_config(), overrides=o) for o in ({}, {"weights": "a/w.pt"}, {"weights": "b/w.pt"})]
    plans += [Plan(fake_config(), overrides={"weights": "null"}), Plan(fake_config(), overrides={"weights": "v.pt"})]
    ids = [plan.run_id for plan in plans]
    assert ids[0] == ids[3] and ids[1] == ids[2] and len({*ids}) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder.0.bias": None}, r"1 expected and not there: encoder\.0\.bias\."),
        ({"extra": torch.ones(2)}, r"1 there and not expected: extra\."),
        ({"encoder.0.bias": torch.ones(6)}, r"encoder\.0\.bias \(expected \[5\], found \[6\]\)"),
        ({"head.weight": torch.ones(3, 6)}, r"head\.weight \(expected \[3, 5\], found \[3, 6\]\)"),
        ({"head.bias": None}, r"1 expected and not there: head\.bias\."),
        ({f"x{i}": torch.ones(1) for i in range(9)}, r"9 there and not expected: x0, x1, x2, \.\.\."),
        ({"encoder.0.bias": torch.full((5,), torch.nan)}, r"encoder\.0\.bias has a value that is not a finite number"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_recorded(tmp_path, changes, words):
    file = weights_file(tmp_path / "w.safetensors", **changes)
    with pytest.raises(ConfigError, match=words) as told:
        play(tmp_path / "out", file)
    assert str(file) in str(told.value)
    assert not content(tmp_path / "out")["runs"] if (tmp_path / "out").exists() else True
    with pytest.raises(ConfigError, match=words):
        estimate(Plan(fake_config(weights=file)), tmp_path / "out", "cpu")


def test_counters_and_a_missing_head_may_be_left_out(tmp_path):
    counter = {"encoder.1.num_batches_tracked": None}
    file = weights_file(tmp_path / "w.safetensors", **counter, **{"head.weight": None, "head.bias": None})
    assert StartWeights.read(file).into(FakeModel(CLASSES)) is False


class Evil:
    def __reduce__(self):
        return (print, ("code was run",))


def test_no_code_in_a_file_is_run_and_a_file_that_is_not_there_is_named(tmp_path, capsys):
    torch.save({"head.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ConfigError, match=r"evil\.pt: not a readable file of weights"):
        StartWeights.read(tmp_path / "evil.pt")
    assert "code was run" not in capsys.readouterr().out
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, words in (("none.safetensors", "no such file"), ("text.safetensors", "not a readable file")):
        with pytest.raises(ConfigError, match=words):
            play(tmp_path / "out", tmp_path / name)
    assert not (tmp_path / "out").exists()


def test_weights_are_of_a_network_that_is_trained(tmp_path):
    from tests.pool.test_frozen import config

    with pytest.raises(ConfigError, match="with an encoder a head alone is trained"):
        replace(config(), weights=tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"model\.weights gives others"):
        fake_config(model=Timm(weights="w.pth"), weights=tmp_path / "w.pt")
    assert override(fake_config(), {"weights": str(tmp_path / "w.pt")}).weights == tmp_path / "w.pt"


def test_the_head_of_a_wrapped_module_is_found_wherever_it_lies(tmp_path):
    def network(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, classes))

    custom = Custom(network, head="2")
    save_file(custom.build(7, 3, (2, 2)).state_dict(), tmp_path / "w.safetensors")
    model = custom.build(CLASSES, 3, (2, 2))
    assert StartWeights.read(tmp_path / "w.safetensors").into(model) is False
    assert torch.equal(model.module[1].weight, load_file(tmp_path / "w.safetensors")["module.1.weight"])


def test_before_the_images_are_read_grey_and_colour_may_both_be(tmp_path):
    model = ResNet(depth=10, width=4)
    for channels in (1, 3):
        save_file(model.build(2, channels, (8, 8)).state_dict(), tmp_path / "w.safetensors")
        check_fits(StartWeights.read(tmp_path / "w.safetensors"), model, 5, 8)
    with pytest.raises(ConfigError, match=r"found \[4, 3, 3, 3\]"):
        check_fits(StartWeights.read(tmp_path / "w.safetensors"), ResNet(depth=10, width=8), 5, 8)


def test_a_model_that_starts_from_weights_can_be_sent_to_another_process(tmp_path):
    given = StartWeights.read(weights_file(tmp_path / "w.pt"))
    sent = pickle.loads(pickle.dumps(given.builder(partial(FakeModel, CLASSES))()))
    fresh = sent.rebuild()
    assert_same(fresh.state_dict(), dict(given.tensors), "a fresh copy starts from other weights")
    assert fresh.rebuild is sent.rebuild
