"""Metrics of one answer: against what the user wrote, their past writing, the request, and its own reasoning."""

from prlm_edge.evaluate.metrics.request import Known as Known
from prlm_edge.evaluate.metrics.table import METRICS as METRICS
from prlm_edge.evaluate.metrics.table import Metric as Metric
from prlm_edge.evaluate.metrics.table import cell as cell
from prlm_edge.evaluate.metrics.table import score_answer as score_answer
from prlm_edge.evaluate.metrics.target import similarities as similarities
