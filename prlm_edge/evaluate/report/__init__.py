"""Reports of runs: one self-contained HTML file, and Markdown tables.

view.py (what is shown) -> plots.py (matplotlib, as SVG) -> report.html.j2, which extends base.html.j2
"""

from prlm_edge.evaluate.report.html import figure as figure
from prlm_edge.evaluate.report.html import markdown_tables as markdown_tables
from prlm_edge.evaluate.report.html import write_page as write_page
from prlm_edge.evaluate.report.html import write_report as write_report
