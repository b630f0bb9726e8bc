"""ControlNet-XS: a thin second encoder that runs beside the model's own, each reading the other."""
