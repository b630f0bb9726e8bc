"""Weight files of Segment Anything: one network in four sizes."""

from .weight_file import WeightFile

FILES = (
    WeightFile(
        "segment_anything",
        "Segment Anything",
        ("mobile_sam.pt", "sam_vit_b_01ec64.pth", "sam_vit_l_0b3195.pth", "sam_vit_h_4b8939.pth"),
        (
            ("image_encoder.neck.0.weight", (None, None, 1, 1)),
            ("prompt_encoder.no_mask_embed.weight", (1, None)),
            ("mask_decoder.iou_token.weight", (1, None)),
            ("mask_decoder.mask_tokens.weight", (4, None)),
        ),
        unwrap=("model", "state_dict"),
        page="https://github.com/ChaoningZhang/MobileSAM",
        pixel_bytes=8192,
    ),
)
