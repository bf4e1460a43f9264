"""The `Writer` that apps embed, and what it draws answers with."""

from prlm_edge.writer.draw import Reply
from prlm_edge.writer.pool import Pool, make_pool
from prlm_edge.writer.writer import Writer

__all__ = ["Pool", "Reply", "Writer", "make_pool"]
