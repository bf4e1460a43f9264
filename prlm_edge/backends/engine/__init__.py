"""What every model in this process shares: prompts, batches, decoding in two phases, kept prefixes."""
