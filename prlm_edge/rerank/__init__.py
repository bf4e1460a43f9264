"""Best-of-n: which of several answers is the best, by a scorer of choice.

rank(candidates, make_scorer(settings), scoring)[0]
"""

from prlm_edge.rerank.scorers import SCORERS as SCORERS
from prlm_edge.rerank.scorers import check_scorer as check_scorer
from prlm_edge.rerank.scorers import make_scorer as make_scorer
from prlm_edge.rerank.scorers import no_logprobs as no_logprobs
from prlm_edge.rerank.scorers import rank as rank
