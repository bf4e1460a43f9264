"""Export to GGUF: tensors, tokenizer, importance matrix, quantization, baking an adapter in."""
