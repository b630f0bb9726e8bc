"""People's poses: key points read, written, drawn, and found in pictures."""
