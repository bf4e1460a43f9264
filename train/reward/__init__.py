"""Training the reward model: pairs, teacher and student, export to ONNX, evaluation."""
