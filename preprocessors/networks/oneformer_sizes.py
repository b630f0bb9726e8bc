"""How wide and deep a OneFormer is, read from the key -> shape listing of its file."""

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

PIXELS = "sem_seg_head.pixel_decoder"
QUERIES = "sem_seg_head.predictor"
BLOCK = "backbone.layers.{}.blocks.0"
STAGES = 4


@dataclass(frozen=True)
class SwinSizes:
    """The backbone: channels after the first layer, blocks and heads of each stage, side of a window in
    patches, how much wider the channels are within a block.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    widening: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width << stage for stage in range(STAGES))


@dataclass(frozen=True)
class OneFormerSizes:
    """The whole network: `width` is that of the pixel decoder and of the queries, `..._inner` that of
    the layers between; `queries` includes the task, `classes` the one that stands for nothing.
    """

    swin: SwinSizes
    width: int
    pixel_inner: int
    pixel_layers: int
    queries: int
    query_inner: int
    query_layers: int
    class_layers: int
    classes: int
    tokens: int


def oneformer_sizes(shapes: Shapes) -> OneFormerSizes:
    """Key -> shape listing of a OneFormer with a Swin backbone, as published -> its sizes.

    Raises:
        KeyError: when the listing has none of the keys that are read here.
    """
    table = shapes[f"{BLOCK.format(0)}.attn.relative_position_bias_table"]
    width = shapes["backbone.patch_embed.proj.weight"][0]
    stages = range(STAGES)
    swin = SwinSizes(
        width=width,
        depths=tuple(_count(shapes, f"backbone.layers.{stage}.blocks.") for stage in stages),
        heads=tuple(
            shapes[f"{BLOCK.format(stage)}.attn.relative_position_bias_table"][1] for stage in stages
        ),
        window=(round(table[0] ** 0.5) + 1) // 2,
        widening=shapes[f"{BLOCK.format(0)}.mlp.fc1.weight"][0] // width,
    )
    queries, query_width = shapes[f"{QUERIES}.query_embed.weight"]
    return OneFormerSizes(
        swin=swin,
        width=query_width,
        pixel_inner=shapes[f"{PIXELS}.transformer.encoder.layers.0.linear1.weight"][0],
        pixel_layers=_count(shapes, f"{PIXELS}.transformer.encoder.layers."),
        queries=queries,
        query_inner=shapes[f"{QUERIES}.transformer_ffn_layers.0.linear1.weight"][0],
        query_layers=_count(shapes, f"{QUERIES}.transformer_ffn_layers."),
        class_layers=_count(shapes, f"{QUERIES}.class_transformer.decoder.layers."),
        classes=shapes[f"{QUERIES}.class_embed.weight"][0],
        tokens=shapes["task_mlp.layers.0.weight"][1],
    )


def _count(shapes: Shapes, prefix: str) -> int:
    """The highest number behind `prefix`, plus one; 0 without any."""
    found = (key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix))
    return max((int(number) + 1 for number in found if number.isdecimal()), default=0)
