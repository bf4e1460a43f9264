"""Dense retrieval: sentence embeddings by MiniLM on ONNX Runtime, kept on disk, compared by their cosine."""
