"""The nodes that combine, save and load image prompts."""

from typing import Any

from comfy_api.latest import io

from ..adapters.control.revision.embedding import parse_weights
from ..adapters.image_prompt.embeddings import METHODS, combined
from ..adapters.image_prompt.stored._host import load_prompt, prompt_names, save_prompt, state_of_file
from .image_prompt_inputs import CATEGORY, ImagePromptType, IPAdapterType

MAX_PROMPTS = 20


class TillerCombineImagePrompts(io.ComfyNode):
    """Several image prompts as one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerCombineImagePrompts",
            display_name="Combine Image Prompts",
            category=CATEGORY,
            description="Makes one image prompt of several, each with a weight: side by side, averaged, "
            "added or subtracted.",
            search_aliases=[
                "IPAdapterCombineEmbeds",
                "combine embeds",
                "average images",
                "norm average",
                "several images",
            ],
            inputs=[
                io.Autogrow.Input(
                    "prompts",
                    template=io.Autogrow.TemplatePrefix(
                        ImagePromptType.Input(
                            "prompt",
                            tooltip="An image prompt of the same encoder as the others. A free slot appears "
                            "for the next one.",
                        ),
                        prefix="prompt",
                        min=1,
                        max=MAX_PROMPTS,
                    ),
                    tooltip="The image prompts, from Encode Image Prompt or Load Image Prompt, all for one "
                    "adapter.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="concat",
                    display_name="method",
                    tooltip="concat: the model sees all of them. average, add, max, min: one made of all. "
                    "norm average: the mean of directions, whatever the lengths. subtract: the first less "
                    "the mean of the others.",
                ),
                io.String.Input(
                    "weights",
                    display_name="weights",
                    default="1",
                    tooltip="How much each prompt counts: one number for all, or one each, such as 1, 0.5.",
                ),
            ],
            outputs=[
                ImagePromptType.Output(
                    display_name="image_prompt",
                    tooltip="All of them as one image prompt.",
                ),
            ],
        )

    @classmethod
    def execute(cls, prompts: io.Autogrow.Type, method: Any, weights: str) -> io.NodeOutput:
        given = [prompt for prompt in prompts.values() if prompt is not None]
        numbers = parse_weights(weights, len(given), "Combine Image Prompts", "prompts")
        return io.NodeOutput(combined(given, numbers, method))


class TillerSaveImagePrompt(io.ComfyNode):
    """Saves an image prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerSaveImagePrompt",
            display_name="Save Image Prompt",
            category=CATEGORY,
            description="Saves an image prompt into output/image_prompts, where Load Image Prompt finds it: "
            "used again without the pictures and their encoder.",
            search_aliases=["IPAdapterSaveEmbeds", "save embeds", "export image prompt"],
            inputs=[
                ImagePromptType.Input("image_prompt", tooltip="The image prompt to save."),
                io.String.Input(
                    "filename_prefix",
                    display_name="filename_prefix",
                    default="prompt",
                    tooltip="How the file's name begins; a number follows. A folder may stand before it: "
                    "people/anna.",
                ),
            ],
            outputs=[
                ImagePromptType.Output(
                    display_name="image_prompt", tooltip="The same image prompt, to go on with."
                ),
                io.String.Output(
                    display_name="name", tooltip="The file's name, as Load Image Prompt lists it."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image_prompt: Any, filename_prefix: str) -> io.NodeOutput:
        return io.NodeOutput(image_prompt, save_prompt(image_prompt, filename_prefix))


class TillerLoadImagePrompt(io.ComfyNode):
    """Loads a saved image prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLoadImagePrompt",
            display_name="Load Image Prompt",
            category=CATEGORY,
            description="Loads an image prompt that was saved, the same to the bit. Refuses a file of "
            "another kind, and one that was encoded for other adapters.",
            search_aliases=["IPAdapterLoadEmbeds", "load embeds", "import image prompt"],
            inputs=[
                io.Combo.Input(
                    "prompt_name",
                    display_name="prompt_name",
                    options=prompt_names(),
                    tooltip="A file of output/image_prompts, where Save Image Prompt puts them, or of "
                    "models/image_prompts. Press R after saving to see new ones.",
                ),
                IPAdapterType.Input(
                    "ip_adapter",
                    optional=True,
                    tooltip="The adapter that the prompt is for: one that reads another encoder is refused "
                    "here already.",
                ),
            ],
            outputs=[
                ImagePromptType.Output(
                    display_name="image_prompt", tooltip="The image prompt, for Apply IP-Adapter."
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="What the file holds and which adapters read it. Preview as Text shows it.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, prompt_name: str, ip_adapter: Any = None) -> str:
        return state_of_file(prompt_name)

    @classmethod
    def execute(cls, prompt_name: str, ip_adapter: Any = None) -> io.NodeOutput:
        return io.NodeOutput(*load_prompt(prompt_name, ip_adapter))


NODES = (TillerCombineImagePrompts, TillerSaveImagePrompt, TillerLoadImagePrompt)
