"""OpenPose's networks: where the body's joints are and how limbs run between them, hands, and faces."""

import torch
from torch import nn
from torch.nn import functional

Layer = tuple[str, int, int]
"""Published name, channels that come out, side of the kernel."""

STAGES = range(2, 7)
BODY_FEATURES, HEAT_MAPS, LIMB_MAPS = 128, 19, 38
HAND_MAPS, FACE_MAPS = 22, 71


class _Convolutions(nn.Module):
    """Convolutions that lie side by side under their published names and run in given orders."""

    def _add(self, layers: tuple[Layer, ...], before: int) -> None:
        for name, after, side in layers:
            self.add_module(name, nn.Conv2d(before, after, side, padding=side // 2))
            before = after

    def _run(self, layers: tuple[Layer, ...], features: torch.Tensor, rectify_last: bool) -> torch.Tensor:
        for name, _, _ in layers:
            features = self.get_submodule(name)(features)
            if rectify_last or name != layers[-1][0]:
                features = functional.relu(features, inplace=True)
        return features

    def _features(self, groups: tuple[tuple[Layer, ...], ...], levels: torch.Tensor) -> torch.Tensor:
        """Levels 0..255 RGB -> features: groups of convolutions, halved in size between them."""
        features = levels.flip(1) / 256.0 - 0.5
        for index, layers in enumerate(groups):
            if index:
                features = functional.max_pool2d(features, 2)
            features = self._run(layers, features, rectify_last=True)
        return features


def _vgg(*groups: tuple[tuple[str, int], ...]) -> tuple[tuple[Layer, ...], ...]:
    return tuple(tuple((name, channels, 3) for name, channels in layers) for layers in groups)


def _numbered(block: int, count: int, channels: int) -> tuple[tuple[str, int], ...]:
    return tuple((f"conv{block}_{index}", channels) for index in range(1, count + 1))


def _stage(suffix: str, maps: int) -> tuple[Layer, ...]:
    wide = tuple((f"Mconv{index}_{suffix}", 128, 7) for index in range(1, 6))
    return (*wide, (f"Mconv6_{suffix}", 128, 1), (f"Mconv7_{suffix}", maps, 1))


class BodyPose(_Convolutions):
    """(B,3,h,w) float RGB levels 0..255 -> limb maps (B,38,h/8,w/8) and heat maps (B,19,h/8,w/8), float.

    Heat maps: the 18 points of the body, then the background; limb maps: direction x and y of 19 limbs.
    Height and width are multiples of 8. `body_pose_model.pth` holds tensors of these names and shapes. The
    last heat maps are rectified, as in the reference.

    Source: Cao et al. 2017 (Realtime multi-person 2D pose estimation); Mikubill/sd-webui-controlnet:
    annotator/openpose/model.py (bodypose_model).
    """

    TRUNK = _vgg(
        _numbered(1, 2, 64),
        _numbered(2, 2, 128),
        _numbered(3, 4, 256),
        (*_numbered(4, 2, 512), ("conv4_3_CPM", 256), ("conv4_4_CPM", BODY_FEATURES)),
    )

    def __init__(self) -> None:
        super().__init__()
        self._add(sum(self.TRUNK, ()), 3)
        for branch in self._branches(1):
            self._add(branch, BODY_FEATURES)
        for stage in STAGES:
            for branch in self._branches(stage):
                self._add(branch, LIMB_MAPS + HEAT_MAPS + BODY_FEATURES)

    @staticmethod
    def _branches(stage: int) -> list[tuple[Layer, ...]]:
        if stage > 1:
            return [_stage(f"stage{stage}_L1", LIMB_MAPS), _stage(f"stage{stage}_L2", HEAT_MAPS)]
        return [
            (
                *((f"conv5_{index}_CPM_{branch}", 128, 3) for index in range(1, 4)),
                (f"conv5_4_CPM_{branch}", 512, 1),
                (f"conv5_5_CPM_{branch}", maps, 1),
            )
            for branch, maps in (("L1", LIMB_MAPS), ("L2", HEAT_MAPS))
        ]

    def forward(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self._features(self.TRUNK, levels)
        maps = [self._run(branch, features, rectify_last=False) for branch in self._branches(1)]
        for stage in STAGES:
            seen = torch.cat([*maps, features], 1)
            maps = [self._run(branch, seen, rectify_last=False) for branch in self._branches(stage)]
        return maps[0], functional.relu(maps[1])


class _PartPose(_Convolutions):
    """The network that hands and faces share, for any number of maps."""

    TRUNK = _vgg(
        _numbered(1, 2, 64),
        _numbered(2, 2, 128),
        _numbered(3, 4, 256),
        (*_numbered(4, 4, 512), *_numbered(5, 2, 512), ("conv5_3_CPM", BODY_FEATURES)),
    )

    def __init__(self, maps: int) -> None:
        super().__init__()
        self._first = (("conv6_1_CPM", 512, 1), ("conv6_2_CPM", maps, 1))
        self._stages = [_stage(f"stage{stage}", maps) for stage in STAGES]
        self._add(sum(self.TRUNK, ()), 3)
        self._add(self._first, BODY_FEATURES)
        for stage in self._stages:
            self._add(stage, maps + BODY_FEATURES)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        features = self._features(self.TRUNK, levels)
        maps = self._run(self._first, features, rectify_last=False)
        for stage in self._stages:
            maps = self._run(stage, torch.cat([maps, features], 1), rectify_last=False)
        return maps


class HandPose(_PartPose):
    """(B,3,h,w) float RGB levels 0..255 -> heat maps (B,22,h/8,w/8): 21 points of a hand, the background.

    Height and width are multiples of 8. `hand_pose_model.pth` holds tensors of these names and shapes.

    Source: Simon et al. 2017 (Hand keypoint detection in single images); Mikubill/sd-webui-controlnet:
    annotator/openpose/model.py (handpose_model).
    """

    def __init__(self) -> None:
        super().__init__(HAND_MAPS)


class FacePose(_PartPose):
    """(B,3,h,w) float RGB levels 0..255 -> heat maps (B,71,h/8,w/8): 70 points of a face, the background.

    Height and width are multiples of 8. `facenet.pth` holds tensors of these names and shapes.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/face.py (FaceNet).
    """

    def __init__(self) -> None:
        super().__init__(FACE_MAPS)
