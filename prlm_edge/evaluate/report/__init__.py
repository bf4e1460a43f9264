"""Reports of runs: one self-contained HTML file, and Markdown tables.

    view.py (what is worth showing) -> plots.py (matplotlib, as SVG) -> report.html.j2

Not here: the figures themselves (`evaluate/scoring.py`).
"""

from prlm_edge.evaluate.report.html import write_report as write_report
from prlm_edge.evaluate.report.markdown import markdown_tables as markdown_tables
