"""Parts of a recorded configuration as objects again: those of this package alone, since nothing else is to be run."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mcdal.errors import CampaignError


def rebuilt(told: Mapping[str, Any], kind: type) -> Any:
    """What `settings.to_json` wrote of a dataclass of this kind. CampaignError where it is none of this package."""
    module, _, name = str(told["type"]).partition(":")
    if not module.startswith("mcdal."):
        raise CampaignError(
            f"{told['type']} is no part of mcdal, and its code is not run from a file: take model.pt2, which needs none"
        )
    found = getattr(import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise CampaignError(f"{told['type']} is no {kind.__name__} of this mcdal: take the version that wrote it")
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in told.items() if key not in ("type", "code")}
    return found(**fields)
