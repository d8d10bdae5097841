"""DAAL, as reconstructed, against its losses and its determinant written naively."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.networks.dpp import log_dpp
from mcdal.networks.dual_adversarial import SCORE, DualAdversary, FeatureVAE, Weights
from mcdal.strategies.daal import DAAL, _Standardized
from mcdal.values import Rows

SMALL = {"passes": 2, "batch_size": 16, "width": 6, "latent": 3}
D = 5


def rows(n=60, labels=20, seed=0):
    """Features in two clusters, of which one is labeled."""
    random = np.random.default_rng(seed)
    labeled = np.arange(n) < labels
    vector = random.normal(size=(n, D)) + 2 * (np.arange(n) < 2 * labels)[:, None]
    ids = tuple(f"x{i:03d}" for i in random.permutation(n))
    return Rows(ids, labeled, vector=vector.astype(np.float32), y=np.where(labeled, 0, -1))


def naive_kernel(q, x):
    unit = [v / v.norm() for v in x]
    return torch.stack([torch.stack([q[i] * q[j] * (unit[i] @ unit[j]) for j in range(len(q))]) for i in range(len(q))])


def naive_log_dpp(q, x, size, jitter=1e-4):
    kernel, chosen = naive_kernel(q, x), sorted(range(len(q)), key=lambda i: -q[i])[:size]
    subset = torch.stack([torch.stack([kernel[i, j] for j in chosen]) for i in chosen])
    subset = subset + jitter * torch.eye(size).double()
    return torch.log(torch.det(subset) / torch.det(kernel + torch.eye(len(q)).double()))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 3, 7, 9])
def test_log_dpp_is_a_ratio_of_determinants(size):
    q, x = drawn(7).sigmoid(), drawn(7, 4, seed=1)
    torch.testing.assert_close(log_dpp(q, x, size), naive_log_dpp(q, x, min(size, 7)), rtol=1e-9, atol=1e-9)


def test_log_dpp_is_a_distribution_over_all_subsets():
    """det(L_S) summed over all subsets is det(L + I)."""
    q, x = drawn(5).sigmoid(), drawn(5, 4, seed=1)
    kernel = naive_kernel(q, x)
    subsets = [list(s) for k in range(1, 6) for s in combinations(range(5), k)]
    total = 1 + sum(torch.det(kernel[s][:, s]) for s in subsets)
    best = q.topk(2).indices
    expected = torch.log(torch.det(kernel[best][:, best]) / total)
    assert log_dpp(q, x, 2, jitter=0.0).item() == pytest.approx(expected.item(), rel=1e-9)


def test_log_dpp_prefers_vectors_that_are_unlike_each_other():
    q, axes = torch.tensor([0.9, 0.8, 0.1]), torch.eye(3)
    alike = axes[[0, 0, 2]] + 0.1 * axes[[0, 1, 2]]
    assert log_dpp(q, axes, 2) > log_dpp(q, alike, 2) + 1


@pytest.mark.parametrize("n", [2, 128])
def test_log_dpp_of_equal_vectors_and_of_zeros_is_finite_with_its_gradient(n):
    for x in (torch.ones(n, 3), torch.zeros(n, 3)):
        q = torch.full((n,), 0.999).requires_grad_()
        log_p = log_dpp(q, x, n)
        log_p.backward()
        assert log_p.dtype is torch.float32
        assert torch.isfinite(log_p) and torch.isfinite(q.grad).all()


def test_shapes_are_those_that_are_known():
    assert len(SCORE) == 5
    networks = adversary()
    linear = [m for m in networks.score_net.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [256, 256, 128, 64, 1] and linear[0].in_features == D
    assert str(networks.u_dis) == str(networks.r_dis) == str(networks.score_net)
    vae = FeatureVAE(D, latent=3, width=6, dropout=0.4)
    for half, ends in ((vae.encoder, (D, 6)), (vae.decoder, (3, D))):
        layers = [m for m in half if isinstance(m, nn.Linear)]
        assert len(layers) == 7 and (layers[0].in_features, layers[-1].out_features) == ends
        assert [m.p for m in half if isinstance(m, nn.Dropout)] == [0.4] * 6
        assert isinstance(half[-1], nn.Linear)


def adversary(weights=None, share=0.3, lr=1e-3, seed=0):
    """In float64, whose optimizers hold the same parameters."""
    torch.manual_seed(seed)
    networks = DualAdversary(D, 3, 6, 0.0, share, lr, weights or Weights())
    for network in (networks.score_net, networks.u_dis, networks.r_dis, networks.vae):
        network.double()
    return networks


def naive_gan(u_dis, r_dis, x_l, x_u, certain, representative):
    """L_GAN = E log uDis(x_l) + E log(1 - uDis(x^)) + E log rDis(x_u) + E log(1 - rDis(x~))."""
    say = lambda net, x: 1 / (1 + (-net(x)[:, 0]).exp())  # noqa: E731
    terms = say(u_dis, x_l), 1 - say(u_dis, certain), say(r_dis, x_u), 1 - say(r_dis, representative)
    return sum(sum(p.log() for p in term) / len(term) for term in terms)


def naive_kl(mu, logvar):
    return sum(0.5 * (v.exp() + m**2 - 1 - v) for m, v in zip(mu.flatten(), logvar.flatten(), strict=True)) / len(mu)


def naive_step(nets, optimizers, x_l, x_u, share, w):
    """The discriminators ascend L_GAN, then ScoreNet and the VAE descend the sum of the known terms."""
    score_net, vae, u_dis, r_dis = nets
    s = 1 / (1 + (-score_net(x_u)[:, 0]).exp())
    made = []
    for part in (1 - s, s):
        mu, logvar = vae.encoder(torch.stack([part[i] * x_u[i] for i in range(len(x_u))])).split(3, dim=1)
        made.append((vae.decoder(mu + (logvar / 2).exp() * torch.randn_like(mu)), mu, logvar))
    critics = -naive_gan(u_dis, r_dis, x_l, x_u, made[0][0].detach(), made[1][0].detach())
    optimizers[1].zero_grad()
    critics.backward()
    optimizers[1].step()
    squares = sum(((x - x_u) ** 2).sum() for x, _, _ in made) / 2 / x_u.numel()
    prior = sum(naive_kl(mu, logvar) for _, mu, logvar in made) / D
    size = max(1, round(share * len(x_u)))
    loss = w.adversarial * naive_gan(u_dis, r_dis, x_l, x_u, made[0][0], made[1][0])
    loss = loss + w.prior * prior + w.reconstruction * squares + w.sparsity * abs(share - sum(s) / len(s))
    loss = loss - w.dpp * naive_log_dpp(s, x_u, size) / len(x_u)
    optimizers[0].zero_grad()
    loss.backward()
    optimizers[0].step()


def test_step_is_the_discriminators_then_score_net_and_vae():
    weights = Weights(adversarial=0.7, prior=1.3, reconstruction=0.9, sparsity=2.0, dpp=0.6)
    networks = adversary(weights)
    nets = [copy.deepcopy(n) for n in (networks.score_net, networks.vae, networks.u_dis, networks.r_dis)]
    optimizers = [torch.optim.Adam([p for n in part for p in n.parameters()], 1e-3) for part in (nets[:2], nets[2:])]
    for step in range(3):
        x_l, x_u = drawn(4, D, seed=step), drawn(6, D, seed=10 + step)
        torch.manual_seed(step)
        networks.step(x_l, x_u)
        torch.manual_seed(step)
        naive_step(nets, optimizers, x_l, x_u, 0.3, weights)
    ours = networks.score_net, networks.vae, networks.u_dis, networks.r_dis
    for mine, naive in zip(ours, nets, strict=True):
        for a, b in zip(mine.parameters(), naive.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_sparsity_takes_the_mean_score_to_the_share_to_pick(share):
    networks = adversary(Weights(0.0, 0.0, 0.0, 1.0, 0.0), share, lr=3e-3)
    x = drawn(16, D)
    before = networks.score_logits(x).sigmoid().mean().item()
    for _ in range(60):
        networks.step(x, x)
    after = networks.score_logits(x).sigmoid().mean().item()
    assert abs(before - share) > 0.25 and abs(after - share) < 0.05


def test_picks_are_the_largest_scores():
    given = rows()
    picks = select(DAAL(**SMALL), given, 40)
    assert sorted(picks.ids) == sorted(given.unlabeled().ids)
    assert (np.diff(picks.score) <= 0).all() and 0 < picks.score[-1] < picks.score[0] < 1
    assert picks.score.dtype == np.float64 and len(set(picks.score.tolist())) == 40


def test_the_trained_score_net_gives_the_score(monkeypatch):
    given, kept = rows(), []
    train = DAAL._train
    monkeypatch.setattr(DAAL, "_train", lambda self, *args: kept.append(train(self, *args)) or kept[-1])
    monkeypatch.setattr("mcdal.strategies.daal.AT_ONCE", 16)
    picks = select(DAAL(**SMALL), given, 9)
    assert kept[0]._share == 9 / 40
    vector = given.vector.astype(np.float64)
    z = torch.from_numpy(((vector - vector.mean(0)) / vector.std(0)).astype(np.float32))
    with torch.no_grad():
        s = dict(zip(given.ids, kept[0].score_logits(z).double().sigmoid().tolist(), strict=True))
    free = given.unlabeled().ids
    assert picks.ids == tuple(sorted(free, key=lambda id: -s[id])[:9])
    np.testing.assert_allclose(picks.score, [s[id] for id in picks.ids], rtol=1e-5)


def test_the_last_bits_do_not_depend_on_the_order_of_the_rows():
    given = rows()
    moved = given.take(np.random.default_rng(3).permutation(60))
    one, two = (select(DAAL(**SMALL), r, 40, seed=4) for r in (given, moved))
    assert one.ids == two.ids
    np.testing.assert_array_equal(one.score, two.score)
    assert not np.array_equal(select(DAAL(**SMALL), given, 40, seed=5).score, one.score)


def test_a_pass_sees_each_unlabeled_feature_once(monkeypatch):
    seen = []
    monkeypatch.setattr(DualAdversary, "step", lambda _self, x_l, x_u: seen.append((len(x_l), x_u)))
    given = rows()
    select(DAAL(**SMALL), given, 5)
    assert [(labeled, len(x)) for labeled, x in seen] == [(16, 16), (16, 16), (8, 8)] * 2
    one, two = (torch.cat([x for _, x in part]) for part in (seen[:3], seen[3:]))
    assert len(one.unique(dim=0)) == 40 and not torch.equal(one, two)
    torch.testing.assert_close(one.unique(dim=0), two.unique(dim=0))


def test_features_are_standardized_and_a_constant_says_nothing():
    vector = (np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 0] + [1e4, -5, 2]).astype(np.float32)
    z = _Standardized(vector, np.arange(50))[np.arange(50)]
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z.std(0, correction=0), [1, 1, 0], rtol=1e-3)


def test_vectors_may_be_mapped_from_a_file(tmp_path):
    given = rows()
    np.save(tmp_path / "v.npy", given.vector)
    mapped = Rows(given.ids, given.labeled, vector=np.load(tmp_path / "v.npy", mmap_mode="r"), y=given.y)
    np.testing.assert_array_equal(select(DAAL(**SMALL), mapped, 9).score, select(DAAL(**SMALL), given, 9).score)


@pytest.mark.parametrize("name", ["passes", "batch_size", "latent", "width"])
def test_counts_below_1_are_refused(name):
    with pytest.raises(ConfigError, match=f"strategy.{name} = 0: give a number of at least 1"):
        DAAL(**{name: 0})


@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 0.0}, {"lr": float("nan")}, {"dropout": 1.0}, {"adversarial": -1.0}, {"prior": float("inf")},
        {"reconstruction": -0.5}, {"sparsity": float("nan")}, {"dpp": -1.0},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = {fields[name]}"):
        DAAL(**fields)


def test_wrong_input_is_named():
    with pytest.raises(SelectionError, match="no row is labeled"):
        select(DAAL(**SMALL), rows(labels=0), 3)
    given = rows()
    given.vector[4, 1] = np.nan
    with pytest.raises(SelectionError, match=f"features of '{given.ids[4]}' are not finite"):
        select(DAAL(**SMALL), given, 3)


def test_nothing_is_left():
    assert select(DAAL(**SMALL), rows(n=20), 3).ids == ()
