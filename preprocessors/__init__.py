"""Hints: functions from an image to a control image. Free of the host."""
