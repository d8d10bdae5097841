"""What encoders of other packages share: weights from a file, and grey images for colour networks."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from mcdal.errors import ConfigError


def load_weights(encoder: nn.Module, head: nn.Module, path: str, classifiers: tuple[str, ...]) -> None:
    """A whole network's weights from a local file: all but the classifier into `encoder`, that into `head` if it fits.

    classifiers: what the file calls them, such as "fc". The first one counts, and is left out if it has another shape
    (other classes). ConfigError for a file that cannot be read, or, naming the keys, that does not fit the encoder.
    """
    weights = dict(read_weights(path))
    own = [{name: weights.pop(f"{c}.{name}", None) for name in ("weight", "bias")} for c in classifiers]
    fit_weights(encoder, weights, path)
    classifier = {name: value for name, value in own[0].items() if value is not None}
    if {name: value.shape for name, value in classifier.items()} == {k: v.shape for k, v in head.state_dict().items()}:
        head.load_state_dict(classifier)


def fit_weights(network: nn.Module, weights: Mapping[str, Tensor], path: str, spared: Collection[str] = ()) -> None:
    """These weights, all of them, into a network. ConfigError naming the keys, and the file they are from, unless they fit.

    spared: keys of the network that may be missing, and keep what they have. So may the counters of BatchNorm.
    """
    wanted = network.state_dict()
    needed = [key for key in wanted if key not in spared and not key.endswith("num_batches_tracked")]
    problems = {
        "missing": [key for key in needed if key not in weights],
        "unexpected": [key for key in weights if key not in wanted],
        "of another shape": [k for k, v in wanted.items() if k in weights and weights[k].shape != v.shape],
    }
    found = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in problems.items() if keys]
    if found:
        raise ConfigError(f"{path}: the weights do not fit this network: {'; '.join(found)}")
    network.load_state_dict(weights, strict=False)


def read_weights(path: str) -> Mapping[str, Tensor]:
    """The tensors of a .safetensors file or of torch's own (.pth, .pt: tensors only, no code in it is run)."""
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such file of weights")
    try:
        content = load_file(path) if path.endswith(".safetensors") else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a file that is something else can fail in any way
        raise ConfigError(f"{path}: not a readable file of weights: {error}") from error
    for nested in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(nested), dict):
            content = content[nested]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ConfigError(f"{path}: holds no state dict, that is tensors by name")
    return content


def check_channels(channels: int, who: str) -> None:
    """Networks for colour images take 3 channels, or 1 that is repeated."""
    if channels not in (1, 3):
        raise ConfigError(f"{who}: takes images of 1 or 3 channels, and these have {channels}")


def as_colour(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """A grey image becomes three equal channels; colour passes as it is."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
