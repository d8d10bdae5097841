"""The scenes that a run on masks asked for last as tasks, with what its model draws for people to correct. Twice is as once."""

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mcdal import registry
from mcdal.artifacts import Artifacts
from mcdal.command import Command
from mcdal.errors import CampaignError, ConfigError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connect import SAMPLING, SKIPPED
from mcdal.label_studio.connection import (
    FILE_NAME,
    Connection,
    alone,
    read_connection,
    stamp_of,
    the_project,
    write_connection,
)
from mcdal.label_studio.http import Json
from mcdal.label_studio.masks import brushes
from mcdal.label_studio.questions import mcdal_id
from mcdal.label_studio.shapes import Control, masks_interface, read_interface
from mcdal.models.base import Model
from mcdal.pictures import png
from mcdal.plan import Plan, same_recipe
from mcdal.pool.base import LabeledView, Pool
from mcdal.showing import predict
from mcdal.store import RunRecord, Store

AT_ONCE = 20
"""Scenes that are predicted, sent and made into tasks together."""


@dataclass(frozen=True)
class Asked:
    """What the last round of a run asked for, most wanted first. model: that picked them; None in round 0."""

    plan: Plan
    pool: Pool
    round: int
    ids: tuple[str, ...]
    model: Model | None

    def score(self, place: int) -> float:
        """Between 0 and 1, less for what is asked earlier: Label Studio gives out what has the least."""
        return (self.round + (place + 1) / (len(self.ids) + 2)) / max(self.plan.config.protocol.planned, self.round + 1)

    def drawn(self, ids: Sequence[str]) -> Iterator[UInt8[np.ndarray, "h w"] | None]:
        """What the model says of these."""
        if self.model is None:
            yield from (None for _ in ids)
            return
        positions, training = np.array([self.pool.position(id) for id in ids]), self.plan.config.training
        shown = replace(self.pool, test=LabeledView(self.pool.images, positions, np.zeros(len(ids), dtype=np.int64)))
        said = predict(
            self.model, shown, np.arange(len(ids)), numerics=training.numerics("auto"),
            batch_size=training.measure_batch_size, window=training.window,
        )  # fmt: skip
        yield from said.astype(np.uint8)


@dataclass(frozen=True)
class PushedScenes:
    page: str
    round: int
    made: int
    there: int
    drawn: bool

    def lines(self) -> list[str]:
        said = [f"{self.page} round {self.round}: {self.made} new tasks, {self.there} were there already"]
        return said if self.drawn else [*said, "  the first round has no model yet: nothing is drawn"]


def push_scenes(out: Path, run_id: str, client: Client, project: int | None) -> PushedScenes:
    """To this project, or the one of before, or a new one. CampaignError for a run that has no masks, or cannot be opened."""
    asked = _asked(out, run_id)
    folder = out / "runs" / run_id
    with alone(folder):
        connection, found = _connected(folder, client, run_id, project, asked.pool.classes)
        control = _brush(found, asked.pool.classes)
        there = {mcdal_id(task) for task in client.tasks(connection.project)}
        new = [(place, id) for place, id in enumerate(asked.ids) if id not in there]
        for first in range(0, len(new), AT_ONCE):
            _make(asked, client, connection, control, new[first : first + AT_ONCE])
        # The last: Label Studio refuses the name of a model that has predicted nothing.
        settings = {"model_version": version(run_id), "sampling": SAMPLING, "show_collab_predictions": True}
        if any(found.get(name) != value for name, value in settings.items()):
            client.change_project(connection.project, settings)
    return PushedScenes(connection.page, asked.round, len(new), len(asked.ids) - len(new), asked.model is not None)


def version(run_id: str) -> str:
    """One name for all rounds: scores rise from round to round, and what is left of an earlier one stays first."""
    return f"mcdal {run_id}"


def _asked(out: Path, run_id: str) -> Asked:
    store = Store(out, create=False)
    try:
        record = store.run(run_id)
        if record is None:
            raise CampaignError(f"there is no run {run_id} in {out}: `mcdal status --out {out}` lists them")
        if record.config.get("task") != "segmentation":
            raise CampaignError(
                f"the run {run_id} asks for classes, not for masks: `mcdal campaign` lets people give those"
            )
        rounds = store.rounds(run_id)
        if not rounds:
            raise CampaignError(f"the run {run_id} has asked for nothing yet: let it begin its first round")
        last = rounds[-1].round
        ids = store.asked(run_id, last)
    finally:
        store.close()
    plan = _plan(record)
    pool = plan.config.open(out / "cache", plan.config.training.numerics("auto"))
    if pool.fingerprint != record.data_fingerprint:
        raise CampaignError(f"the images or masks of {run_id} are others than when it was begun: restore them")
    return Asked(plan, pool, last, tuple(ids), _model(out, plan, pool, last))


