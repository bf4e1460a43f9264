"""What becomes of answers: drafts kept for a while (`drafts.py`), and accepted ones joining a profile (`accept.py`)."""

from prlm_edge.feedback.accept import Accepted, accept, distance, item_id, said_of
from prlm_edge.feedback.drafts import KeptDraft, draft_of, drafts_path, find, forget, keep, kept
from prlm_edge.feedback.pairs import KeptPair, forget_pairs, pairs_path, read_pairs

__all__ = [
    "Accepted",
    "KeptDraft",
    "KeptPair",
    "accept",
    "distance",
    "draft_of",
    "drafts_path",
    "find",
    "forget",
    "forget_pairs",
    "item_id",
    "keep",
    "kept",
    "pairs_path",
    "read_pairs",
    "said_of",
]
