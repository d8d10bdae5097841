"""Monte-Carlo dropout: what the model says under several draws of its weights, the same draws for every sample."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model, apply_head
from mcdal.networks.heads import in_one_product
from mcdal.ranks import of_whole
from mcdal.softmax import softmax
from mcdal.streams import own_randomness, stream
from mcdal.tasks.base import Task
from mcdal.values import Batch, Output

AT_ONCE = 2**24
"""Numbers in the dropped features, or in the dropped weights, that are multiplied together: 64 MB in float32."""


class MonteCarloDropout:
    """`passes` draws w_1 ... w_T of the weights by dropout (Gal and Ghahramani 2016); all else is as in testing.

    rate: of dropout on the features before the head, in training too. Only the head's weights are drawn, so the encoder runs
    once. None: the model's own Dropout layers, with a full forward pass a draw.

    A draw is one mask for all samples, whatever batch they are in: each p_t is what one network says. The masks follow from a
    seed that `attach` draws, so a continued run has the same ones.
    """

    def __init__(self, passes: int, rate: float | None):
        if passes < 2:
            raise ConfigError(f"strategy.passes = {passes}: at least 2 draws of the weights are needed to differ")
        if rate is not None and not 0 < rate < 1:
            raise ConfigError(
                f"strategy.dropout = {rate}: give a rate between 0 and 1, or null for the model's own Dropout layers"
            )
        self.passes, self.rate = passes, rate
        self._model: Model | None = None

    def seeds(self) -> dict[str, int]:
        """What the masks follow from."""
        return {} if self._model is None else {"masks": self._seed}

    def attach(self, model: Model, task: Task) -> None:
        """Draws the seed of the masks from torch's global random state."""
        self._layers = {n: m for n, m in model.named_modules() if isinstance(m, _DropoutNd) and m.p > 0}
        if self.rate is None and not self._layers:
            raise ConfigError(
                f"strategy.dropout = null: {type(model).__name__} has no Dropout layer of its own; give a rate, such as "
                "0.5, for dropout before its head"
            )
        self._model, self._task = model, task
        self._seed = int(torch.randint(2**62, ()))
        self._known: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def extra_loss(self, batch: Batch, losses: Float[Tensor, " b"]) -> Tensor | None:
        """What turns the mean of `losses` into the mean loss under dropout; None where the model has its own dropout.

        In training each sample has a mask of its own, as usual.
        """
        if self.rate is None:
            return None
        assert self._model is not None and batch.output is not None and batch.y is not None
        features = batch.output.features
        blank = torch.empty(features.shape[:2], dtype=features.dtype, device=features.device)
        kept = of_whole(blank, torch.rand_like) >= self.rate
        dropped = features * _over_space(kept.to(features.dtype) / (1 - self.rate), features)
        said = Output(apply_head(self._model.head, dropped, batch.output.logits.shape[2:]), dropped)
        return self._task.losses(said.logits, batch.y).mean() - losses.mean()

    def probabilities(self, batch: Batch) -> Float[Tensor, "t b c *space"]:
        """p_t = softmax of what draw w_t says, t = 1 ... T."""
        if self._model is None:
            raise SelectionError("no dropout masks are drawn yet: train with this strategy first (`train` attaches it)")
        assert batch.output is not None
        if self.rate is None:
            logits = torch.stack([self._pass(batch.x, t) for t in range(self.passes)])
        else:
            logits = self._head_passes(batch.output.features, self.rate)
        return softmax(logits, 2)

    def one_by_one(self, batch: Batch) -> Iterator[Float[Tensor, "b c *space"]]:
        """The same one after the other, so that only one of them is held."""
        assert self._model is not None and batch.output is not None
        if self.rate is None:
            yield from (self._pass(batch.x, t).softmax(1) for t in range(self.passes))
            return
        features = batch.output.features.to(next(self._model.head.parameters()).dtype)
        for mask in self._masks(features, self.rate):
            dropped = features * _over_space(mask, features)
            yield apply_head(self._model.head, dropped, batch.output.logits.shape[2:]).softmax(1)

    def _masks(self, features: Float[Tensor, "b d *places"], rate: float) -> Float[Tensor, "t 1 d"]:
        """Of the features before the head, one a draw; what is kept is scaled up."""
        random = torch.Generator().manual_seed(stream(self._seed, "head"))
        kept = torch.rand(self.passes, features.shape[1], generator=random, dtype=torch.float64) >= rate
        return (kept.to(features.device, features.dtype) / (1 - rate)).unsqueeze(1)

    def _head_passes(self, features: Float[Tensor, "b d *places"], rate: float) -> Float[Tensor, "t b c *space"]:
        assert self._model is not None
        head = self._model.head
        features = features.to(next(head.parameters()).dtype)
        masks = self._masks(features, rate)
        if type(head) is nn.Linear and head.out_features <= len(features):  # else there are fewer features than weights
            return _linear_passes(head, features, masks)
        said = []
        for some in torch.split(masks, max(1, AT_ONCE // features.numel())):
            dropped = features * _over_space(some, features)  # t b d *space
            logits = apply_head(head, dropped.flatten(0, 1))
            said.append(logits.reshape(*dropped.shape[:2], *logits.shape[1:]))
        return torch.cat(said)

    def _pass(self, x: Float[Tensor, "b channels h w"], t: int) -> Float[Tensor, "b c *space"]:
        """The whole model with the t-th mask in each of its Dropout layers."""
        assert self._model is not None
        with self._dropping(t):
            # Not the compiled model, which may not see hooks that are newer than itself.
            output: Output = self._model.forward(x)
        return output.logits

    @contextmanager
    def _dropping(self, t: int) -> Iterator[None]:
        calls: Counter[str] = Counter()  # a layer may be used several times in a pass

        def hook(name: str, layer: _DropoutNd) -> torch.utils.hooks.RemovableHandle:
            def drop(_layer: nn.Module, given: tuple[Tensor, ...], _same: Tensor) -> Tensor:
                calls[name] += 1
                scale, shift = self._mask(layer, given[0], t, name, calls[name])
                return given[0] * scale + shift

            return layer.register_forward_hook(drop)

        handles = [hook(name, layer) for name, layer in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _mask(self, layer: _DropoutNd, x: Tensor, *address: str | int) -> tuple[Tensor, Tensor]:
        """(scale, shift) of one sample's shape: every kind of dropout is x -> scale x + shift once its mask is drawn."""
        key = (*address, *x.shape[1:], x.dtype, x.device)
        if key not in self._known:
            seed = stream(self._seed, *address)
            blank = torch.zeros(1, *x.shape[1:], dtype=torch.promote_types(x.dtype, torch.float32))
            zero, one = (_as_in_training(layer, image, seed) for image in (blank.clone(), blank + 1))
            self._known[key] = (one - zero).to(x), zero.to(x)
        return self._known[key]


def _linear_passes(
    head: nn.Linear, features: Float[Tensor, "b d"], masks: Float[Tensor, "t 1 d"]
) -> Float[Tensor, "t b c"]:
    """(z m_t) W' = z (W m_t)': a mask is the same for all samples, so the few rows of W are dropped and not the features."""
    with torch.autocast(features.device.type, enabled=False):
        said = []
        for some in torch.split(masks, max(1, AT_ONCE // head.weight.numel())):
            bias = None if head.bias is None else head.bias.expand(len(some), 1, -1)
            said.append(in_one_product(head.weight * some, bias, features))
    return said[0] if len(said) == 1 else torch.cat(said)


def _as_in_training(layer: _DropoutNd, x: Tensor, seed: int) -> Tensor:
    """What the layer makes of x, drawn from `seed` on the CPU; `forward` itself calls no hook."""
    layer.training = True
    try:
        with own_randomness():
            torch.manual_seed(seed)
            made: Tensor = layer.forward(x)
    finally:
        layer.training = False
    return made


def _over_space(mask: Float[Tensor, "*many d"], features: Float[Tensor, "b d *places"]) -> Float[Tensor, "..."]:
    """With an axis of 1 for each of space: a channel is dropped everywhere in the image, as a weight of the head would be."""
    return mask[(..., *(None,) * (features.ndim - 2))]
