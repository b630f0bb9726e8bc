"""Hint nodes that draw line art with a network: realistic, coarse, anime and anime without noise."""

import torch
from comfy_api.latest import io

from ..preprocessors import line_art
from ..preprocessors._host import network
from ..preprocessors.networks.line_art import LineArtGenerator
from ..preprocessors.networks.line_art_anime import LineArtAnimeUNet
from ..preprocessors.networks.manga_line import MangaLineExtraction
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


class TillerLineArtRealistic(io.ComfyNode):
    """Fine line art."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLineArtRealistic",
            display_name="Realistic Line Art",
            category=CATEGORY,
            description="Fine white lines on black, as a draughtsman would draw the picture, for line art "
            "control nets. Needs sk_model.pth.",
            search_aliases=[
                "lineart",
                "line art",
                "lineart_realistic",
                "lineart_realistic (from image)",
                "LineArtPreprocessor",
                "Realistic Lineart",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("Fine white lines on black.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("line_art_realistic", LineArtGenerator, weights)
        return io.NodeOutput(line_art.line_art(image, loaded, resolution))


class TillerLineArtCoarse(io.ComfyNode):
    """Rough line art."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLineArtCoarse",
            display_name="Coarse Line Art",
            category=CATEGORY,
            description="Rough white lines on black, like a quick sketch of the picture, for line art "
            "control nets. Needs sk_model2.pth.",
            search_aliases=[
                "lineart",
                "line art",
                "lineart_coarse",
                "LineArtPreprocessor coarse",
                "Coarse Lineart",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("Rough white lines on black.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("line_art_coarse", LineArtGenerator, weights)
        return io.NodeOutput(line_art.line_art(image, loaded, resolution))


class TillerLineArtAnime(io.ComfyNode):
    """Line art in the style of anime."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLineArtAnime",
            display_name="Anime Line Art",
            category=CATEGORY,
            description="White lines on black in the style of anime drawings, for anime line art control "
            "nets. Needs netG.pth.",
            search_aliases=[
                "lineart",
                "line art",
                "lineart_anime",
                "AnimeLineArtPreprocessor",
                "Anime Lineart",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("White lines on black in the style of anime.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("line_art_anime", LineArtAnimeUNet, weights)
        return io.NodeOutput(line_art.line_art_anime(image, loaded, resolution))


class TillerLineArtAnimeDenoise(io.ComfyNode):
    """Lines of drawn pictures without noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLineArtAnimeDenoise",
            display_name="Anime Line Art Denoise",
            category=CATEGORY,
            description="White lines on black from a drawn picture, its screen tone, texture and noise left "
            "out, for anime line art control nets. Needs erika.pth.",
            search_aliases=[
                "lineart",
                "line art",
                "lineart_anime_denoise",
                "MangaLineExtraction",
                "Manga2Anime_LineArt_Preprocessor",
                "Manga Lineart (aka lineart_anime_denoise)",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("White lines on black, without screen tone and noise.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("line_art_anime_denoise", MangaLineExtraction, weights, "channels_last")
        return io.NodeOutput(line_art.line_art_anime_denoise(image, loaded, resolution))


HINTS = (
    ("lineart_realistic", TillerLineArtRealistic),
    ("lineart_coarse", TillerLineArtCoarse),
    ("lineart_anime", TillerLineArtAnime),
    ("lineart_anime_denoise", TillerLineArtAnimeDenoise),
)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
