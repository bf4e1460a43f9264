"""ONNX language models on ONNX Runtime."""
