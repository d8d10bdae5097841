"""VAAL against its two losses written number by number, in the corrected and in the published form."""

import copy
from dataclasses import dataclass, replace
from functools import partial
from math import exp, log

import numpy as np
import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.models.base import count_parameters
from mcdal.models.resnet import ResNet
from mcdal.networks.discriminator import Discriminator
from mcdal.networks.own_steps import Pairs
from mcdal.networks.vae import VAE, kl_to_normal, resized
from mcdal.strategies.vaal import VAAL
from mcdal.tasks.classification import Classification
from mcdal.testing import NUMERICS, FakeModel, KeepOne, fake_pool, fake_setting, fake_trained, fake_training
from mcdal.training import train
from mcdal.values import Batch, Progress, Rows
from tests.strategies.batches import images, source

SMALL = {"width": 2, "size": 16, "latent": 4}


def attached(**fields):
    torch.manual_seed(0)
    model = FakeModel(3).double()
    strategy = VAAL(**(SMALL | fields))
    strategy.attach(model, Classification(("a", "b", "c")), replace(fake_setting(model), batches=source))
    return strategy, model


def naive_kl(mu, logvar):
    """KL(N(mu, e^logvar) | N(0, 1)) = 1/2 sum_d (e^logvar_d + mu_d^2 - 1 - logvar_d)."""
    return sum(0.5 * (logvar[d].exp() + mu[d] ** 2 - 1 - logvar[d]) for d in range(len(mu)))


def naive_bce(logits, target):
    d = 1 / (1 + (-logits).exp())
    return sum(-target * p.log() - (1 - target) * (1 - p).log() for p in d) / len(d)


def naive_elbo(x, seen, mode):
    n = len(x)
    kl = [naive_kl(m, v) for m, v in zip(seen.mu, seen.logvar, strict=True)]
    squares = [((made - given) ** 2).sum() for made, given in zip(seen.image, x, strict=True)]
    if mode == "author":  # a mean over all numbers beside a sum over the batch
        return sum(squares) / x.numel() + sum(kl)
    return sum(squares) / n + sum(kl) / n


def naive_step(vae, d, optimizers, pairs, mode, adversarial):
    """The VAE on every pair, then D on the last."""
    for labeled, unlabeled in pairs:
        seen = [vae(labeled), vae(unlabeled)]
        loss = naive_elbo(labeled, seen[0], mode) + naive_elbo(unlabeled, seen[1], mode)
        loss = loss + adversarial * (naive_bce(d(seen[0].mu), 1) + naive_bce(d(seen[1].mu), 1))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    with torch.no_grad():
        mu = [vae.encode(x)[0] for x in pairs[-1]]
    d_loss = naive_bce(d(mu[0]), 1) + naive_bce(d(mu[1]), 0)
    optimizers[1].zero_grad()
    d_loss.backward()
    optimizers[1].step()
    return loss.item(), d_loss.item()


