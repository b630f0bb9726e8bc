"""Loading adapter files, and saying what they are."""
