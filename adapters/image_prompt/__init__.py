"""Image prompts: what an adapter file is, pictures to embeddings, embeddings to tokens."""
