"""Weight files of depth."""

from .weight_file import WeightFile

FILES = (
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
)
