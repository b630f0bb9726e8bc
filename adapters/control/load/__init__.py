"""One loader for every control net: what the host loads, the host loads."""
