"""What goes on beside the people: picks a round, and once it is answered trains, tests and picks the next."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from mcdal.artifacts import Artifacts
from mcdal.campaign.definition import Opened, opened
from mcdal.campaign.ledger import Arm, Question
from mcdal.campaign.oracle import People
from mcdal.campaign.plans import plan_of
from mcdal.campaign.progress import State, finished_rounds, state
from mcdal.campaign.trials import Trials
from mcdal.campaign.wanted_trials import untried
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

REASONS: dict[Arm, str] = {
    "strategy": "", "easy": "The model is sure of it: an easy one, for a change.",
    "rare": "It may be of a class that was added.",
}  # fmt: skip
"""Of what may be seen with a guess. What is drawn, for the control or the audit, must look like the rest."""


NO_GUESS = 0.0
"""The confidence of a picked image that no guess can be made of, so that nobody tries again."""


def train(folder: Path, device: str = "auto", listen: Listener = nobody) -> State:
    """Plays the campaign as far as answers reach; what it asks next has a guess and reasons beside each image."""
    with opened(folder) as campaign:
        if campaign.joined:
            raise CampaignError(f"{folder} joined a campaign: train in the folder that it was begun in")
        if state(campaign) != "full" and not campaign.ledger.unexplained() and not _untried(campaign):
            return state(campaign)
        ledger = campaign.ledger
        audit = ledger.progress(arms=("audit",))
        if audit.asked and not audit.labels:
            raise CampaignError(f"{folder}: no audit image has a label, so accuracy cannot be told: add images")
        store = Store(folder)
        try:
            plan = plan_of(campaign.campaign, folder)
            pools: list[Pool] = []

            def people(pool: Pool) -> People:
                pools.append(pool)
                return People(campaign, store, pool)

            numerics = plan.config.training.numerics(device)
            run(plan, folder, device=device, oracle=people, listen=listen)
            with Artifacts(folder / "runs" / plan.run_id).only_process():  # as the run before
                if ledger.unexplained():
                    _explain(campaign, plan, pools[0], store, numerics)
                to_the_end = Trials(campaign, plan, pools[0], numerics, listen).play()
        finally:
            store.close()
        there = state(campaign)
    return there if to_the_end else train(folder, device, listen)


def _untried(campaign: Opened) -> bool:
    return untried(campaign, finished_rounds(campaign))


def _explain(campaign: Opened, plan: Plan, pool: Pool, store: Store, numerics: Numerics) -> None:
    """In words why an image is asked about, the same for all; a guess only for what the strategy picked.

    What accuracy, or the worth of a strategy, is judged by must be labeled without the model's opinion.
    """
    ledger, number = campaign.ledger, campaign.ledger.last_round() or 0
    asked = ledger.of_round(number) if number else []
    weights = Artifacts(campaign.folder / "runs" / plan.run_id).read_model(number - 1) if number else None
    if not asked:
        return
    known = store.labels(plan.run_id)
    there = pool.has([*known, *(q.sample_id for q in asked)])
    labels = [(id, c) for id, c in known.items() if id in there]
    guessed = [q for q in asked if q.arm in REASONS and q.sample_id in there]
    told: dict[str, tuple[int | None, float | None, list[str]]] = {
        q.sample_id: (None, NO_GUESS if q.arm in REASONS else None, [_place(q, len(asked))]) for q in asked
    }
    if guessed and labels and weights is not None:
        model = plan.config.model.build(len(pool.classes), *pool.shape)
        try:
            model.load_state_dict(weights)
        except RuntimeError:  # a class was added since: this round does without guesses
            ledger.explain(told)
            return
        batch = plan.config.training.measure_batch_size
        p, z = _looked_at(model, pool, [pool.position(q.sample_id) for q in guessed], numerics, batch)
        _, others = _looked_at(model, pool, [pool.position(id) for id, _ in labels], numerics, batch)
        scores = _scores(campaign, plan, number, store)
        for question, row, near in zip(guessed, p, _nearest(z, others), strict=True):
            like, value = labels[near]
            guess = int(row.argmax())
            why = [_place(question, len(asked)), REASONS[question.arm], scores.get(question.sample_id, "")]
            why.append(f"Of what is labeled it looks most like {like}, which is {pool.classes[value]}.")
            told[question.sample_id] = guess, float(row[guess]), [text for text in why if text]
    ledger.explain(told)


def _scores(campaign: Opened, plan: Plan, round: int, store: Store) -> dict[str, str]:
    """In words, of what was picked by a score, how high it is; empty where the strategy has none."""
    picked = store.picked_scores(plan.run_id, round)
    rows = Artifacts(campaign.folder / "runs" / plan.run_id).read_scores(round, tuple(picked))
    if rows is None:
        return {}
    others = np.sort(rows.score[~rows.labeled])
    lower = {id: 100 * float(np.searchsorted(others, score)) / len(others) for id, score in picked.items()}
    return {
        id: f"The strategy's score is {score:.3g}; {lower[id]:.1f} % of the unlabeled images have a lower one."
        for id, score in picked.items()
    }


def _place(question: Question, asked: int) -> str:
    return f"Number {question.rank + 1} of {asked} in round {question.round}."


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
