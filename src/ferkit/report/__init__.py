"""An evaluation as one page that needs nothing else: tables, plots, galleries of faces, the run behind the model."""

from ferkit.report.page import read_history, write_report

__all__ = ["read_history", "write_report"]
