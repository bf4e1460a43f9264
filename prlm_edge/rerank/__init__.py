"""Several answers to a request: which is the best by a scorer of choice, which differ, what speaks for each.

rank(candidates, make_scorer(settings), scoring)[0]
"""

from prlm_edge.rerank.blend import Blend as Blend
from prlm_edge.rerank.merits import broken_clause as broken_clause
from prlm_edge.rerank.merits import different as different
from prlm_edge.rerank.merits import echo as echo
from prlm_edge.rerank.merits import flaw as flaw
from prlm_edge.rerank.merits import is_copy as is_copy
from prlm_edge.rerank.merits import reasons as reasons
from prlm_edge.rerank.scorers import SCORERS as SCORERS
from prlm_edge.rerank.scorers import SOUND as SOUND
from prlm_edge.rerank.scorers import check_scorer as check_scorer
from prlm_edge.rerank.scorers import make_scorer as make_scorer
from prlm_edge.rerank.scorers import no_logprobs as no_logprobs
from prlm_edge.rerank.scorers import rank as rank
from prlm_edge.rerank.scorers import soundness as soundness
