"""From data sets to token ids: examples, prompts, batches."""
