"""Development only: the work behind dev.py. Never part of the shipped pack."""
