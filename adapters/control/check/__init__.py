"""Looks at control before sampling, and says in words what will not work as meant."""
