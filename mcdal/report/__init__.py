"""What happened in the runs of a store, as one page that is understood at a glance. Reads only; no run needs it."""

from mcdal.report.write import write_report

__all__ = ["write_report"]
