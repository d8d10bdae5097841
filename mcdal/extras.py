"""What is installed on request: errors that name the extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from mcdal.errors import CampaignError

OF_WEB = ("fastapi", "uvicorn", "itsdangerous", "starlette")


@contextmanager
def with_web(what: str = "the page", extras: str = "web") -> Iterator[None]:
    """CampaignError that says what needs a missing module of the web server, and which extras to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in OF_WEB:
            raise
        raise CampaignError(f"{what} needs {error.name}: pip install 'mcdal[{extras}]'") from error
