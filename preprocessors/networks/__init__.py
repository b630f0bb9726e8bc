"""The annotators' networks: plain torch, parameters named as in the published files."""
