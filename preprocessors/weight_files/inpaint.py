"""Weight files of networks that fill holes."""

from .weight_file import WeightFile

FILES = (
    WeightFile(
        "lama",
        "LaMa",
        ("ControlNetLama.pth", "big-lama.pt"),
        (
            ("1.ffc.convl2l.weight", (None, 4, 7, 7)),
            ("5.conv1.ffc.convg2g.fu.conv_layer.weight", (None, None, 1, 1)),
        ),
        prefixes=("module.", "generator.", "model.", "model."),
    ),
)
