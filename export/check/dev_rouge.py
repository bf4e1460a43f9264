"""Dev ROUGE of a GGUF file: what it answers to one request of each of some users, against what they really wrote.

Prompts, decoding and the keeping of answers are the runtime's own evaluation's, by the settings of the run's recipe;
answers are greedy, in batches, each kept as it comes. ROUGE is the runtime's too (`prlm_edge.rerank.overlap`), equal to
rouge-score for words of a-z and 0-9; figures of `prlm-edge eval` may differ where a text has others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prlm_edge.evaluate.provenance import header
from prlm_edge.evaluate.records import Condition
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.runner import answer_all
from prlm_edge.evaluate.stats import difference, estimate
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.data.answers import condition
from prlm_edge.train.data.rows import read_file

#: By row: whose it is, ROUGE-1 and ROUGE-L of its answer.
Scores = Mapping[str, tuple[str, float, float]]


@dataclass(frozen=True)
class DevRouge:
    """Means over users, from 0 to 1.

    Attributes:
        rouge1: ROUGE-1 (F1).
        rougeL: ROUGE-L (F1).
        rougeL_low: Lower end of the 95% interval of ROUGE-L's difference from the trained model's, paired by user.
        rougeL_high: Its upper end.
    """

    rouge1: float
    rougeL: float
    rougeL_low: float
    rougeL_high: float


def score(model: Path, recipe: Recipe, files: Sequence[DataFile], n_users: int, out: Path) -> Scores:
    """Answer and score; answers that `out` holds already are not drawn again.

    Args:
        model: The GGUF file.
        recipe: By whose settings prompts are made.
        files: Data sets, each of which has as many of the users.
        n_users: How many of all; rounded up to a multiple of the files, fewer where they hold fewer.
        out: Folder for the answers.

    Raises:
        UsageError: No such data.
        PrlmError: The model can't be run, or the disk is full.
    """
    asked = _asked(model, recipe)
    found: dict[str, tuple[str, float, float]] = {}
    for file in files:
        limit = -(-n_users // len(files))
        data = read_file(file, recipe.data, limit=limit, per_user=1, seed=recipe.seed)
        about = header(data, [asked], recipe.seed, "prlm-edge export gguf")
        # Named by what is asked, of which file: after a change of either, other answers are wanted.
        name = hashlib.sha256(json.dumps(about["asked"], sort_keys=True).encode()).hexdigest()[:16]
        run = RunFolder.create(out / name, about)
        answer_all(run, data, [asked], seed=recipe.seed)
        for answer in run.answers():
            said, wrote = Counted(answer.answer), Counted(answer.target)
            found[f"{data.sha256[:8]}/{answer.row}"] = answer.user, rouge_1(said, wrote), rouge_l(said, wrote)
    return found


def summary(scores: Scores, trained: Scores) -> DevRouge:
    """The figures of a format against those of the trained model on the same rows."""
    one = estimate((user, rouge1) for user, rouge1, _ in scores.values())
    theirs, ours = ({row: (user, rouge_l_) for row, (user, _, rouge_l_) in some.items()} for some in (trained, scores))
    apart = difference(theirs, ours)
    assert one and apart, "each row is answered by each format"
    return DevRouge(one.mean, apart.b, apart.low, apart.high)


def _asked(model: Path, recipe: Recipe) -> Condition:
    """The condition to answer under: greedy, no adapter, reasoning if the file says it was taught to."""
    asked = condition("dev", recipe, adapter=None)
    own = {"model": str(model), "reasoning": "auto", "temperature": 0.0, "prefix_cache": "off"}
    return replace(asked, settings={**asked.settings, **own})
