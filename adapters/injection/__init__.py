"""Tokens injected into the attention of a clone of the model: the one mechanism of all token adapters."""
