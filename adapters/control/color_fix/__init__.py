"""Keeps the colours of a picture while the model samples it anew."""
