"""Progress of one node on the host's page."""
