"""Which blocks of a UNet a reference acts in: each has a gate, and a weight above it opens the block."""

from collections.abc import Sequence

Block = tuple[str, int]
"""The host's name of a block: "input", "middle" or "output", and its number there."""

ADAIN_INPUTS: dict[bool, tuple[int, ...]] = {False: (4, 5, 7, 8, 10, 11), True: (4, 5, 7, 8)}
ADAIN_OUTPUTS: dict[bool, tuple[int, ...]] = {False: tuple(range(8)), True: tuple(range(6))}
"""Blocks whose statistics can be exchanged, by whether the model is SDXL."""


def attention_gates(widths: Sequence[int]) -> list[float]:
    """Widths of the transformer blocks, in the model's order -> gate in [0, 1) of each.

    The widest blocks open first; among equals the earlier one does. A weight of 1 opens all of them.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (attn_weight).
    """
    order = sorted(range(len(widths)), key=lambda index: -widths[index])
    gates = [0.0] * len(widths)
    for rank, index in enumerate(order):
        gates[index] = rank / len(widths)
    return gates


def adain_gates(is_sdxl: bool) -> dict[Block, float]:
    """Gate in [0, 2] of every block whose statistics can be exchanged; at weight 1 about a third opens.

    The middle opens first, then input blocks from the deepest up and output blocks from the deepest up.
    The first input block has gate 2, which the greatest weight only equals.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (gn_weight).
    """
    gates: dict[Block, float] = {("middle", 0): 0.0}
    inputs, outputs = ADAIN_INPUTS[is_sdxl], ADAIN_OUTPUTS[is_sdxl]
    for rank, index in enumerate(inputs):
        gates["input", index] = 2.0 * (1.0 - rank / len(inputs))
    for rank, index in enumerate(outputs):
        gates["output", index] = 2.0 * rank / len(outputs)
    return gates
