"""Pictures to embeddings: which encoder file, how it is loaded and run, what becomes of a batch."""
