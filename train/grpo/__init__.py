"""GRPO: drawing answers, rewarding them, learning from them."""
