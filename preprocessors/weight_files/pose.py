"""Weight files of poses."""

from .weight_file import WeightFile

OPENPOSE_LICENCE = "CMU OpenPose: academic and non-commercial use only"
DWPOSE_PAGE = "https://huggingface.co/yzd-v/DWPose"

FILES = (
    WeightFile(
        "openpose_body",
        "OpenPose body",
        ("body_pose_model.pth",),
        (("conv1_1.weight", (64, 3, 3, 3)), ("Mconv7_stage6_L2.weight", (19, 128, 1, 1))),
        licence=OPENPOSE_LICENCE,
    ),
    WeightFile(
        "openpose_hand",
        "OpenPose hand",
        ("hand_pose_model.pth",),
        (("conv1_1.weight", (64, 3, 3, 3)), ("Mconv7_stage6.weight", (22, 128, 1, 1))),
        licence=OPENPOSE_LICENCE,
    ),
    WeightFile(
        "openpose_face",
        "OpenPose face",
        ("facenet.pth",),
        (("conv1_1.weight", (64, 3, 3, 3)), ("Mconv7_stage6.weight", (71, 128, 1, 1))),
        licence=OPENPOSE_LICENCE,
    ),
    WeightFile("dwpose_detector", "DWPose's person detector", ("yolox_l.onnx",), (), page=DWPOSE_PAGE),
    WeightFile("dwpose", "DWPose", ("dw-ll_ucoco_384.onnx",), (), page=DWPOSE_PAGE),
)
