"""Weight files of segmentation."""

from .weight_file import Signature, WeightFile


def _oneformer(classes: int) -> Signature:
    """OneFormer with Swin, of any size; one more than the classes stands for nothing."""
    head, stages = "sem_seg_head", range(4)
    tables = [f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table" for stage in stages]
    return (
        (f"{head}.predictor.class_embed.weight", (classes + 1, None)),
        (f"{head}.predictor.query_embed.weight", (None, None)),
        (f"{head}.predictor.transformer_ffn_layers.0.linear1.weight", (None, None)),
        (f"{head}.predictor.class_transformer.decoder.norm.weight", (None,)),
        (f"{head}.pixel_decoder.transformer.encoder.layers.0.linear1.weight", (None, None)),
        ("task_mlp.layers.0.weight", (None, None)),
        ("backbone.patch_embed.proj.weight", (None, 3, 4, 4)),
        ("backbone.layers.0.blocks.0.mlp.fc1.weight", (None, None)),
        *((table, (None, None)) for table in tables),
    )


FILES = (
    WeightFile(
        "oneformer_ade20k",
        "OneFormer (ADE20K)",
        ("250_16_swin_l_oneformer_ade20k_160k.pth",),
        _oneformer(150),
        unwrap=("model",),
        licence="MIT",
    ),
    WeightFile(
        "oneformer_coco",
        "OneFormer (COCO)",
        ("150_16_swin_l_oneformer_coco_100ep.pth",),
        _oneformer(133),
        unwrap=("model",),
        licence="MIT",
    ),
    WeightFile(
        "uniformer",
        "UniFormer",
        ("upernet_global_small.pth",),
        (
            ("backbone.patch_embed3.proj.weight", (None, None, 2, 2)),
            ("backbone.blocks3.0.attn.qkv.weight", (None, None)),
            ("decode_head.psp_modules.3.1.conv.weight", (None, None, 1, 1)),
            ("decode_head.conv_seg.weight", (150, None, 1, 1)),
        ),
        unwrap=("state_dict",),
        page="https://huggingface.co/lllyasviel/ControlNet/tree/main/annotator/ckpts",
    ),
)
