"""Dense retrieval: sentence embeddings by MiniLM on ONNX Runtime, kept on disk and compared by their cosine."""
