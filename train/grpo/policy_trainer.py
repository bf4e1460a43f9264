"""TRL's GRPOTrainer, but the old policy is the engine that drew, and a prompt is evaluated once for its whole group."""

from __future__ import annotations

from typing import Any

from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from prlm_edge.train.grpo import shared_prompt


class PolicyTrainer(GRPOTrainer):
    """GRPOTrainer whose old policy is the engine that drew: its log-probabilities, not PyTorch's.

    Completions of one prompt stay together, so that `shared_prompt` evaluates it once.
    """

    _buffered_inputs: Any

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's without shuffling the batch; all of it goes into one optimizer step anyway."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        n = self.args.steps_per_generation
        if self._step % (n * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = split_tensor_dict(self._generate_and_score_completions(generation_batch), n)
        return self._buffered_inputs[self._step % n]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        scored["old_per_token_logps"] = scored["sampling_per_token_logps"]
        return scored

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        same = shared_prompt.same_prompts(input_ids[:, :-logits_to_keep], attention_mask[:, :-logits_to_keep])
        if len(same) < len(input_ids) and self.model.config._attn_implementation == "sdpa":  # others take no such mask
            with self.accelerator.autocast():
                both = shared_prompt.logps_and_entropies(model, input_ids, attention_mask, logits_to_keep)
            found = (*both, None)
        else:
            found = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        self._newest = found[0]
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        loss = super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        gap = ((self._newest.detach() - inputs["old_per_token_logps"]).abs() * mask).sum() / mask.sum().clamp(min=1)
        self._metrics["train"]["rollout_gap"].append(
            gap.item()
        )  # mean |difference| to the log-probabilities of the engine
        return loss
