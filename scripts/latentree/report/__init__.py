"""The page that a person reads: one HTML file per atlas that opens offline."""

from latentree.report.page import TEMPLATES, write_report

__all__ = ["TEMPLATES", "write_report"]