@pytest.mark.parametrize("mode", ["fixed", "author"])
@pytest.mark.parametrize("vae_steps", [1, 2, 3])
def test_step_is_the_published_order_of_updates(mode, vae_steps):
    strategy, _ = attached(mode=mode, vae_steps=vae_steps, adversarial=0.7, lr=1e-3)
    vae, d = copy.deepcopy(strategy._vae), copy.deepcopy(strategy._discriminator)
    optimizers = torch.optim.Adam(vae.parameters(), 1e-3), torch.optim.Adam(d.parameters(), 1e-3)
    labeled, unlabeled = Batch(tuple("abcde"), images(5, 1), torch.zeros(5).long()), Batch(tuple("fghi"), images(4, 2))
    more = list(zip(*(source(kind, "vaal", 0) for kind in (True, False)), strict=True))
    for step in range(2):
        pairs = [(labeled, unlabeled), *more[step * (vae_steps - 1) : (step + 1) * (vae_steps - 1)]]
        pairs = [[resized(part.x, 16) for part in pair] for pair in pairs]
        torch.manual_seed(7)
        strategy.step(labeled, unlabeled, Progress(step, 2, 0.1))
        torch.manual_seed(7)
        loss, d_loss = naive_step(vae, d, optimizers, pairs, mode, adversarial=0.7)
        assert strategy.metrics()["train/vae_loss"] == pytest.approx(loss, rel=1e-9)
        assert strategy.metrics()["train/discriminator_loss"] == pytest.approx(d_loss, rel=1e-9)
    # Adam divides by the size of a gradient: where that is rounding alone, as of a bias before BatchNorm, so is its step.
    for ours, naive in ((strategy._vae, vae), (strategy._discriminator, d)):
        for a, b in zip(ours.parameters(), naive.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_published_kl_is_too_heavy_by_the_numbers_of_a_batch():
    """The ratio of the KL's weight to that of the squared error: 128 x 3,072 times the corrected one at 32 x 32."""
    x = torch.zeros(8, 3, 16, 16).double()

    def weights(mode):
        strategy, _ = attached(mode=mode)
        seen = strategy._vae(x)
        only_kl = strategy._elbo(seen.image.detach(), seen._replace(image=seen.image.detach()))
        squares = strategy._elbo(x, seen) - only_kl
        return (only_kl / kl_to_normal(seen.mu, seen.logvar).sum(), squares / seen.image.square().sum())

    (kl, square), (published_kl, published_square) = weights("fixed"), weights("author")
    assert (published_kl / published_square).item() == pytest.approx(8 * 3 * 16 * 16 * (kl / square).item(), rel=1e-9)


def trained(mode):
    pool = fake_pool()
    truth = pool.truth()
    torch.manual_seed(0)
    strategy = VAAL(mode=mode, width=4, size=16, latent=8, lr=2e-3)
    labels = {id: truth[id] for id in sorted(pool.images.ids)[:20]}
    return train(FakeModel(3), pool, labels, strategy, fake_training(epochs=10), numerics=NUMERICS).metrics


def test_published_scales_collapse_the_latent_vectors_and_corrected_ones_do_not():
    """The mean KL bounds what mu and sigma say of an image, in nats, from above. Measured: 0.006 and 8.3."""
    author, fixed = trained("author"), trained("fixed")
    assert author["train/kl"] < 0.1 and fixed["train/kl"] > 3
    assert author["train/discriminator_loss"] == pytest.approx(2 * log(2), abs=0.03)


def test_networks_have_the_published_numbers_of_parameters():
    model = ResNet().build(10, 3, (32, 32))
    strategy = VAAL()
    strategy.attach(model, Classification(tuple("abcdefghij")), fake_setting(model))
    vae, d = strategy._vae, strategy._discriminator
    assert count_parameters(vae.trunk) == 11_020_032
    assert count_parameters(vae.to_mu) + count_parameters(vae.to_logvar) == 262_208
    assert count_parameters(vae.decoder) == 11_552_899
    assert count_parameters(vae) == 22_835_139 and count_parameters(d) == 280_065
    assert sum(map(count_parameters, (model, vae, d))) == 34_289_166


def test_layers_of_the_vae():
    vae = VAE(3, 32, width=2)
    shapes = []
    for module in vae.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(lambda _m, _i, made: shapes.append(tuple(made.shape[1:])))
    seen = vae(torch.randn(2, 3, 32, 32))
    down = [(2, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2), (32,), (32,)]
    assert shapes == [*down, (256,), (8, 8, 8), (4, 16, 16), (2, 32, 32), (3, 32, 32)]
    assert seen.image.min() < 0 < seen.image.max()  # linear at the end


def test_z_is_drawn_around_mu():
    vae = VAE(3, 4, width=1, size=16, decoded=2).double()
    nn.init.zeros_(vae.to_logvar.weight)
    nn.init.constant_(vae.to_logvar.bias, log(0.09))
    x = resized(images(6, 0), 16)
    torch.manual_seed(5)
    seen = vae(x)
    torch.manual_seed(5)
    torch.testing.assert_close(seen.z, seen.mu + 0.3 * torch.randn_like(seen.mu))
    torch.testing.assert_close(seen.image, vae.decoder(seen.z[:, :2]))


def test_kl_is_the_divergence_of_gaussians():
    mu, logvar = torch.tensor([[0.0, 0.0], [1.0, -2.0]]), torch.tensor([[0.0, 0.0], [0.5, -1.0]])
    by_hand = 0.5 * (exp(0.5) + 1 - 1 - 0.5) + 0.5 * (exp(-1) + 4 - 1 + 1)
    torch.testing.assert_close(kl_to_normal(mu, logvar), torch.tensor([0.0, by_hand]))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_normal(mu, logvar), expected)


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


def test_score_is_minus_log_d_and_does_not_tie_where_d_is_sure():
    strategy, _ = attached()
    x = images(6, 3)
    score = measured(strategy, x)
    with torch.no_grad():
        d = strategy._discriminator(strategy._vae.encode(resized(x, 16))[0]).sigmoid()
    torch.testing.assert_close(score, -d.log())
    strategy._vae.float()
    strategy._discriminator.float()
    for sure in (-60.0, 60.0):
        strategy._discriminator.layers[-1].weight.data.normal_()
        strategy._discriminator.layers[-1].bias.data.fill_(sure)
        score = measured(strategy, x.float())
        assert score.dtype is torch.float32 and len(set(score.tolist())) == 6 and score.min() > 0


