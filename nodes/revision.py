"""Node that steers SDXL by pictures in place of the prompt's pooled vector."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.revision.apply import revise
from ..adapters.control.revision.embedding import WeightedImage, parse_weights

CATEGORY = "Tiller/control"
MAX_IMAGES = 20


class TillerRevision(io.ComfyNode):
    """Pictures as a prompt for SDXL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerRevision",
            display_name="Revision",
            category=CATEGORY,
            description="Revision for SDXL: pictures, read by CLIP-ViT-bigG, take the place of the prompt's "
            "pooled vector. What they show comes back in new pictures, alone or together with the prompt.",
            search_aliases=[
                "revision",
                "revision_clipvision",
                "revision_ignore_prompt",
                "image prompt",
                "image variation",
                "unCLIPConditioning",
            ],
            inputs=[
                io.Conditioning.Input("positive", tooltip="What the picture should show, encoded for SDXL."),
                io.Conditioning.Input("negative", tooltip="What it should not show, encoded for SDXL."),
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(
                        io.ClipVisionOutput.Input(
                            "image",
                            tooltip="A picture from CLIP Vision Encode with CLIP-ViT-bigG. A free slot "
                            "appears for the next one.",
                        ),
                        prefix="image",
                        min=1,
                        max=MAX_IMAGES,
                    ),
                    tooltip="The pictures, from CLIP Vision Encode with CLIP-ViT-bigG (clip_vision_g).",
                ),
                io.String.Input(
                    "weights",
                    display_name="weights",
                    default="1",
                    tooltip="How much each picture counts: one number for all, or one each, such as 1, 0.5. "
                    "Several pictures of full weight add up; 0.5, 0.5 is their mean.",
                ),
                io.Float.Input(
                    "noise_augmentation",
                    display_name="noise augmentation",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Noise in the embeddings: more leaves the model more freedom. 0 is none.",
                ),
                io.Boolean.Input(
                    "ignore_prompt",
                    display_name="ignore prompt",
                    default=False,
                    tooltip="Switches the text of both prompts off, so that the pictures speak alone. Turn "
                    "it on as well when both prompts are empty.",
                ),
                io.Int.Input(
                    "seed",
                    display_name="seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Which noise. It counts for noise augmentation above 0 only.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="The positive conditioning with the pictures.",
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="The negative conditioning with zeros in place of its pooled vector.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        images: io.Autogrow.Type,
        weights: str,
        noise_augmentation: float,
        ignore_prompt: bool,
        seed: int,
    ) -> io.NodeOutput:
        given = [image.image_embeds for image in images.values() if image is not None]
        pairs = zip(given, parse_weights(weights, len(given)), strict=True)
        weighted = [WeightedImage(embedding, weight) for embedding, weight in pairs]
        return io.NodeOutput(*revise(positive, negative, weighted, noise_augmentation, seed, ignore_prompt))


NODES = (TillerRevision,)
