"""LoRAs on some conditionings and some steps only, through the host's hooks."""
