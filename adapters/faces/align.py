"""Faces cut out upright: five points laid on a template by a similarity (shift, turn, scale)."""

from typing import Literal, get_args

import numpy as np

Template = Literal["ArcFace", "FFHQ"]
TEMPLATES: tuple[Template, ...] = get_args(Template)
SIZES = (112, 224, 256, 336, 512)
"""Sides of a crop that consumers ask for: ArcFace, CLIP at 224 and 336, cubiq's SDXL form, restoration."""

ARCFACE = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
)  # fmt: skip
"""Eyes, nose, corners of the mouth in a picture of 112 x 112, each pair from left to right."""

FFHQ = (
    (192.98138, 239.94708), (318.90277, 240.1936), (256.63416, 314.01935), (201.26117, 371.41043),
    (313.08905, 371.15118),
)  # fmt: skip
"""The same in a picture of 512 x 512."""

BORDERS: dict[Template, tuple[int, int, int]] = {"ArcFace": (0, 0, 0), "FFHQ": (132, 133, 135)}
"""RGB colour of what lies outside the picture, by template."""


def template_points(size: int, template: Template = "ArcFace") -> np.ndarray:
    """The five points (5,2) float32, in pixels, of a crop with sides of `size`.

    ArcFace sizes are multiples of 112, on which the template fills the crop, or of 128, which shows 8 of 128
    columns more on either side. FFHQ takes any size.

    Raises ValueError for another size.

    Source: deepinsight/insightface: python-package/insightface/utils/face_align.py (estimate_norm);
    xinntao/facexlib: facexlib/utils/face_restoration_helper.py (face_template).
    """
    if size < 1 or (template == "ArcFace" and size % 112 and size % 128):
        raise ValueError(
            f"A crop by the ArcFace template needs a size that is a multiple of 112 or of 128, got {size}. "
            "Choose 224, or 256 for a wider one."
        )
    if template == "FFHQ":
        points, ratio, shift = FFHQ, size / 512, 0.0
    elif size % 112 == 0:
        points, ratio, shift = ARCFACE, size / 112, 0.0
    else:
        points, ratio, shift = ARCFACE, size / 128, 8.0 * size / 128
    return np.array(points, np.float32) * ratio + np.array([shift, 0.0], np.float32)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (2,3) that lays points (n,2) onto others with the least squares; it never mirrors.

    It is worked out in the precision of the points, 32 bit for those of a detector: crops then equal the
    reference's to the bit.

    Raises ValueError when all source points lie in one place, or when a number is not finite.

    Source: Umeyama 1991, equations 38 to 43; deepinsight/insightface: utils/face_align.py (estimate_norm).
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    spread = (source - source_mean).var(axis=0).sum()
    if not np.isfinite(spread) or spread < 1e-6:
        raise ValueError(
            "A face needs five points in different places to be cut out, got "
            f"{np.round(source, 2).tolist()}. The detector is broken, or the file is another network: get "
            "its pack again."
        )
    left, sizes, right = np.linalg.svd((target - target_mean).T @ (source - source_mean) / len(source))
    signs = np.array([1.0, -1.0 if np.linalg.det(left) * np.linalg.det(right) < 0 else 1.0])
    turn = left @ np.diag(signs) @ right
    scale = 1.0 / spread * (sizes @ signs)
    return np.column_stack([scale * turn, target_mean - scale * (turn @ source_mean)])


def crop_transform(points: np.ndarray, size: int, template: Template = "ArcFace") -> np.ndarray:
    """The similarity (2,3) from a picture's pixels to those of the crop, for points (5,2) in pixels.

    ArcFace by least squares over all five points; FFHQ by the least median of squares, as the face
    restoration that it comes from does, so that one bad point does not turn the face.

    Raises ValueError as `template_points` and `similarity` do.
    """
    points, target = np.asarray(points, np.float32), template_points(size, template)
    fitted = similarity(points, target)
    if template == "ArcFace":
        return fitted
    import cv2

    found, _ = cv2.estimateAffinePartial2D(points, target, method=cv2.LMEDS)
    return fitted if found is None else found


def crop_face(
    picture: np.ndarray, points: np.ndarray, size: int, template: Template = "ArcFace"
) -> np.ndarray:
    """A picture (H,W,3) uint8 RGB or BGR and points (5,2) in pixels -> the face upright, (size,size,3) uint8.

    What lies outside the picture is black (ArcFace) or gray (FFHQ, given in RGB).

    Raises ValueError as `crop_transform` does.

    Source: deepinsight/insightface: utils/face_align.py (norm_crop); xinntao/facexlib:
    facexlib/utils/face_restoration_helper.py (align_warp_face).
    """
    import cv2

    transform = crop_transform(points, size, template)
    return cv2.warpAffine(picture, transform, (size, size), borderValue=BORDERS[template])
