"""`mcdal campaign ...`: a few lines each."""

from pathlib import Path
from typing import Annotated

import typer

from mcdal.errors import CampaignError
from mcdal.extras import with_web
from mcdal.options import Device
from mcdal.stopping import stoppable

app = typer.Typer(no_args_is_help=True, help="Labeling with people: they answer on a page, training goes on beside it.")

Folder = Annotated[Path, typer.Argument(help="Folder of the campaign.")]


@app.command()
def new(
    folder: Folder,
    images: Annotated[
        str, typer.Option("--images", help="Folder of the images, without labels; or a folder or URL of shards.")
    ],
    classes: Annotated[str, typer.Option("--classes", help="cat,dog,other; or a text file with a name a line.")],
    budget: Annotated[
        int | None, typer.Option("--budget", help="Labels in all, without those for the audit; or give --cost.")
    ] = None,
    start: Annotated[
        int | None, typer.Option("--start", help="Labels of the first round: a tenth, at least 10 a class.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Labels of each later round: a tenth of the budget.")
    ] = None,
    audit: Annotated[
        float, typer.Option("--audit", help="Wanted half width of the accuracy's 95 % interval, or a number of images.")
    ] = 0.05,
    audit_answers: Annotated[
        int,
        typer.Option("--audit-answers", min=1, max=5, help="People who label each audit image, if there are as many."),
    ] = 2,
    control: Annotated[
        float, typer.Option("--control", help="Share of each later batch that is drawn at random.")
    ] = 0.1,
    double: Annotated[float, typer.Option("--double", help="Share of the images that two people label.")] = 0.05,
    guesses: Annotated[bool, typer.Option("--guesses", help="People may see what the model guesses.")] = False,
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", help="A strategy's name, or my_file.py:NAME.")
    ] = "alfa_mix",
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="Train heads alone on this network's features.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Your own weights that each round starts from: .safetensors or .pt."),
    ] = None,
    scale: Annotated[str, typer.Option("--scale", help="full, or small for a processor.")] = "full",
    size: Annotated[int, typer.Option("--size", help="Side in pixels that the model sees images at.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Decides every random draw.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the run.")
    ] = None,
    near: Annotated[
        float | None,
        typer.Option("--near", help="Likeness from which a batch holds one of several images (0.97); 1: any."),
    ] = None,
    fan_out: Annotated[
        bool, typer.Option("--fan-out", help="Near-duplicates of a labeled image take over its label.")
    ] = False,
    easy: Annotated[
        float, typer.Option("--easy", help="Share of each later batch that the model is sure of, for a change.")
    ] = 0.0,
    per_group: Annotated[
        int | None, typer.Option("--per-group", help="Most images of one folder, or group, in a later batch.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option("--groups", help=".csv or .parquet with sample_id and group, instead of folders.")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", help=".csv or .parquet with sample_id and cost, in any unit.")
    ] = None,
    target: Annotated[float | None, typer.Option("--target", help="Accuracy that is enough, such as 0.9.")] = None,
    cost: Annotated[
        float | None, typer.Option("--cost", help="Money in all, audit and second answers included; or give --budget.")
    ] = None,
    price: Annotated[float | None, typer.Option("--price", help="Money for an answer.")] = None,
    wage: Annotated[float | None, typer.Option("--wage", help="Money for an hour of looking at images.")] = None,
    seconds_per_label: Annotated[
        float | None, typer.Option("--seconds-per-label", help="That a person is expected to look at an image.")
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", help="postgresql://user@host/name, for several servers.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="auto, parquet, tar, lance or files: images are read where they lie, not copied."),
    ] = None,
    image_column: Annotated[
        str | None, typer.Option("--image-column", help="Of shards: the column of images (image); of tars the ending.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id-column", help="Of shards: the column of stable ids; without it FILE:ROW.")
    ] = None,
) -> None:
    """Begin a campaign in a folder of its own."""
    from mcdal import console
    from mcdal.campaign.beginning import Asked, check_files, check_shards, class_names, notes, stock_of
    from mcdal.campaign.cost import affordable
    from mcdal.campaign.definition import Campaign
    from mcdal.campaign.plans import audit_size, begin, check
    from mcdal.likeness import NEAR
    from mcdal.settings import parse_settings

    given = parse_settings([*(settings or []), *([] if weights is None else [f"weights={weights.resolve()}"])])
    names = class_names(classes)
    asked = Asked(images, kind, image_column, id_column)
    with stoppable(), console.listener(False, False) as listen:
        stock = stock_of(asked, folder, listen)
    groups, costs = (None if file is None else file.expanduser().resolve() for file in (groups, costs))
    check_files(stock, groups, costs, per_group)
    kept = audit_size(audit)
    if budget is None:
        if cost is None:
            raise CampaignError("give --budget, the number of labels, or --cost with --price or --wage")
        budget = affordable(cost, seconds_per_label, wage, price, kept * audit_answers, double)
    first = start or max(10 * len(names), budget // 10)
    left = len(stock) - kept
    if budget > left:
        raise CampaignError(
            f"{images} has {len(stock)} images; {kept} of them are for the audit, which leaves {max(0, left)} for a budget of "
            f"{budget}: lower --budget or --audit"
        )
    campaign = Campaign(
        folder.resolve().name, asked.local or images, budget, min(first, budget), batch or max(1, budget // 10), kept,
        stock.audit_bound(seed, kept), control, double, guesses, strategy, encoder, scale, size, seed,
        tuple(given.items()), target, cost, price, wage, seconds_per_label,
        near=None if near == 1 else NEAR if near is None else near,
        fan_out=fan_out, easy=easy, per_group=per_group, groups=groups, costs=costs,
        classes=len(names), audit_answers=audit_answers,
        kind=stock.kind, image_column=image_column or "image", id_column=id_column,
    )  # fmt: skip
    check(campaign, folder, names)
    with stoppable(), console.listener(False, False) as listen:
        check_shards(campaign, folder, names, listen)
    begin(folder, campaign, names, database)
    typer.echo(
        f"{len(stock)} images, {len(names)} classes; {kept} images for the audit, {budget} labels in {campaign.rounds} rounds"
    )
    for note in notes(campaign, len(stock)):
        typer.echo(f"note: {note}")
    typer.echo(f"next: mcdal campaign serve {folder}")


@app.command()
def serve(
    folder: Folder,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this machine reach 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8000,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A name that the page is reached by, such as label.example.org.")
    ] = None,
    device: Device = "auto",
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train and pick, or leave that to another.")] = True,
) -> None:
    """Show the page for labeling; train and pick beside it."""
    with with_web():
        from mcdal.campaign.serve import serve as run

        run(folder, host, port, name or [], device, lambda link: typer.echo(f"come in (once): {link}"), train)


@app.command()
def join(
    folder: Folder,
    database: Annotated[str, typer.Option("--database", help="postgresql://user@host/name of the campaign.")],
    images: Annotated[Path, typer.Option("--images", help="The same images, as this machine has them.")],
) -> None:
    """Make a folder from which another server shows the page of a campaign."""
    from mcdal.campaign.joining import join as join_campaign

    for line in join_campaign(folder, database, images):
        typer.echo(line)
    typer.echo(f"next: mcdal campaign serve {folder}")


@app.command()
def invite(
    folder: Folder,
    url: Annotated[str, typer.Option("--url", help="How people reach the page.")] = "http://127.0.0.1:8000",
    uses: Annotated[int, typer.Option("--uses", min=1, help="So many people may take the link.")] = 1,
    days: Annotated[float, typer.Option("--days", min=0.01, help="So long.")] = 7.0,
    person: Annotated[str | None, typer.Option("--person", help="Let this person in again, on another device.")] = None,
) -> None:
    """Make a link that lets people in."""
    with with_web():
        from mcdal.campaign.definition import opened
        from mcdal.campaign.door import Door

        with opened(folder) as campaign:
            door = Door(campaign.ledger, campaign.secret)
            token = door.invite(uses, days, None if person is None else door.named(person))
    typer.echo(f"{url.rstrip('/')}/enter/{token}")


@app.command()
def remove(folder: Folder, person: Annotated[str, typer.Argument(help="Their name.")]) -> None:
    """Let somebody in no longer; what they answered stays, and nothing waits for them."""
    with with_web():
        from mcdal.campaign.definition import opened
        from mcdal.campaign.door import Door

        with opened(folder) as campaign:
            door = Door(campaign.ledger, campaign.secret)
            door.remove(door.named(person))


@app.command()
def status(
    folder: Folder, json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False
) -> None:
    """Labels by whom, rounds, the accuracy with its interval, how well people agree."""
    import json as json_module

    from mcdal.campaign.definition import opened
    from mcdal.campaign.tell import lines
    from mcdal.campaign.tell import status as told

    with opened(folder, create=False) as campaign:
        found = told(campaign)
    typer.echo(json_module.dumps(found) if json else "\n".join(lines(found)))


@app.command()
def export(
    folder: Folder,
    to: Annotated[str, typer.Option("--to", help="csv, parquet, coco, folders, huggingface, cvat or label-studio.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; a new folder for folders and huggingface.")],
    names: Annotated[bool, typer.Option("--names", help="Name people in huggingface, and in the card.")] = False,
) -> None:
    """Write all labels in a format that others read."""
    from mcdal import console
    from mcdal.campaign.definition import opened
    from mcdal.campaign.export import export as write

    with opened(folder, create=False) as campaign, stoppable(), console.listener(False, False) as listen:
        written = write(campaign, to, out, names, listen=listen)
    if written.gone:
        some = ", ".join(map(repr, written.gone[:5])) + (", ..." if len(written.gone) > 5 else "")
        typer.echo(f"note: {len(written.gone)} of these images have gone, and only their labels are written: {some}")
    typer.echo(f"{written.labels} labels: {out}")


@app.command(name="import")
def import_(
    folder: Folder,
    source: Annotated[Path, typer.Argument(help="labels.csv, .parquet, COCO's .json, or a folder of class folders.")],
    by: Annotated[str, typer.Option("--by", help="The name that the labels are kept under.")] = "import",
) -> None:
    """Take labels that others have given; what the campaign does not know is named, and nothing is taken then."""
    with with_web():
        from mcdal.campaign.definition import opened
        from mcdal.campaign.importing import import_labels

        with opened(folder) as campaign:
            count = import_labels(campaign, source, by)
    typer.echo(f"{count} new labels from {source}")


@app.command()
def train(folder: Folder, device: Device = "auto") -> None:
    """Train and pick as far as answers reach; `serve` does it by itself."""
    from mcdal import console
    from mcdal.campaign.trainer import train as go_on

    with stoppable(), console.listener(False, False) as listen:
        go_on(folder, device, listen)


@app.command()
def budget(
    folder: Folder, to: Annotated[int, typer.Option("--to", help="Labels in all, without those for the audit.")]
) -> None:
    """Change how many labels are wanted in all; the server need not be stopped."""
    from mcdal.campaign.budget import change_budget
    from mcdal.campaign.definition import opened

    with opened(folder) as campaign:
        changed = change_budget(campaign, to)
    typer.echo(f"{changed.budget} labels in {changed.rounds} rounds")


@app.command()
def finish(folder: Folder) -> None:
    """Ask for nothing more: the last model learns from what was answered. `budget` lets it go on again."""
    from mcdal.campaign.budget import finish as end
    from mcdal.campaign.definition import opened

    with opened(folder) as campaign:
        open_ones = end(campaign)
    typer.echo(f"{open_ones} images are asked about no more; `mcdal campaign serve` or `train` trains the last model")


@app.command()
def classes(folder: Folder, add: Annotated[list[str], typer.Option("--add", help="A new class.")]) -> None:
    """Add classes while people work: labels that were given stay valid."""
    from mcdal.campaign.definition import opened

    with opened(folder) as campaign:
        campaign.ledger.add_classes(add)
        typer.echo(", ".join(campaign.ledger.classes()))


@app.command()
def relist(folder: Folder) -> None:
    """Take shards as they are now that have changed or gone; new ones are found without."""
    from mcdal import console
    from mcdal.campaign.definition import opened
    from mcdal.campaign.relisting import relist as list_anew

    with opened(folder) as campaign, stoppable(), console.listener(False, False) as listen:
        found = list_anew(campaign, listen)
    for change in found.changes:
        typer.echo(change)
    typer.echo(f"{found.images[1]} images in shards, and {found.images[0]} before")
    if found.withdrawn:
        typer.echo(f"{found.withdrawn} images that have gone are asked about no more")
