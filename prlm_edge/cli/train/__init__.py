"""`prlm-edge train`: the whole recipe, and a verb for every stage."""
