"""The inputs and the output that hint nodes share."""

from collections.abc import Sequence

from comfy_api.latest import io

from ..preprocessors._host import AUTO, weight_names

CATEGORY = "Tiller/hints"
MAX_RESOLUTION = 16384


def image_input() -> io.Image.Input:
    """The picture, a batch of any size."""
    return io.Image.Input(
        "image",
        tooltip="The picture or batch to make the hint from. Gray and transparent pictures work too; "
        "transparency is laid over white.",
    )


def mask_input() -> io.Mask.Input:
    """What a hint shall change of its picture. One text for all: the all-in-one node shows it, too."""
    return io.Mask.Input(
        "mask",
        tooltip="What shall change (1 = change). LaMa fills it and blends a soft edge; the inpaint hint "
        "marks what is above 0.5. One mask serves a whole batch; a mask of another size is stretched to the "
        "picture.",
    )


def resolution_input(default: int = 512) -> io.Int.Input:
    """The length of the shorter side at which the hint is made."""
    return io.Int.Input(
        "resolution",
        display_name="resolution",
        default=default,
        min=0,
        max=MAX_RESOLUTION,
        step=8,
        tooltip="Length of the shorter side at which the hint is made, in pixels; the aspect is kept. "
        "0 keeps the picture's own size. The node Pixel Perfect computes the best value.",
    )


def safe_input() -> io.Boolean.Input:
    """Soft edges in three levels."""
    return io.Boolean.Input(
        "safe",
        display_name="safe",
        default=False,
        tooltip="Only black, mid-gray and white edges, so that the hint gives away less of the picture's "
        "detail. Most soft edge control nets were trained with both kinds.",
    )


def weights_input(names: Sequence[str] | None = None) -> io.Combo.Input:
    """The weight file of the hint's network, one of `names` or of every weight file.

    One text for all of them: the all-in-one node shows it, too.
    """
    return io.Combo.Input(
        "weights",
        display_name="weights",
        options=[AUTO, *(weight_names() if names is None else names)],
        default=AUTO,
        tooltip="The network's weight file. auto takes the published file by its name from "
        "models/controlnet_aux, annotators, sams, depthanything, inpaint or comfyui_controlnet_aux/ckpts; "
        "any other choice is checked by its contents. Some licences bind you: PiDiNet is for research only; "
        "OpenPose, LeReS and the larger files of Depth Anything V2 for non-commercial use. The help page "
        "names the file and its page.",
    )


def hint_output(tooltip: str) -> io.Image.Output:
    """The finished hint."""
    return io.Image.Output("hint", display_name="hint", tooltip=tooltip)
