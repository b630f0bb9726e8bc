"""ControlNeXt: one small network whose output is matched to a hidden state of the model and added to it."""
