"""What a PostgreSQL server says went wrong, in words that say what to do; never with the password."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from mcdal.errors import StoreError

BUSY_SECONDS = 30.0
LOCK_TIMEOUT = "55P03"
REFUSED_FOR_NOW = ("", "57P03", "53300")
"""No server answers, it is starting or ending, or it has no connection left."""

LOST = (
    "the connection was lost: nothing of this was recorded, or all of it; see that the server runs, then run the same "
    "command again"
)
WHO = "check the user, and its password in ~/.pgpass, in PGPASSWORD or in the URL"
WHERE = "make it with `createdb`, or give the URL of another"

# By the beginning of SQL's state; the longest that fits counts.
ADVICE: Mapping[str, str] = {
    "": LOST,
    "08": LOST,
    "57": LOST,
    "57P03": "the server is starting or ending: run the same command again in a minute",
    "22": "a text or number of this cannot be kept; nothing was changed",
    "23": "what is recorded stands, and this does not fit to it; nothing was changed",
    "25P03": LOST,
    "28": WHO,
    "3D000": WHERE,
    "40": "others wrote at the same moment; nothing was changed: run the same command again",
    "42": "the database is not as a store's must be: restore it from a backup, or use another --database",
    "42501": "the user may not do this: let it own the database, or GRANT it CREATE and USAGE on the schema",
    "53": "the server lacks memory or disk: see to it and run the same command again; nothing recorded is lost",
    "53100": "the server's disk is full: free some space and run the same command again; nothing recorded is lost",
    "53300": "the server has no connection left: end other programs, or raise its max_connections",
    "55P03": f"another process has held the store for {BUSY_SECONDS:.0f} seconds: end it, or use another --database",
    "58": "the server's disk gave an error: see to it and run the same command again; nothing recorded is lost",
    "XX": "the server's files are damaged: restore the database from a backup",
}
# A connection that cannot be made has no state; the server says why in English, or does not answer.
BY_WORDS = (
    ("password", WHO),
    ("authentication failed", WHO),
    ("role ", WHO),
    ("does not exist", WHERE),
    ("too many", ADVICE["53300"]),
    ("starting up", ADVICE["57P03"]),
    ("shutting down", ADVICE["57P03"]),
    ("connection failed", "see that the server runs, and that host and port in the URL are right"),
    ("NUL", ADVICE["22"]),
)


@contextmanager
def in_words(name: str, password: object) -> Iterator[None]:
    """Database errors as StoreErrors that name the database and say what to do."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{name}: {_said(error.orig, password)}: {_advice(error)}") from error
    except NoConnectionError as error:
        raise StoreError(f"{name}: all connections of this process are in use: run fewer at once") from error
    except Exception as error:
        if type(error).__module__.split(".")[0] != "psycopg":  # of rows that were read without SQLAlchemy
            raise
        raise StoreError(f"{name}: {_said(error, password)}: {_advice(error)}") from error


def sqlstate(error: BaseException) -> str:
    """SQL's five letters for what went wrong; empty where there are none."""
    found: Any = getattr(getattr(error, "orig", error), "sqlstate", None)
    return found or ""


def _said(error: object, password: object) -> str:
    said = " ".join(str(error).split())
    return said.replace(str(password), "***") if password else said


def _advice(error: BaseException) -> str:
    state, said = sqlstate(error), str(getattr(error, "orig", error))
    if not state:
        return next((advice for words, advice in BY_WORDS if words in said), LOST)
    return next(ADVICE[state[:n]] for n in (5, 2, 0) if state[:n] in ADVICE)
