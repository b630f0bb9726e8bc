"""The inputs and the output that hint nodes share."""

from comfy_api.latest import io

CATEGORY = "Tiller/hints"
MAX_RESOLUTION = 16384


def image_input() -> io.Image.Input:
    """The picture, a batch of any size."""
    return io.Image.Input(
        "image",
        tooltip="The picture or batch to make the hint from. Gray and transparent pictures work too; "
        "transparency is laid over white.",
    )


def resolution_input() -> io.Int.Input:
    """The length of the shorter side at which the hint is made."""
    return io.Int.Input(
        "resolution",
        display_name="resolution",
        default=512,
        min=0,
        max=MAX_RESOLUTION,
        step=8,
        tooltip="Length of the shorter side at which the hint is made, in pixels; the aspect is kept. "
        "0 keeps the picture's own size. The node Pixel Perfect computes the best value.",
    )


def hint_output(tooltip: str) -> io.Image.Output:
    """The finished hint."""
    return io.Image.Output("hint", display_name="hint", tooltip=tooltip)
