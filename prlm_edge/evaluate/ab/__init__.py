"""Human evaluation: a blind page on this machine shows two answers side by side and keeps every vote.

votes.py (which pairs, in which order, what was voted) -> server.py (loopback only) -> page.html
"""

from prlm_edge.evaluate.ab.server import make_server as make_server
from prlm_edge.evaluate.ab.server import serve as serve
from prlm_edge.evaluate.ab.votes import AnswerPair as AnswerPair
from prlm_edge.evaluate.ab.votes import VoteResult as VoteResult
from prlm_edge.evaluate.ab.votes import Votes as Votes
from prlm_edge.evaluate.ab.votes import pairs as pairs
