"""A LoRA as a hook of the host: on the conditionings that carry it, in the steps of its window.

Source: ComfyUI: comfy/hooks.py (WeightHook, HookKeyframeGroup), comfy_extras/nodes_hooks.py (CreateHookLora).
"""

from typing import Any

from comfy.hooks import EnumWeightTarget, HookGroup, HookKeyframe, HookKeyframeGroup, WeightHook

from ...control.curve import Curve
from ..apply import Groups, Prepared, prepare
from ..entry import LoraEntry
from .keyframes import Frame, frames_of


class LoraHook(WeightHook):
    """The host's hook of weights, with a factor for each group of patches."""

    def __init__(self, strength_model: float = 1.0, strength_clip: float = 1.0) -> None:
        super().__init__(strength_model, strength_clip)
        self.model_groups: Groups = ()
        self.clip_groups: Groups = ()

    def add_hook_patches(
        self, model: Any, model_options: Any, target_dict: Any, registered: HookGroup
    ) -> bool:
        """Gives the patches for a model or a text encoder to the host, which merges them when they act."""
        if not self.should_register(model, model_options, target_dict, registered):
            return False
        is_text = target_dict.get("target") == EnumWeightTarget.Clip
        strength = self._strength_clip if is_text else self._strength_model
        for factor, patches in self.clip_groups if is_text else self.model_groups:
            model.add_hook_patches(hook=self, patches=patches, strength_patch=strength * factor)
        registered.add(self)
        return True

    def clone(self) -> "LoraHook":
        copy: Any = super().clone()
        copy.model_groups, copy.clip_groups = self.model_groups, self.clip_groups
        return copy


class Keyframes(HookKeyframeGroup):
    """The host's keyframes, but for a run that starts at the noise at which the last one ended.

    The host's reset leaves that noise level in place, and then takes no look at the keyframes in the first
    step: a run of one step would be another one when it is repeated.
    """

    def reset(self) -> None:
        super().reset()
        self._curr_t = -1.0


def schedule_lora(
    entry: LoraEntry, model: Any, clip: Any, window: tuple[float, float], curve: Curve
) -> tuple[HookGroup, str]:
    """Hooks of one LoRA for a model (ModelPatcher) and a CLIP or None, and what it does in words.

    `window` is start and end in 0..1 of the noise; `curve` gives strengths over it.

    Raises: as `apply.prepare` and `frames_of`.
    """
    frames = frames_of(*window, curve)
    hooks = HookGroup()
    if entry.is_off or all(frame.strength == 0 for frame in frames):
        return hooks, f"{entry.lora_name}: off"
    prepared = prepare(entry, model, clip, "Schedule LoRA")
    hook = LoraHook(entry.strength_model, entry.strength_clip)
    hook.model_groups = _active(prepared.model, entry.strength_model)
    hook.clip_groups = _active(prepared.clip, entry.strength_clip)
    hook.hook_keyframe = Keyframes()
    for frame in frames:
        hook.hook_keyframe.add(HookKeyframe(frame.strength, frame.start, guarantee_steps=0))
    hooks.add(hook)
    return hooks, _in_words(prepared, frames)


def _active(groups: Groups, strength: float) -> Groups:
    return groups if strength != 0 else ()


def combine(previous: HookGroup | None, hooks: HookGroup) -> HookGroup:
    """Hooks after those that came before; neither is changed."""
    return hooks if previous is None else previous.clone_and_combine(hooks)


def _in_words(prepared: Prepared, frames: list[Frame]) -> str:
    shown = ", ".join(f"from {frame.start:.3g}: {frame.strength:.3g}" for frame in frames)
    return f"{prepared.text}\n  schedule: {shown}"
