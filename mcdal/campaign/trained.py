"""The model of one round of a campaign, ready to look at images as they are now: in float32, whatever it was trained in."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from mcdal.artifacts import Artifacts
from mcdal.campaign.definition import Opened
from mcdal.campaign.plans import plan_of
from mcdal.device import Numerics
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody
from mcdal.inputs import Inputs
from mcdal.measuring import one_pass
from mcdal.models.base import Model
from mcdal.plan import Plan
from mcdal.pool.base import Images, Pool, UnlabeledView
from mcdal.store import RoundRecord, Store
from mcdal.values import Ids

OLD = (
    "round {} was trained by an mcdal that did not keep how its images were normalised: it is taken from today's images, and "
    "differs where images came or went since"
)


@dataclass(frozen=True)
class RoundModel:
    """pool: as the model sees it. notes: what whoever uses it should know."""

    plan: Plan
    record: RoundRecord
    inputs: Inputs
    model: Model
    pool: Pool
    numerics: Numerics
    notes: tuple[str, ...] = ()

    @property
    def round(self) -> int:
        return self.record.round

    def logits(self, images: Images, positions: np.ndarray) -> Iterator[tuple[Ids, Float[np.ndarray, "b c"]]]:
        """Of these images, some at a time, in their order."""
        batch_size = self.plan.config.training.measure_batch_size
        view = UnlabeledView(images, positions)
        self.numerics.place(self.model).eval()
        batches = one_pass(self.model, self.pool, view, self.numerics, batch_size, None)
        while True:
            with torch.inference_mode():
                batch = next(batches, None)
            if batch is None:
                return
            assert batch.output is not None
            yield batch.ids, batch.output.logits.float().cpu().numpy()


def round_model(
    campaign: Opened, round: int | None = None, device: str = "auto", listen: Listener = nobody
) -> RoundModel:
    """Of this finished round, or of the newest. CampaignError where there is none."""
    store = Store(campaign.folder, create=False)
    try:
        record = _finished(campaign, store, round)
    finally:
        store.close()
    plan = plan_of(campaign.campaign, campaign.folder)
    artifacts = Artifacts(campaign.folder / "runs" / campaign.run_id)
    weights, inputs = artifacts.read_model(record.round), artifacts.read_inputs(record.round)
    if weights is None:
        raise CampaignError(
            f"the model of round {record.round} is not in {artifacts.folder} any more: take another round"
        )
    numerics = replace(plan.config.training, precision="float32", compile=False, replay=False).numerics(device)
    pool = plan.config.open(campaign.folder / "cache", numerics, listen)
    notes: tuple[str, ...] = ()
    if inputs is None:
        inputs, notes = _of_today(pool, weights), (OLD.format(record.round),)
    channels, height, width = inputs.shape
    model = plan.config.model.build(len(inputs.classes), channels, (height, width))
    model.load_state_dict(weights)
    return RoundModel(plan, record, inputs, model, inputs.on(pool), numerics, notes)


def _finished(campaign: Opened, store: Store, round: int | None) -> RoundRecord:
    finished = [record for record in store.rounds(campaign.run_id) if record.finished_at is not None]
    if not finished:
        raise CampaignError(
            f"{campaign.folder}: no round is trained yet; `mcdal campaign serve` trains when one is answered"
        )
    if round is None:
        return finished[-1]
    found = next((record for record in finished if record.round == round), None)
    if found is None:
        raise CampaignError(f"--round {round}: trained are the rounds 0 to {finished[-1].round}")
    return found


def _of_today(pool: Pool, weights: dict[str, torch.Tensor]) -> Inputs:
    """As if it had been trained on the pool of today; classes that were added since are not of it."""
    inputs = Inputs.of(pool)
    return replace(inputs, classes=inputs.classes[: len(weights["head.bias"])])
