"""What is known of a published weight file of an annotator."""

from dataclasses import dataclass

ANNOTATORS_PAGE = "https://huggingface.co/lllyasviel/Annotators"

Signature = tuple[tuple[str, tuple[int | None, ...]], ...]
"""Keys with their shapes; None stands for any length."""


@dataclass(frozen=True)
class WeightFile:
    """One published weight file of an annotator.

    `names`: what people call the file, the published name first; the same stem with .safetensors is looked
    for, too. `unwrap`: keys under which the tensors may lie. `prefixes`: what may stand before every key.
    `signature`: keys with their shapes that no other network has; files of one network share it; empty for
    files that are not tensors by keys (.onnx).
    `pixel_bytes`: memory that the network works in per pixel of its input, in 32 bit.
    """

    key: str
    title: str
    names: tuple[str, ...]
    signature: Signature
    unwrap: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("module.",)
    licence: str = "Apache-2.0"
    page: str = ANNOTATORS_PAGE
    pixel_bytes: int = 2048
