"""Export of trained weights to GGUF and ONNX; installed as `prlm_edge.export`.

`to_gguf.py`, `to_adapter.py` and `to_onnx.py` write one form each; `pipeline.py` holds what they share.
"""
