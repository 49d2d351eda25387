"""One self-contained HTML page of a run."""

from bench.report.page.render import render_page, write_dashboard

__all__ = ["render_page", "write_dashboard"]
