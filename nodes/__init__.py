"""What the user sees: each file is V3 schemas and one call apiece."""