@pytest.mark.parametrize("mode", ["fixed", "author"])
def test_what_looks_least_labeled_is_picked(mode):
    """Labeled images are bright, unlabeled ones dark; D learns it from an encoder that stays as it is."""
    strategy, _ = attached(mode=mode, lr=1e-2)
    bright, dark = resized(images(12, 0), 16) * 0.05 + 1, resized(images(12, 1), 16) * 0.05 - 1
    settle(strategy._vae, torch.cat([bright, dark]))
    for _ in range(60):
        strategy._discriminate((bright, dark))
    assert strategy.metrics()["train/discriminator_loss"] < 0.5
    x = torch.cat([images(4, 2) * 0.05 + 1, images(4, 3) * 0.05 - 1])
    rows = Rows(tuple("abcdefgh"), np.zeros(8, dtype=bool), measured(strategy, x).numpy())
    assert set(select(strategy, rows, 4).ids) == set("efgh")


def test_the_vae_makes_all_images_look_labeled_to_d():
    """Its adversarial term pushes both D(mu) up."""
    strategy, _ = attached(adversarial=1e6, lr=1e-2)
    pair = resized(images(6, 0), 16), resized(images(6, 1), 16)
    before = [strategy._discriminator(strategy._vae(x).mu).mean().item() for x in pair]
    for _ in range(5):
        strategy._autoencode(pair)
    after = [strategy._discriminator(strategy._vae(x).mu).mean().item() for x in pair]
    assert after[0] > before[0] and after[1] > before[1]


@dataclass
class Recording(VAAL):
    """Keeps which images each step of the VAE was given."""

    def _images(self, pair):
        self.__dict__.setdefault("given", []).append(tuple(batch.ids for batch in pair))
        return super()._images(pair)


def test_a_continued_training_gets_the_same_batches():
    """Eight steps of two pairs each; the second pairs come from orders of their own, which go on after step 5."""
    whole, keeper = fake_trained(Recording(**SMALL)).strategy.given, KeepOne(after=5)
    fake_trained(Recording(**SMALL), keeper)
    assert fake_trained(Recording(**SMALL), keeper).strategy.given == whole[10:]
    assert len(whole) == 16
    for part, n in ((0, 20), (1, 40)):
        assert len({pair[part] for pair in whole}) == 16
        own = [id for pair in whole[1::2] for id in pair[part]]
        assert len(set(own[:n])) == n  # without replacement within a pass


def test_pairs_go_on_where_they_were():
    given = Batch(("l",), images(1, 0)), Batch(("u",), images(1, 0))
    labeled, unlabeled = partial(source, True), partial(source, False)
    pairs = Pairs(labeled, unlabeled, "p", 3)
    whole = [[one.ids[0] for one, _ in pairs.of(*given, step)] for step in range(4)]
    assert whole[2] == ["l", "p True 4 0", "p True 5 0"]
    continued = Pairs(labeled, unlabeled, "p", 3)
    assert [one.ids[0] for one, _ in continued.of(*given, 3)] == whole[3]


def test_images_are_resized_unless_they_have_the_size():
    x = images(2, 0)
    assert resized(x, 6) is x
    assert resized(torch.full((1, 3, 40, 20), 0.25), 16).sub(0.25).abs().max() < 1e-6
    fine = torch.zeros(1, 1, 64, 64)
    fine[..., ::2] = 1.0
    assert resized(fine, 16)[..., 2:-2].sub(0.5).abs().max() < 0.01  # averaged, not sampled


def test_latent_vectors_and_logits_are_in_float32_under_autocast():
    d, vae = Discriminator(4, hidden=2), VAE(3, 4, width=1, size=16)
    with torch.autocast("cpu", torch.bfloat16):
        seen = vae(torch.randn(2, 3, 16, 16))
        assert seen.mu.dtype is seen.logvar.dtype is seen.image.dtype is d(seen.mu.bfloat16()).dtype is torch.float32


@pytest.mark.parametrize(
    "fields",
    [
        {"latent": 0}, {"width": 0}, {"vae_steps": 0}, {"size": 20}, {"size": 0}, {"adversarial": -1.0},
        {"adversarial": float("nan")}, {"lr": 0.0}, {"lr": float("inf")}, {"beta": -1.0},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = {fields[name]}"):
        VAAL(**fields)


def test_an_unknown_mode_is_refused():
    strategy = VAAL()
    strategy.mode = "other"
    with pytest.raises(ConfigError, match=r"strategy.mode = 'other': it must be fixed or author"):
        strategy.__post_init__()


def test_measuring_before_training_is_an_error():
    with pytest.raises(SelectionError, match="train with this object first"):
        VAAL().measure(Batch(("a",), images(1, 0)))
    assert VAAL().state() == {} and VAAL().metrics() == {}
