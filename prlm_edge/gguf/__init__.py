"""Reading and writing GGUF files without PyTorch: tensors, names, LoRA adapters."""
