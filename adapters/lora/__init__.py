"""LoRA: block weights, what a file is, and the way into the host's own LoRA code."""
