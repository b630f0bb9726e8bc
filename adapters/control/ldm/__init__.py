"""The host's own UNet control nets, ControlNet-Union among them, with the hint encoded once."""
