"""The node that finds and loads the encoder that reads pictures for an adapter."""

from typing import Any

from comfy_api.latest import io

from ..adapters.image_prompt.encode._host import encoder_names, load_image_encoder
from ..adapters.image_prompt.encode.choose import AUTO
from .image_prompt_inputs import CATEGORY, ImageEncoderType, IPAdapterType


class TillerLoadImageEncoder(io.ComfyNode):
    """Finds the encoder that an adapter wants."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadImageEncoder",
            display_name="Load Image Encoder",
            category=CATEGORY,
            description="Loads the image encoder that an IP-Adapter reads pictures with: CLIP-ViT-H, "
            "CLIP-ViT-bigG, CLIP-ViT-L, CLIP-ViT-L-336 or SigLIP. Finds it by its contents, whatever its "
            "file is called, and refuses one that the adapter does not want.",
            search_aliases=[
                "CLIPVisionLoader",
                "load clip vision",
                "image encoder",
                "IPAdapterUnifiedLoader",
                "siglip loader",
            ],
            inputs=[
                io.Combo.Input(
                    "encoder_name",
                    display_name="encoder_name",
                    options=encoder_names(),
                    default=AUTO,
                    tooltip="A file of models/clip_vision. auto: the one that the adapter wants, found by "
                    "keys and shapes among the .safetensors files there; other files by name alone.",
                ),
                IPAdapterType.Input(
                    "ip_adapter",
                    optional=True,
                    tooltip="The adapter that the encoder is for, from Load IP-Adapter. A file that holds "
                    "another encoder is then refused.",
                ),
            ],
            outputs=[
                ImageEncoderType.Output(
                    display_name="image_encoder",
                    tooltip="The encoder, for Encode Image Prompt.",
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="Which file was loaded and what it is. Preview as Text shows it.",
                ),
            ],
        )

    @classmethod
    def execute(cls, encoder_name: str, ip_adapter: Any = None) -> io.NodeOutput:
        return io.NodeOutput(*load_image_encoder(encoder_name, ip_adapter))


NODES = (TillerLoadImageEncoder,)
