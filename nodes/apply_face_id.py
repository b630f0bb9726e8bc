"""The node that draws known faces, by FaceID."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..adapters.image_prompt.face_id.apply import apply_face_id
from ..adapters.image_prompt.face_id.rules import FACES_MODES, PLUS_VERSIONS, FaceSettings
from ..adapters.image_prompt.terms import settings_of
from ..adapters.image_prompt.weight_types import WEIGHT_TYPES
from ..adapters.injection.keys_values import SCALINGS
from .faces import FacesType
from .image_prompt_inputs import ImageEncoderType, IPAdapterType
from .window_inputs import window_inputs


def link_inputs() -> list[Any]:
    """Model, adapter, faces, encoder."""
    return [
        io.Model.Input(
            "model", tooltip="The model that the FaceID file was made for: SD1.5 or SDXL and kin."
        ),
        IPAdapterType.Input("ip_adapter", tooltip="A FaceID file of any kind, from Load IP-Adapter."),
        FacesType.Input(
            "faces",
            tooltip="The person or persons, from Analyze Faces with the pack buffalo_l; Kolors wants "
            "antelopev2. Those models are for non-commercial research only.",
        ),
        ImageEncoderType.Input(
            "image_encoder",
            optional=True,
            tooltip="Only for FaceID Plus, which also looks at the face: from Load Image Encoder, "
            "CLIP-ViT-H, for Kolors CLIP-ViT-L-336.",
        ),
    ]


def acting_inputs() -> list[Any]:
    """Weight, weight type, window, embeds scaling."""
    return [
        io.Float.Input(
            "weight",
            default=1.0,
            min=-1.0,
            max=5.0,
            step=0.05,
            display_name="weight",
            tooltip="How strongly the face counts beside the text. 0 is off, 1 what the adapter was trained "
            "for; less leaves room for the text. A list of numbers gives each picture of the batch its own.",
        ),
        io.Combo.Input(
            "weight_type",
            options=list(WEIGHT_TYPES),
            default="linear",
            display_name="weight_type",
            tooltip="How the weight is dealt out to the layers. linear: all alike. ease out: the text counts "
            "more. The others are as in Apply IP-Adapter.",
        ),
        *window_inputs(
            "Where the face begins to act: 0 = the first step. The LoRA acts in every step.",
            "Where the face stops to act: 1 = the last step. Less leaves the details to the text.",
        ),
        io.Combo.Input(
            "embeds_scaling",
            options=list(SCALINGS),
            default="V only",
            display_name="embeds_scaling",
            tooltip="Where the weight enters. V only: as in the papers. K+V: attention gets softer with less "
            "weight, the text counts more. C penalty: narrow layers get less.",
        ),
    ]


def face_inputs() -> list[Any]:
    """What only faces have."""
    return [
        io.Float.Input(
            "lora_strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.01,
            display_name="lora_strength",
            tooltip="Strength of the LoRA inside the FaceID file; no other LoRA file is needed. 1 is what it "
            "was trained with, 0.6 leaves the model's own style more room, 0 leaves its weights untouched.",
        ),
        io.Combo.Input(
            "plus_version",
            options=list(PLUS_VERSIONS),
            default="auto",
            display_name="plus_version",
            tooltip="Only for FaceID Plus. For SD1.5 choose v2 for ip-adapter-faceid-plusv2_sd15 or v1 for "
            "ip-adapter-faceid-plus_sd15: the file cannot tell. auto takes v2 elsewhere.",
        ),
        io.Float.Input(
            "structure_weight",
            default=1.0,
            min=0.0,
            max=5.0,
            step=0.05,
            display_name="structure_weight",
            tooltip="Only for FaceID Plus v2: how much the look of the face in its picture counts beside who "
            "it is. More keeps its shape and pose.",
        ),
        io.Combo.Input(
            "faces_mode",
            options=list(FACES_MODES),
            default="auto",
            display_name="faces_mode",
            tooltip="What becomes of several pictures of one person. average: the mean of their vectors. "
            "all: each has tokens of its own. auto: all for Portrait, average elsewhere.",
        ),
    ]


class TillerApplyFaceID(io.ComfyNode):
    """Applies faces by a FaceID file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerApplyFaceID",
            display_name="Apply FaceID",
            category="Tiller/faces",
            description="Draws a known face, by any FaceID file: v1, Plus, Plus v2, Portrait, for SD1.5 and "
            "SDXL. The LoRA inside the file is applied too. Two in a row with two masks are two people.",
            search_aliases=[
                "faceid",
                "IPAdapterFaceID",
                "IPAdapterUnifiedLoaderFaceID",
                "ip-adapter faceid",
                "same face",
                "character consistency",
            ],
            inputs=[
                *link_inputs(),
                *acting_inputs(),
                *face_inputs(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the face acts: 1 = fully, 0 = not at all. Any size; one for all pictures "
                    "of the batch or one for each. The LoRA acts everywhere.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="A copy of the model with the face, for the sampler.",
                ),
                io.String.Output(
                    "info",
                    display_name="info",
                    tooltip="Which kind of FaceID it is, how the faces were used, and a warning where they "
                    "come from other face models. Preview as Text shows it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ip_adapter: Any,
        faces: Any,
        weight: float | Sequence[float],
        lora_strength: float = 1.0,
        plus_version: Any = "auto",
        structure_weight: float = 1.0,
        faces_mode: Any = "auto",
        image_encoder: Any = None,
        **acting: Any,
    ) -> io.NodeOutput:
        face = FaceSettings(plus_version, structure_weight, lora_strength, faces_mode)
        settings = settings_of(weight, **acting)
        return io.NodeOutput(*apply_face_id(model, ip_adapter, faces, image_encoder, face, settings))


NODES = (TillerApplyFaceID,)
