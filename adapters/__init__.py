"""What changes sampling. Maths is free of the host; `_host.py` and `apply.py` meet it."""
