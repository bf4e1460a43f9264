"""The `Writer` that apps embed, and the parts that evaluation and training share with it: asking and drawing."""

from prlm_edge.writer.asker import Asker, as_text
from prlm_edge.writer.draw import Reply, choose, enough
from prlm_edge.writer.pool import Pool, make_pool
from prlm_edge.writer.writer import Writer

__all__ = ["Asker", "Pool", "Reply", "Writer", "as_text", "choose", "enough", "make_pool"]
