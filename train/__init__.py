"""Training: warm start, reward model, GRPO and what chooses among answers; installed as `prlm_edge.train`.

`config.py` holds the recipes, `base.py` the model that training starts from, `data/` what is learned from, `run/` what
every run needs; `grpo/` and `reward/` are a stage each.
"""
