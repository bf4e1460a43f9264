"""The `Writer` that apps embed, and what evaluation and training share with it: understanding, asking, drawing."""

from prlm_edge.writer.asker import Asker
from prlm_edge.writer.draw import Reply, choose, enough
from prlm_edge.writer.pool import Pool, make_pool
from prlm_edge.writer.understand import as_text, understand
from prlm_edge.writer.writer import Writer

__all__ = ["Asker", "Pool", "Reply", "Writer", "as_text", "choose", "enough", "make_pool", "understand"]
