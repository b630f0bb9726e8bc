"""The node that loads adapter files of image prompts and faces."""

from comfy_api.latest import io

from ..adapters.image_prompt.load._host import adapter_names, adapter_path, load_adapter, state_of_file
from .image_prompt_inputs import CATEGORY, IPAdapterType


class TillerLoadIPAdapter(io.ComfyNode):
    """Loads any adapter of image prompts or faces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadIPAdapter",
            display_name="Load IP-Adapter",
            category=CATEGORY,
            description="Loads an adapter for image prompts or faces, known by its contents: IP-Adapter, "
            "Plus, Full Face, FaceID, FaceID Plus, Portrait, Kolors, Flux (XLabs, InstantX). Says what the "
            "file is and which image encoder it wants, and refuses one that is something else.",
            search_aliases=[
                "IPAdapterModelLoader",
                "IPAdapterUnifiedLoader",
                "IPAdapterUnifiedLoaderFaceID",
                "load ipadapter",
                "LoadFluxIPAdapter",
                "IPAdapterFluxLoader",
                "ip-adapter",
                "image prompt",
                "faceid loader",
            ],
            inputs=[
                io.Combo.Input(
                    "ip_adapter_name",
                    display_name="ip_adapter_name",
                    options=adapter_names(),
                    tooltip="A file of models/ipadapter, models/ipadapter-flux or models/xlabs/ipadapters. "
                    "What it is is read from its contents, not from its name.",
                ),
            ],
            outputs=[
                IPAdapterType.Output(
                    display_name="ip_adapter",
                    tooltip="The adapter, for Apply IP-Adapter or, for a FaceID file, Apply FaceID.",
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="What the file is: family, base model, the image encoder it wants and where that "
                    "belongs, tokens, layers, LoRA half, face models. Preview as Text shows it.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, ip_adapter_name: str) -> str:
        return state_of_file(ip_adapter_name)

    @classmethod
    def execute(cls, ip_adapter_name: str) -> io.NodeOutput:
        return io.NodeOutput(*load_adapter(adapter_path(ip_adapter_name)))


NODES = (TillerLoadIPAdapter,)
