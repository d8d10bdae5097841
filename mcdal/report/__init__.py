"""What happened in the runs of a store, as one page that a person understands at a glance. Reads only; runs never need it."""

from mcdal.report.write import write_report

__all__ = ["write_report"]
