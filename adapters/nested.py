"""Files of tensors that hold dictionaries within dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Dictionaries within a file joined to their keys by a dot, as .safetensors files have them."""
    joined: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            joined |= {f"{key}.{inner}": one for inner, one in flat(value).items()}
        else:
            joined[str(key)] = value
    return joined
