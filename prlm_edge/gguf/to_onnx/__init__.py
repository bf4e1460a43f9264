"""A GGUF model as an ONNX folder, made on the device with numpy alone: no PyTorch, no llama.cpp, no compiler."""
