"""What a loaded control net and a loaded model are, and whether they go together."""

import logging
from typing import Any

from comfy.controlnet import ControlBase

from ..identify import CONTEXT_FAMILIES, Identified, UnknownWeightsError, identify

logger = logging.getLogger("tiller")

IMAGE_MODELS: dict[str, str] = {
    "flux": "Flux",
    "flux2": "Flux 2",
    "qwen_image": "Qwen-Image",
    "hydit": "HunyuanDiT",
    "hydit1": "HunyuanDiT",
}
"""The host's name of a transformer's kind -> family."""


def net_shapes(net: ControlBase) -> dict[str, tuple[int, ...]] | None:
    """Key -> shape of the net's own weights, or None for a control object that shows none."""
    for name in ("control_model", "t2i_model"):
        module = getattr(net, name, None)
        if module is not None:
            return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    weights = getattr(net, "control_weights", None)
    if weights is None:
        return None
    return {key: tuple(getattr(tensor, "shape", ())) for key, tensor in weights.items()}


def identify_net(net: ControlBase) -> Identified | None:
    """What a loaded control net is; None, with a line in the log, where its weights are unknown."""
    known = getattr(net, "identified", None)
    if known is not None:
        return known
    shapes = net_shapes(net)
    if shapes is None:
        logger.info("A %s shows no weights: its model family is not checked.", type(net).__name__)
        return None
    try:
        return identify(shapes)
    except UnknownWeightsError as error:
        logger.info("The model family of a control net is not checked: %s", error)
        return None


def model_family(model: Any) -> str | None:
    """Family of a loaded diffusion model (the host's BaseModel), or None for one that is not known."""
    config = getattr(getattr(model, "model_config", None), "unet_config", None) or {}
    image_model = config.get("image_model")
    if image_model is not None:
        return IMAGE_MODELS.get(image_model, str(image_model))
    if "stable_cascade_stage" in config:
        return "Stable Cascade"
    if "pos_embed_scaling_factor" in config:
        return "SD3"
    if config.get("use_temporal_attention"):
        return "SVD"
    return CONTEXT_FAMILIES.get(config.get("context_dim", 0))


def check_family(net: Identified | None, model: Any) -> None:
    """Raises ValueError when the control net is made for another model family than the model's."""
    family = model_family(model)
    if net is None or family is None or family in (net.family, *net.also_for):
        return
    named = f" ({net.file})" if net.file else ""
    made_for = " or ".join((net.family, *net.also_for))
    raise ValueError(
        f"This control net{named} is for {made_for}, but the model is {family}. "
        f"Load a control net made for {family}, or sample with a model of the {made_for} family."
    )
