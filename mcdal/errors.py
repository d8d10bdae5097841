"""What went wrong, in words for the person who has to mend it. The command line prints these without a traceback."""


class McdalError(ValueError):
    """Input that cannot be used; the message names the file, sample or field and what to do."""


class ConfigError(McdalError):
    """A recipe, strategy, field or value that does not exist or does not fit."""


class PoolError(McdalError):
    """Images or labels that cannot be read as they are."""


class MissingError(PoolError):
    """What is looked for is not there, as whoever keeps it says."""


class StoreError(McdalError):
    """The record of runs cannot be opened, read or written."""


class HeldError(StoreError):
    """Another process works on the run."""


class TrainingError(McdalError):
    """Training cannot go on, such as after a loss that is not a number."""


class SelectionError(McdalError):
    """A strategy gave scores or picks that cannot be used."""


class CampaignError(McdalError):
    """A labeling campaign that does not exist, or that cannot do what it was asked for."""
