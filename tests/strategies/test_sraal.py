"""SRAAL against its indicator of uncertainty and its two losses written number by number, corrected and as published."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.models.base import count_parameters
from mcdal.models.resnet import ResNet
from mcdal.networks.vae import resized
from mcdal.strategies.sraal import SRAAL, as_in_testing, uncertainty_indicator
from mcdal.tasks.classification import Classification
from mcdal.testing import FakeModel, assert_same, fake_setting
from mcdal.values import Batch, Progress, Rows
from tests.strategies.batches import images, source

SMALL = {"width": 2, "size": 16, "latent": 8}
C = 10


def attached(**fields):
    torch.manual_seed(0)
    model = FakeModel(3).double()
    strategy = SRAAL(**(SMALL | fields))
    strategy.attach(model, Classification(("a", "b", "c")), replace(fake_setting(model), batches=source))
    return strategy, model


def shares(*first):
    """Ten class probabilities that begin so; the rest evenly."""
    rest = (1 - sum(first)) / (C - len(first))
    return torch.tensor([[*first, *[rest] * (C - len(first))]], dtype=torch.float64)


def naive_indicator(p, unbiased):
    """U = 1 - max(p) V_min / Var(p) of one sample, as it is published."""
    c, m = len(p), max(p)
    least = 1 / c * ((1 / c - m) ** 2 + (c - 1) * (1 / c - (1 - m) / (c - 1)) ** 2)
    variance = sum((x - sum(p) / c) ** 2 for x in p) / (c - 1 if unbiased else c)
    return 1 - m * least / variance


@pytest.mark.parametrize(
    ("p", "unbiased", "expected"),
    [
        (shares(0.6, 0.4), False, 0.6032),
        (shares(0.5, 0.5), False, 0.7778),
        (shares(0.9), False, 0.1),
        (shares(), False, 0.9),
        (shares(1.0), False, 0.0),
        (shares(0.6, 0.4), True, 0.6429),
        (shares(), True, 0.9),
        (shares(1.0), True, 0.1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uncertainty_by_hand(p, unbiased, expected, dtype):
    assert uncertainty_indicator(p.to(dtype), unbiased).item() == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("unbiased", [False, True])
def test_uncertainty_is_the_published_formula(unbiased):
    p = (2 * torch.randn(40, 7, generator=torch.Generator().manual_seed(0)).double()).softmax(1)
    expected = [naive_indicator(row, unbiased) for row in p.tolist()]
    torch.testing.assert_close(uncertainty_indicator(p, unbiased), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-7, 1e-6, 1e-4, 1.0, 100.0])
@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_uncertainty_stays_between_0_and_1_also_where_it_is_0_over_0(scale, classes):
    z = scale * torch.randn(50, classes, generator=torch.Generator().manual_seed(0))
    u = uncertainty_indicator(z.softmax(1))
    assert (u >= 0).all() and (u <= 1).all()
    if scale < 1e-3:  # nearly uniform: 1 - 1/C, or a little more where the rest is not even
        assert (u >= 1 - 1 / classes - 1e-3).all()


def test_uncertainty_of_a_map_is_its_mean():
    p = torch.stack([shares(0.6, 0.4)[0], shares(0.9)[0]], dim=1)[None, :, None]  # 1 x C x 1 x 2
    assert uncertainty_indicator(p).item() == pytest.approx((0.60317 + 0.1) / 2, abs=1e-4)


def naive_kl(mu, logvar):
    """KL(N(mu, e^logvar) | N(0, 1)) = 1/2 sum_d (e^logvar_d + mu_d^2 - 1 - logvar_d)."""
    return sum(0.5 * (logvar[d].exp() + mu[d] ** 2 - 1 - logvar[d]) for d in range(len(mu)))


def naive_bce(logits, target):
    d = 1 / (1 + (-logits).exp())
    return sum(-target * p.log() - (1 - target) * (1 - p).log() for p in d) / len(d)


def naive_step(strategy, networks, optimizers, pairs, labels, u, author):
    """VAE and learner on every pair, then D on the last. networks: vae, learner, D."""
    vae, learner, d = networks
    half = strategy.latent // 2
    for (x_l, x_u), y in zip(pairs, labels, strict=True):
        loss = 0.0
        for x, seen in ((x_l, vae(x_l)), (x_u, vae(x_u))):
            if x is x_l:
                z_l = seen.z
            mse = sum(((a - b) ** 2).sum() for a, b in zip(seen.image, x, strict=True)) / x.numel()
            kl = sum(naive_kl(m, v) for m, v in zip(seen.mu, seen.logvar, strict=True)) / len(x)
            loss = loss + strategy.reconstruction * mse + kl + naive_bce(d(seen.mu), 1)
        ce = -sum(learner(z[half:]).log_softmax(0)[label] for z, label in zip(z_l, y, strict=True)) / len(y)
        loss = loss + strategy.supervised * ce
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    with torch.no_grad():
        mu_l, mu_u = (vae.encode(x)[0] for x in pairs[-1])
    targets = (0, u) if author else (1, 1 - u)
    soft = [naive_bce(d(mu_u)[i : i + 1], targets[1][i]) for i in range(len(mu_u))]
    d_loss = naive_bce(d(mu_l), targets[0]) + sum(soft) / len(soft)
    optimizers[1].zero_grad()
    d_loss.backward()
    optimizers[1].step()
    return loss.item(), d_loss.item()


@pytest.mark.parametrize("mode", ["fixed", "author"])
@pytest.mark.parametrize("vae_steps", [1, 2])
def test_step_is_the_published_order_of_updates(mode, vae_steps):
    author = mode == "author"
    strategy, model = attached(mode=mode, vae_steps=vae_steps, reconstruction=3.0, supervised=0.8, lr=1e-3)
    networks = [copy.deepcopy(n) for n in (strategy._vae, strategy._learner, strategy._discriminator)]
    optimizers = [torch.optim.Adam(list(p), 1e-3) for p in (
        [*networks[0].parameters(), *networks[1].parameters()], networks[2].parameters()
    )]  # fmt: skip
    first = Batch(tuple("abcde"), images(5, 1), torch.tensor([2, 0, 1, 1, 0])), Batch(tuple("fghi"), images(4, 2))
    more = list(zip(*(source(kind, "sraal", 0) for kind in (True, False)), strict=True))
    for step in range(2):
        given = [first, *more[step * (vae_steps - 1) : (step + 1) * (vae_steps - 1)]]
        labels = [first[0].y if author else one.y for one, _ in given]
        with torch.no_grad():
            p = copy.deepcopy(model).eval()(given[-1][1].x).logits.softmax(1)
        u = torch.tensor([naive_indicator(row, author) for row in p.tolist()]).double()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 1e-3 * 0.85 ** (15 * step)  # half of the training: 15 thirtieths
        torch.manual_seed(7)
        strategy.step(*first, Progress(step, 2, 0.1))
        torch.manual_seed(7)
        pairs = [[resized(part.x, 16) for part in pair] for pair in given]
        loss, d_loss = naive_step(strategy, networks, optimizers, pairs, labels, u, author)
        said = strategy.metrics()
        assert said["train/vae_loss"] == pytest.approx(loss, rel=1e-6)
        assert said["train/discriminator_loss"] == pytest.approx(d_loss, rel=1e-6)
        assert said["train/uncertainty"] == pytest.approx(u.mean().item(), rel=1e-6)
    for ours, naive in zip((strategy._vae, strategy._learner, strategy._discriminator), networks, strict=True):
        for a, b in zip(ours.parameters(), naive.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_rate_falls_after_each_thirtieth():
    strategy, _ = attached(vae_steps=1, lr=2e-3)
    pair = Batch(tuple("ab"), images(2, 1), torch.tensor([0, 1])), Batch(tuple("cd"), images(2, 2))
    for step, times in ((0, 0), (1, 0), (2, 1), (29, 14), (58, 29), (59, 29)):
        strategy.step(*pair, Progress(step, 60, 0.1))
        for optimizer in (strategy._vae_optimizer, strategy._discriminator_optimizer):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * 0.85**times)


def test_uncertainty_is_the_models_own_as_in_testing():
    """Neither neighbours nor dropout count, nothing is left behind, and each layer stays in its mode."""
    strategy, model = attached()
    model.train()
    model.encoder[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    x = images(6, 1)
    together = strategy._uncertainty(Batch(tuple("abcdef"), x))
    alone = torch.cat([strategy._uncertainty(Batch(("a",), one[None])) for one in x])
    torch.testing.assert_close(together, alone)
    assert not together.requires_grad
    assert_same(model.state_dict(), before, "the pass left a trace")
    assert [m.training for m in model.modules()] == modes
    with pytest.raises(RuntimeError, match="inside"), as_in_testing(model):
        raise RuntimeError("inside")
    assert [m.training for m in model.modules()] == modes


def test_networks_have_the_numbers_of_parameters_of_the_authors_code():
    model = ResNet().build(C, 3, (32, 32))
    strategy = SRAAL()
    strategy.attach(model, Classification(tuple("abcdefghij")), fake_setting(model))
    networks = strategy._vae, strategy._learner, strategy._discriminator
    assert [count_parameters(network) for network in networks] == [25_325_843, 368_394, 891_393]
    assert sum(map(count_parameters, (model, *networks))) == 37_759_592
    assert strategy._vae.decoder[0].in_features == 100 and strategy._learner[0].in_features == 100


def settle(vae, x):
    """Takes the BatchNorm statistics of these images, and leaves train mode: from now on mu is a function of an image alone."""
    with torch.no_grad():
        for _ in range(50):
            vae.encode(x)
    vae.eval()


def measured(strategy, x):
    for network in (strategy._vae, strategy._discriminator):
        network.eval()
    with torch.no_grad():
        return strategy.measure(Batch(tuple(f"x{i}" for i in range(len(x))), x)).score


@pytest.mark.parametrize("mode", ["fixed", "author"])
def test_score_is_minus_the_log_of_what_d_calls_labeled(mode):
    strategy, _ = attached(mode=mode)
    x = images(6, 3)
    score = measured(strategy, x)
    with torch.no_grad():
        d = strategy._discriminator(strategy._vae.encode(resized(x, 16))[0]).sigmoid()
    torch.testing.assert_close(score, -(1 - d if mode == "author" else d).log())


@pytest.mark.parametrize("mode", ["fixed", "author"])
def test_what_looks_least_labeled_and_uncertain_is_picked(mode):
    """Labeled images are bright, sure ones dark, unsure ones have stripes; D learns it from an encoder that stays as it is."""
    strategy, _ = attached(mode=mode, lr=1e-2)
    stripes = torch.ones(6).double()
    stripes[::2] = -1

    def kinds(n, seed):
        noise = 0.05 * images(3 * n, seed)
        return noise + torch.cat([torch.ones(n, 3, 6, 6), -torch.ones(n, 3, 6, 6), stripes.expand(n, 3, 6, 6)])

    x = resized(kinds(8, 0), 16)
    settle(strategy._vae, x)
    uncertainty = torch.tensor([0.0] * 8 + [0.9] * 8).double()
    for _ in range(80):
        strategy._discriminate((x[:8], x[8:]), uncertainty)
    score = measured(strategy, kinds(3, 1)).numpy()
    picks = select(strategy, Rows(tuple("abcdefghi"), np.zeros(9, dtype=bool), score), 9)
    # Labeled and sure images have the same target; of the unlabeled ones, only the unsure are to be told from labeled ones.
    assert set(picks.ids[:3]) == set("ghi")


def test_the_second_step_of_the_vae_has_its_own_labels_unless_as_published():
    seen = {}
    first = Batch(tuple("abcde"), images(5, 1), torch.tensor([2, 0, 1, 1, 0])), Batch(tuple("fghi"), images(4, 2))
    for mode in ("fixed", "author"):
        strategy, _ = attached(mode=mode)
        seen[mode] = []
        strategy._autoencode = lambda _images, y, mode=mode: seen[mode].append(y.tolist())
        strategy.step(*first, Progress(0, 1, 0.1))
    assert seen == {"fixed": [[2, 0, 1, 1, 0], [0, 1, 2, 0, 1]], "author": [[2, 0, 1, 1, 0]] * 2}


def test_the_learner_learns_the_labels():
    strategy, _ = attached(vae_steps=1, lr=1e-2)
    y = torch.arange(12) % 3
    x = images(12, 1) * 0.1
    x[torch.arange(12), y] += 1  # the colour is the class
    labeled, unlabeled = Batch(tuple("abcdefghijkl"), x, y), Batch(tuple("mnop"), images(4, 2))
    for step in range(70):
        strategy.step(labeled, unlabeled, Progress(step, 70, 0.1))
    with torch.no_grad():
        logits = strategy._learner(strategy._vae.encode(resized(x, 16))[0][:, 4:])
    assert F.cross_entropy(logits, y) < 0.5 and (logits.argmax(1) == y).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"latent": 7}, {"latent": 0}, {"width": 0}, {"vae_steps": 0}, {"size": 20}, {"reconstruction": -1.0},
        {"supervised": float("nan")}, {"lr": 0.0}, {"beta": -1.0},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = {fields[name]}"):
        SRAAL(**fields)


def test_an_unknown_mode_is_refused():
    strategy = SRAAL()
    strategy.mode = "other"
    with pytest.raises(ConfigError, match=r"strategy.mode = 'other': it must be fixed or author"):
        strategy.__post_init__()


def test_measuring_before_training_is_an_error():
    with pytest.raises(SelectionError, match="train with this object first"):
        SRAAL().measure(Batch(("a",), images(1, 0)))
    assert SRAAL().state() == {} and SRAAL().metrics() == {}
