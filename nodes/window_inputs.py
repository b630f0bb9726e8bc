"""The two inputs that say in which part of the sampling something acts."""

from typing import Any

from comfy_api.latest import io


def window_inputs(start_tooltip: str, end_tooltip: str) -> list[Any]:
    """start_percent and end_percent, 0..1."""
    return [
        _percent("start_percent", 0.0, start_tooltip),
        _percent("end_percent", 1.0, end_tooltip),
    ]


def _percent(name: str, default: float, tooltip: str) -> Any:
    return io.Float.Input(
        name, display_name=name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip
    )
