"""Reports: one HTML file with samples, maps, scores and what is known of their run."""

from xplique_sal.report.page import show, write

__all__ = ["show", "write"]
