"""Features of a recipe's pool, learned without a label, in a file that the field `features` takes: `mcdal embed`."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mcdal.checkpoint import Checkpoint
from mcdal.config import Config
from mcdal.errors import ConfigError
from mcdal.events import Listener, nobody
from mcdal.features import made_by, write_features
from mcdal.measuring import measure
from mcdal.models.base import Architecture
from mcdal.plan import decisive
from mcdal.pool.base import Pool, Source
from mcdal.settings import to_json
from mcdal.simclr import SimCLR, pretrain
from mcdal.strategies.base import Strategy
from mcdal.streams import own_randomness, stream
from mcdal.training import Training
from mcdal.values import Batch, Measurement


@dataclass(frozen=True)
class Embedding:
    """What is embedded by what: the parts of a recipe that matter here, and SimCLR's own fields."""

    source: Source
    """Where the images come from."""
    model: Architecture
    """The network whose features these are."""
    training: Training = field(default_factory=Training)
    """Of it only the arithmetic, `measure_batch_size` and `augment.flip` count."""
    simclr: SimCLR = field(default_factory=SimCLR)
    """How the network learns its features."""
    checkpoint_seconds: float = 60.0
    """How often the state of the training is kept. Has no effect on results."""

    @staticmethod
    def of(config: Config) -> "Embedding":
        return Embedding(config.source, config.model, config.training, checkpoint_seconds=config.checkpoint_seconds)

    def described(self, pool: Pool, seed: int) -> dict[str, object]:
        """What decides the numbers, flat, as it is kept in the file."""
        parts = {"source": to_json(self.source), "model": to_json(self.model), "simclr": to_json(self.simclr)}
        flip, precision = self.training.augment.flip, self.training.precision
        return decisive({**parts, "flip": flip, "precision": precision, "seed": seed, "data": pool.fingerprint})


def embed(
    embedding: Embedding, out: Path, cache: Path, *, device: str = "auto", seed: int = 0, listen: Listener = nobody
) -> Path:
    """Trains the encoder, and writes the features of every image of the pool to `out`: `ids` and `features` (n x d, float32).

    The same call continues what was interrupted; where `out` holds these very features, nothing is done. ConfigError where it
    holds others. cache: a folder for decoded images.
    """
    out = out.expanduser()
    if out.suffix.lower() != ".npz":
        raise ConfigError(f"--out {out}: features are written as .npz")
    numerics = embedding.training.numerics(device)
    pool = embedding.source.open(cache, listen)
    made = json.dumps(embedding.described(pool, seed), sort_keys=True, ensure_ascii=False)
    if out.exists():
        if made_by(out) != made:
            raise ConfigError(f"--out {out} is there already, with other features: give another --out, or remove it")
        listen("notice", text="nothing was left to do: these features were made before")
        return out
    with own_randomness():
        torch.manual_seed(stream(seed, "init"))
        model = embedding.model.build(len(pool.classes), *pool.shape)
    # Named by what it belongs to: after a changed setting the training begins anew.
    key = hashlib.sha256(made.encode()).hexdigest()[:8]
    keeper = Checkpoint(out.with_name(f"{out.name}.{key}.training.pt"), embedding.checkpoint_seconds)
    flip = embedding.training.augment.flip
    pretrain(model, pool, embedding.simclr, flip=flip, numerics=numerics, seed=seed, keeper=keeper, listen=listen)
    rows = measure(
        model, pool, {}, _Encoder(), numerics=numerics, batch_size=embedding.training.measure_batch_size, listen=listen
    )
    assert rows.vector is not None
    write_features(out, rows.ids, rows.vector[:], made)
    keeper.path.unlink(missing_ok=True)
    listen("notice", text=f"{out} has {rows.vector.shape[1]} features of each of {len(pool):,} images")
    return out


@dataclass
class _Encoder(Strategy):
    """Measures what the encoder gives, and picks nothing."""

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return Measurement(vector=batch.output.features)
