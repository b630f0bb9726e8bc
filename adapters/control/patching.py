"""Adds patches and wrappers of the model to one call's options.

The host reads `transformer_options` anew for each call, so a patch put there by a control object acts in
that call only: neither the model nor any other conditioning keeps it. Lists and dictionaries are replaced,
never extended, since other calls may share them.

Source: ComfyUI: comfy/samplers.py (_calc_cond_batch), comfy/patcher_extension.py (get_all_wrappers).
"""

from collections.abc import Callable, Sequence
from typing import Any

DIFFUSION_MODEL = "diffusion_model"
"""The host's name for wrappers around the whole diffusion model (WrappersMP.DIFFUSION_MODEL)."""

PLAIN = "tiller_plain_patches"


def plain_patches(options: dict[str, Any]) -> dict[str, Any]:
    """The patches that the model came with, without those that `add_patch` has put there."""
    return options.get(PLAIN, options.get("patches", {}))


def add_patch(options: dict[str, Any], name: str, patch: Any) -> None:
    """Puts a patch of the host's kind `name` (such as "attn1_patch") behind those that are there."""
    order_patches(options, name, [*options.get("patches", {}).get(name, ()), patch])


def order_patches(options: dict[str, Any], name: str, ordered: Sequence[Any]) -> None:
    """Puts patches of the host's kind `name` in the place of those that are there, in this order."""
    patches = options.get("patches", {})
    options.setdefault(PLAIN, patches)
    options["patches"] = {**patches, name: list(ordered)}


def add_wrapper(options: dict[str, Any], wrapper: Callable[..., Any], key: str = "tiller") -> None:
    """Puts a wrapper around the diffusion model: called as wrapper(executor, *args, **kwargs).

    The one added last is the innermost of the same key.
    """
    wrappers = options.get("wrappers", {})
    kind = wrappers.get(DIFFUSION_MODEL, {})
    options["wrappers"] = {**wrappers, DIFFUSION_MODEL: {**kind, key: [*kind.get(key, ()), wrapper]}}
