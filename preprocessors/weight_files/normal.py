"""Weight files of surface normals."""

from .weight_file import WeightFile

FILES = (
    WeightFile(
        "normal_bae",
        "BAE normals",
        ("scannet.pt",),
        (
            ("encoder.original_model.conv_head.weight", (2048, 512, 1, 1)),
            ("decoder.out_conv_res1.0.weight", (128, 132, 1)),
        ),
        unwrap=("model",),
        licence="MIT",
    ),
)
