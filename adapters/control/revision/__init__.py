"""Pictures in place of the prompt for SDXL: Revision."""
