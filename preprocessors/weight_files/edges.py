"""Weight files of soft edges, line art and straight lines."""

from .weight_file import Signature, WeightFile

LINE_ART: Signature = (("model0.1.weight", (64, 3, 7, 7)), ("model4.1.weight", (1, 64, 7, 7)))

FILES = (
    WeightFile(
        "hed",
        "HED",
        ("ControlNetHED.pth",),
        (("norm", (1, 3, 1, 1)), ("block5.projection.weight", (1, 512, 1, 1))),
    ),
    WeightFile(
        "pidinet",
        "PiDiNet",
        ("table5_pidinet.pth",),
        (("block4_4.conv1.weight", (240, 1, 3, 3)), ("classifier.weight", (1, 4, 1, 1))),
        unwrap=("state_dict",),
        licence="research only; commercial use needs the author's consent",
    ),
    WeightFile("line_art_realistic", "Realistic line art", ("sk_model.pth",), LINE_ART, licence="MIT"),
    WeightFile("line_art_coarse", "Coarse line art", ("sk_model2.pth",), LINE_ART, licence="MIT"),
    WeightFile(
        "line_art_anime",
        "Anime line art",
        ("netG.pth",),
        (("model.model.0.weight", (64, 3, 4, 4)), ("model.model.3.weight", (128, 1, 4, 4))),
        licence="MIT",
    ),
    WeightFile(
        "line_art_anime_denoise",
        "Anime line art without noise",
        ("erika.pth",),
        (("block0.model.0.conv1.model.2.weight", (24, 1, 3, 3)), ("conv15.model.2.weight", (1, 16, 1, 1))),
        licence="MIT",
    ),
    WeightFile(
        "mlsd",
        "M-LSD",
        ("mlsd_large_512_fp32.pth",),
        (("backbone.features.0.0.weight", (32, 4, 3, 3)), ("block23.conv3.weight", (16, 64, 1, 1))),
    ),
)