def _plan(record: RunRecord) -> Plan:
    """The run as it was begun. CampaignError where that cannot be told from the record."""
    settings = tuple(f"{name}={value}" for name, value in record.overrides.items())
    try:
        takes = inspect.signature(registry.load("recipes", record.recipe)).parameters
        data = record.config["source"].get("data") if "data" in takes else None
        scale = record.scale if "scale" in takes else None
        where = None if data is None else Path(data)
        plan = Command(record.recipe, where, record.strategy, None, record.seed, scale, settings).plan()
    except ConfigError as error:
        raise CampaignError(f"the run {record.run_id} cannot be opened as it was begun: {error}") from error
    if plan.run_id != record.run_id or not same_recipe(record.config, plan.config):
        raise CampaignError(
            f"the recipe {record.recipe} is another one than when {record.run_id} was begun: restore it"
        )
    return plan


def _model(out: Path, plan: Plan, pool: Pool, last: int) -> Model | None:
    """Of the round before: it has not seen what it was asked for."""
    if last == 0:
        return None
    weights = Artifacts(out / "runs" / plan.run_id).read_model(last - 1)
    if weights is None:
        raise CampaignError(f"the model of round {last - 1} of {plan.run_id} is not in {out}: copy the whole folder")
    model = plan.config.model.build(len(pool.classes), *pool.shape)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CampaignError(
            f"the model of round {last - 1} of {plan.run_id} does not fit its recipe: {error}"
        ) from error
    return model


def _connected(
    folder: Path, client: Client, run_id: str, project: int | None, classes: Sequence[str]
) -> tuple[Connection, Json]:
    before = read_connection(folder) if (folder / FILE_NAME).exists() else None
    if project is None and before is not None:
        if before.url != client.url:
            raise CampaignError(
                f"this run was pushed to {before.page}: give --url {before.url}, or the --project to take"
            )
        return before, the_project(client, before)
    found = client.project(project) if project is not None else client.make_project(_new(run_id, classes))
    _brush(found, classes)
    made = Connection(client.url, int(found["id"]), stamp_of(found))
    write_connection(folder, made)
    return made, found


def _new(run_id: str, classes: Sequence[str]) -> Json:
    title, interface = f"mcdal {run_id}"[:50], masks_interface(classes, ["brushlabels"])
    return {"title": title, "label_config": interface, "maximum_annotations": 1, "skip_queue": SKIPPED}


def _brush(project: Json, classes: Sequence[str]) -> Control:
    """What the masks are drawn with. CampaignError where the project has no such control, or not for these classes."""
    interface = read_interface(project["label_config"])
    found = [control for control in interface.of_kind("brushlabels") if interface.images[control.to_name] == "image"]
    if len(found) != 1:
        raise CampaignError(
            f'the project\'s labeling interface has {len(found)} <BrushLabels> for an <Image value="$image">, not one'
        )
    shown = {*found[0].names, *found[0].names.values()}
    if missing := [name for name in classes if name not in shown]:
        raise CampaignError(f"the project's labeling interface lacks the labels {', '.join(missing)}: add them")
    return found[0]


def _make(
    asked: Asked, client: Client, connection: Connection, control: Control, part: Sequence[tuple[int, str]]
) -> None:
    ids = [id for _, id in part]
    names = {id: hashlib.blake2b(id.encode(), digest_size=10).hexdigest() + ".png" for id in ids}
    pictures = [(names[id], png(asked.pool.images.picture(asked.pool.position(id))), "image/png") for id in ids]
    sent = client.upload(connection.project, pictures)
    tasks = [
        {
            "data": {"image": sent[names[id]], "mcdal_id": id, "mcdal_rank": place, "mcdal_round": asked.round},
            "predictions": [
                {
                    "model_version": version(asked.plan.run_id), "score": asked.score(place),
                    "result": [] if mask is None else brushes(mask, asked.pool.classes, control),
                }
            ],
        }
        for (place, id), mask in zip(part, asked.drawn(ids), strict=True)
    ]  # fmt: skip
    client.import_tasks(connection.project, tasks)
