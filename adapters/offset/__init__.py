"""Offsets: files that change some weights of a model, as increments or as replacements."""
