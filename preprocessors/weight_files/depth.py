"""Weight files of depth."""

from .weight_file import WeightFile

MIDAS_TRUNK = "pretrained.model.patch_embed.backbone"

FILES = (
    WeightFile(
        "leres",
        "LeReS depth",
        ("res101.pth",),
        (
            ("depth_model.encoder_modules.encoder.conv1.weight", (None, 3, 7, 7)),
            ("depth_model.decoder_modules.outconv.adapt_conv.3.weight", (1, None, 3, 3)),
        ),
        unwrap=("depth_model",),
        licence="Adobe Research: non-commercial use only",
        pixel_bytes=1280,
    ),
    WeightFile(
        "leres_merge",
        "LeReS boost",
        ("latest_net_G.pth",),
        (("model.model.0.weight", (None, 2, 4, 4)), ("model.model.3.weight", (None, 1, 4, 4))),
        licence="BoostingMonocularDepth: academic use only",
        pixel_bytes=640,
    ),
    WeightFile(
        "depth_anything_v2",
        "Depth Anything V2",
        (
            "depth_anything_v2_vitl.pth",
            "depth_anything_v2_vitl_fp32.safetensors",
            "depth_anything_v2_vitl_fp16.safetensors",
            "depth_anything_v2_vitb.pth",
            "depth_anything_v2_vitb_fp32.safetensors",
            "depth_anything_v2_vitb_fp16.safetensors",
            "depth_anything_v2_vits.pth",
            "depth_anything_v2_vits_fp32.safetensors",
            "depth_anything_v2_vits_fp16.safetensors",
        ),
        (
            ("pretrained.pos_embed", (1, 1370, None)),
            ("pretrained.blocks.0.mlp.fc1.weight", (None, None)),
            ("depth_head.projects.0.weight", (None, None, 1, 1)),
            ("depth_head.projects.1.weight", (None, None, 1, 1)),
            ("depth_head.projects.2.weight", (None, None, 1, 1)),
            ("depth_head.projects.3.weight", (None, None, 1, 1)),
            ("depth_head.scratch.layer1_rn.weight", (None, None, 3, 3)),
        ),
        licence="CC-BY-NC-4.0, non-commercial use only; the small depth_anything_v2_vits.pth: Apache-2.0",
        page="https://huggingface.co/depth-anything",
    ),
    WeightFile(
        "zoe",
        "ZoeDepth",
        ("ZoeD_M12_N.pt",),
        (
            ("core.core.pretrained.model.blocks.0.attn.relative_position_bias_table", (None, None)),
            ("core.core.pretrained.model.blocks.0.mlp.fc1.weight", (None, None)),
            *((f"core.core.pretrained.act_postprocess{n}.3.weight", (None, None, 1, 1)) for n in range(1, 5)),
            ("core.core.scratch.layer1_rn.weight", (None, None, 3, 3)),
            ("core.core.scratch.output_conv.2.weight", (None, None, 3, 3)),
            ("projectors.0._net.2.weight", (None, None, 1, 1)),
            ("seed_bin_regressor._net.2.weight", (None, None, 1, 1)),
            ("conditional_log_binomial.mlp.0.weight", (None, None, 1, 1)),
        ),
        unwrap=("model",),
        licence="MIT",
        pixel_bytes=4096,
    ),
    WeightFile(
        "midas",
        "MiDaS",
        ("dpt_hybrid-midas-501f0c75.pt", "dpt_hybrid_384.pt"),
        (
            (f"{MIDAS_TRUNK}.stem.conv.weight", (None, 3, 7, 7)),
            (f"{MIDAS_TRUNK}.stages.0.blocks.0.conv3.weight", (None, None, 1, 1)),
            (f"{MIDAS_TRUNK}.stages.1.blocks.0.conv3.weight", (None, None, 1, 1)),
            (f"{MIDAS_TRUNK}.stages.2.blocks.0.conv3.weight", (None, None, 1, 1)),
            ("pretrained.model.blocks.0.mlp.fc1.weight", (None, None)),
            ("pretrained.model.head.weight", (None, None)),
            ("scratch.layer1_rn.weight", (None, None, 3, 3)),
        ),
        unwrap=("model",),
        licence="MIT",
    ),
)
