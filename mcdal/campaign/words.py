"""Numbers of a campaign's result as sentences, for a terminal and for a data-set card."""

from mcdal.calibration import Calibration, Judged


def calibration_line(found: Calibration) -> str:
    """What the probabilities are worth, in one line."""
    temperature = f"temperature {found.temperature.value:.2f} from {found.labels} audit labels"
    if found.before is None or found.after is None or found.perfect is None:
        return f"{temperature}; the calibration error cannot be told from so few"
    return (
        f"{temperature}; expected calibration error {_judged(found.before)} before and {_judged(found.after)} after it, judged "
        f"by labels that it was not fitted on (a perfect model would show {100 * found.perfect:.1f} % on as few)"
    )


def _judged(error: Judged) -> str:
    return f"{100 * error.value:.1f} % (95 %: {100 * error.low:.1f} to {100 * error.high:.1f})"
