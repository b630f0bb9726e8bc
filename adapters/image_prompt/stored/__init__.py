"""Image prompts in files."""
