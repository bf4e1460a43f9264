"""Export to ONNX: language models and embedders."""
