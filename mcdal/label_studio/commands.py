"""`mcdal label-studio ...`: a few lines each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcdal.errors import CampaignError
from mcdal.extras import with_web
from mcdal.stopping import stoppable

if TYPE_CHECKING:
    from mcdal.campaign.definition import Opened
    from mcdal.label_studio.client import Client
    from mcdal.label_studio.connection import Connection

PASSWORD = "MCDAL_LABEL_STUDIO_PASSWORD"

app = typer.Typer(no_args_is_help=True, help="Campaigns whose people answer in Label Studio (docs/label-studio.md).")

Folder = Annotated[Path, typer.Argument(help="Folder of the campaign.")]
Url = Annotated[str, typer.Option("--url", help="Address of Label Studio, such as http://127.0.0.1:8080.")]
Token = Annotated[str | None, typer.Option("--token", help="Access token; or set LABEL_STUDIO_API_KEY.")]
Watch = Annotated[float | None, typer.Option("--watch", min=1, help="Again every so many seconds, until Ctrl-C.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]


@app.command()
def connect(
    folder: Folder,
    url: Url,
    token: Token = None,
    project: Annotated[int | None, typer.Option("--project", help="Take this project instead of making one.")] = None,
    image_url: Annotated[
        str | None, typer.Option("--image-url", help="Where browsers get the images: https://img.example.org/{id}")
    ] = None,
    local_root: Annotated[
        Path | None, typer.Option("--local-root", help="Label Studio's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.")
    ] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Send the images, after another way was chosen.")] = False,
) -> None:
    """Make a project for a campaign, or take one; images are sent to Label Studio unless it gets them elsewhere."""
    from mcdal.campaign.definition import opened
    from mcdal.label_studio.client import Client
    from mcdal.label_studio.connect import connect as make
    from mcdal.label_studio.connection import How, token_of

    given: dict[How, bool] = {"url": image_url is not None, "local": local_root is not None, "upload": upload}
    ways = [way for way, is_given in given.items() if is_given]
    if len(ways) > 1:
        raise CampaignError("--image-url, --local-root and --upload are ways to the same images: give one of them")
    images = ways[0] if ways else None
    where = image_url or (str(local_root.resolve()) if local_root is not None else "")
    with opened(folder) as campaign, Client(url, token_of(token)) as client:
        made, did = make(campaign, client, project, images, where, token)
    typer.echo(f"{made.page} {did}")
    typer.echo(f"next: mcdal label-studio sync {folder} --watch 60, or mcdal label-studio serve {folder}")


@app.command()
def push(folder: Folder) -> None:
    """Make tasks of what is asked now, in its order; take away what is asked no more."""
    from mcdal.label_studio.push import push as send

    with _connected(folder) as (campaign, client, connection):
        typer.echo("\n".join(send(campaign, client, connection).lines()))


@app.command()
def pull(folder: Folder, watch: Watch = None) -> None:
    """Take annotations as answers; corrected and deleted ones correct and take back."""
    import time

    from mcdal.errors import McdalError
    from mcdal.label_studio.sync import Puller, once

    with stoppable(), _connected(folder) as (campaign, client, connection):
        puller, tell = Puller(campaign, client, connection), once(typer.echo)
        while True:
            try:
                tell("\n".join(puller.pull().lines()))
            except McdalError as error:
                if watch is None:
                    raise
                tell(f"waits: {error}")
            if watch is None:
                return
            time.sleep(watch)


@app.command()
def sync(folder: Folder, watch: Watch = None, device: Device = "auto") -> None:
    """Pull, train where a round is answered, push what is asked next."""
    from mcdal import console
    from mcdal.campaign.tell import WORDS
    from mcdal.label_studio.sync import Puller, Pusher
    from mcdal.label_studio.sync import sync as turn

    def train() -> None:
        from mcdal.campaign.trainer import train as go_on

        with console.listener(False, False) as listen:
            go_on(folder, device, listen)

    with stoppable(), _connected(folder) as (campaign, client, connection):
        puller, pusher = Puller(campaign, client, connection), Pusher(campaign, client, connection)
        typer.echo(WORDS[turn(puller, pusher, train, typer.echo, watch)])


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 9090,
    url: Annotated[
        str | None, typer.Option("--url", help="How Label Studio reaches this backend: it is then registered there.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help=f"Name that is wanted; the password is in {PASSWORD}.")
    ] = None,
    every: Annotated[float, typer.Option("--every", min=1, help="Seconds between pulls without a webhook.")] = 60.0,
    device: Device = "auto",
) -> None:
    """Be the ML backend: predictions, webhooks; pull, train and push beside it."""
    with stoppable(), with_web("the backend", "web,label-studio"):
        from mcdal.label_studio.backend import Login
        from mcdal.label_studio.serve import serve as run

        password = os.environ.get(PASSWORD)
        if (user is None) != (not password):
            raise CampaignError(f"--user and the password in {PASSWORD} belong together: give both, or neither")
        login = Login(user, password) if user is not None and password else None
        run(folder, host, port, device, every, login, url, typer.echo)


@app.command()
def doctor(
    folder: Annotated[Path | None, typer.Argument(help="Folder of the campaign; without, --url and --token.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Address of Label Studio.")] = None,
    token: Token = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="Try whether Label Studio takes a backend of this address.")
    ] = None,
) -> None:
    """Look for what goes wrong: settings, order, images, blocked addresses. Ends with 1 where something is."""
    from mcdal.label_studio.client import Client
    from mcdal.label_studio.connection import token_of
    from mcdal.label_studio.doctor import diagnose

    wrong = 0
    if (folder is None) == (url is None):
        raise CampaignError("give the folder of a campaign, or --url of a server")
    if folder is None:
        assert url is not None
        with Client(url, token_of(token)) as client:
            for check in diagnose(client):
                typer.echo(check.line())
                wrong += check.verdict == "wrong"
    else:
        with _connected(folder) as (campaign, client, connection):
            for check in diagnose(client, campaign, connection, backend):
                typer.echo(check.line())
                wrong += check.verdict == "wrong"
    if wrong:
        raise typer.Exit(1)


@app.command(name="export-masks")
def export_masks(
    project: Annotated[int, typer.Option("--project", help="Number of the project.")],
    url: Url,
    out: Annotated[Path, typer.Option("--out", help="Folder for masks/ and classes.csv.")],
    token: Token = None,
    background: Annotated[
        str | None, typer.Option("--background", help="Class of what nobody drew; without, it counts nowhere.")
    ] = None,
) -> None:
    """Write what people drew (brushes, polygons, boxes) as mask files that mcdal.pool.mask_folder reads."""
    from mcdal.label_studio.client import Client
    from mcdal.label_studio.connection import token_of
    from mcdal.label_studio.export_masks import export_masks as write

    with Client(url, token_of(token)) as client:
        typer.echo("\n".join(write(client, project, out, background).lines()))


@app.command(name="push-scenes")
def push_scenes(
    run_id: Annotated[str, typer.Argument(help="Run on masks, as `mcdal status` names it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the store that the run is in.")],
    url: Url,
    token: Token = None,
    project: Annotated[int | None, typer.Option("--project", help="Take this project instead of making one.")] = None,
) -> None:
    """Make tasks of the scenes that the last round of a run asked for, with what its model draws as brushes to correct."""
    from mcdal.label_studio.client import Client
    from mcdal.label_studio.connection import token_of
    from mcdal.label_studio.push_scenes import push_scenes as send

    with Client(url, token_of(token)) as client:
        typer.echo("\n".join(send(out, run_id, client, project).lines()))


@contextmanager
def _connected(folder: Path) -> "Iterator[tuple[Opened, Client, Connection]]":
    from mcdal.campaign.definition import opened
    from mcdal.label_studio.connection import read_connection

    with opened(folder) as campaign:
        connection = read_connection(folder)
        with connection.client() as client:
            yield campaign, client, connection
