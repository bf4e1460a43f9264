"""Export of trained weights to GGUF and ONNX; installed as `prlm_edge.export`.

`to_gguf.py`, `to_adapter.py` and `to_onnx.py` write a form each; `pipeline.py` is what they share: merging, verifying and
publishing.
"""
