"""What goes on beside the people: picks a round, and once it is answered trains, tests and picks the next."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from mcdal.artifacts import Artifacts
from mcdal.campaign.definition import Opened, opened
from mcdal.campaign.ledger import Question
from mcdal.campaign.oracle import People
from mcdal.campaign.plans import plan_of
from mcdal.campaign.progress import State, state
from mcdal.device import Numerics
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody
from mcdal.loop import run
from mcdal.measuring import one_pass
from mcdal.models.base import Model
from mcdal.plan import Plan
from mcdal.pool.base import Pool, UnlabeledView
from mcdal.store import Store
from mcdal.streams import own_randomness
from mcdal.windows import forward


def train(folder: Path, device: str = "auto", listen: Listener = nobody) -> State:
    """Plays the campaign as far as answers reach; asks for the next ones with a guess and reasons beside each image."""
    with opened(folder) as campaign:
        before = state(campaign)
        if before != "full":
            return before
        if campaign.ledger.last_round() is not None and not campaign.ledger.progress().labels:
            raise CampaignError(f"{folder}: no image has a label, so there is nothing to learn from: add images")
        store = Store(folder)
        try:
            plan = plan_of(campaign.campaign, folder)
            pools: list[Pool] = []

            def people(pool: Pool) -> People:
                pools.append(pool)
                return People(campaign.campaign, campaign.ledger, store, plan.run_id, pool)

            run(plan, folder, device=device, oracle=people, listen=listen)
            _explain(campaign, plan, pools[0], store, plan.config.training.numerics(device))
        finally:
            store.close()
        return state(campaign)


def _explain(campaign: Opened, plan: Plan, pool: Pool, store: Store, numerics: Numerics) -> None:
    """A guess for each image that is asked about now, and in words why it is. Audit images have neither."""
    rounds = store.rounds(plan.run_id)
    number = rounds[-1].round
    weights = Artifacts(campaign.folder / "runs" / plan.run_id).read_model(number - 1) if number else None
    if weights is None or rounds[-1].finished_at is not None:
        return
    there = frozenset(pool.images.ids)
    asked = [
        q
        for q in map(campaign.ledger.question, store.asked(plan.run_id, number))
        if q is not None and q.sample_id in there
    ]
    labels = {id: c for id, c in store.labels(plan.run_id, through=number - 1).items() if id in there}
    if not asked or not labels:
        return
    model = plan.config.model.build(len(pool.classes), *pool.shape)
    model.load_state_dict(weights)
    batch = plan.config.training.measure_batch_size
    p, z = _looked_at(model, pool, [pool.position(q.sample_id) for q in asked], numerics, batch)
    _, known = _looked_at(model, pool, [pool.position(id) for id in labels], numerics, batch)
    nearest = _nearest(z, known)
    given = list(labels.items())
    told = {}
    for question, row, near in zip(asked, p, nearest, strict=True):
        guess = int(row.argmax())
        like, value = given[near]
        why = _why(question, len(asked), plan.strategy_name, like, pool.classes[value])
        told[question.sample_id] = (guess, float(row[guess]), why)
    campaign.ledger.explain(told)


def _looked_at(
    model: Model, pool: Pool, places: Sequence[int], numerics: Numerics, batch_size: int
) -> tuple[Float[np.ndarray, "k c"], Float[np.ndarray, "k d"]]:
    """Class probabilities and features of these images of the pool."""
    numerics.place(model).eval()
    probabilities, features = [], []
    view = UnlabeledView(pool.images, np.array(places, dtype=np.int64))
    with own_randomness(), torch.inference_mode():
        for batch in one_pass(forward(model, None, stages=False), pool, view, numerics, batch_size, None):
            assert batch.output is not None
            probabilities.append(batch.output.logits.float().softmax(1).cpu().numpy())
            features.append(batch.output.features.float().cpu().numpy())
    return np.concatenate(probabilities), np.concatenate(features)


def _nearest(z: Float[np.ndarray, "k d"], known: Float[np.ndarray, "l d"]) -> Int[np.ndarray, " k"]:
    """Of each row the most similar known one, by cosine."""
    one, other = (a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12) for a in (z, known))
    nearest: Int[np.ndarray, " k"] = (one @ other.T).argmax(1)
    return nearest


def _why(question: Question, asked: int, strategy: str, near: str, name: str) -> list[str]:
    return [
        f"Asked for in round {question.round}, as number {question.rank + 1} of {asked}, by {strategy}.",
        f"Of what is labeled it looks most like {near}, which is {name}.",
    ]
