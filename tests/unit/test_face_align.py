"""Faces are cut out as insightface does it, and as the face restoration does for the other template."""

import warnings

import cv2
import numpy as np
import pytest
from skimage.transform import SimilarityTransform
from tiller.adapters.faces.align import (
    ARCFACE,
    FFHQ,
    SIZES,
    crop_face,
    crop_transform,
    similarity,
    template_points,
)


@pytest.fixture(scope="module")
def face_align():
    return pytest.importorskip("insightface.utils.face_align")


def five_points(seed, side=600.0):
    """A face somewhere in a picture: the template turned, scaled, moved, and every point a little off."""
    random = np.random.default_rng(seed)
    angle, scale = random.uniform(-1.2, 1.2), random.uniform(0.3, 3.0)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array(ARCFACE) @ turn.T + random.uniform(0, side, 2) + random.normal(0, 2.0, (5, 2))
    return points.astype(np.float32)


def photograph():
    import skimage.data

    return skimage.data.astronaut()


def reference(function, *arguments):
    """Theirs, without its warning that scikit-image will rename what it calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


ASTRONAUT = np.array([[201, 115], [247, 116], [226, 139], [207, 160], [245, 160]], np.float32)
"""Her eyes, nose and the corners of her mouth, read off the picture."""


@pytest.mark.parametrize("size", SIZES)
def test_the_transform_is_the_reference_s(face_align, size):
    worst = 0.0
    for seed in range(200):
        points = five_points(seed, side=5000.0 if seed % 2 else 600.0)
        theirs = reference(face_align.estimate_norm, points, size)
        ours = crop_transform(points, size)
        at = np.c_[points, np.ones(5)]
        worst = max(worst, np.abs(at @ (theirs - ours).T).max())
    assert worst <= 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_the_reference_s_to_the_bit(face_align, size):
    picture = photograph()
    theirs = reference(face_align.norm_crop, picture, ASTRONAUT, size)
    np.testing.assert_array_equal(crop_face(picture, ASTRONAUT, size), theirs)


def test_the_similarity_is_umeyama_s_and_never_mirrors():
    for seed in range(50):
        random = np.random.default_rng(seed)
        source, target = random.normal(0, 50, (5, 2)), random.normal(0, 50, (5, 2))
        theirs = SimilarityTransform.from_estimate(source, target).params[:2]
        np.testing.assert_allclose(similarity(source, target), theirs, atol=1e-9)
    mirrored = similarity(np.array(ARCFACE) * (-1, 1), np.array(ARCFACE))
    assert np.linalg.det(mirrored[:, :2]) > 0


def test_an_exact_similarity_is_found_exactly():
    turned = np.array(ARCFACE) @ np.array([[0.0, -2.0], [2.0, 0.0]]) + (30, 40)
    back = similarity(turned, np.array(ARCFACE))
    np.testing.assert_allclose(np.c_[turned, np.ones(5)] @ back.T, ARCFACE, atol=1e-10)


def test_templates_of_112_fill_the_crop_and_those_of_128_show_more_at_the_sides():
    np.testing.assert_allclose(template_points(336), np.array(ARCFACE) * 3, rtol=1e-6)
    np.testing.assert_allclose(template_points(256), np.array(ARCFACE) * 2 + (16, 0), rtol=1e-6)
    np.testing.assert_allclose(template_points(512, "FFHQ"), FFHQ, rtol=1e-6)
    np.testing.assert_allclose(template_points(256, "FFHQ"), np.array(FFHQ) / 2, rtol=1e-6)


@pytest.mark.parametrize("size", [100, 0, 64, 225])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"multiple of 112 or of 128, got {size}. Choose 224"):
        template_points(size)


def test_points_in_one_place_are_refused():
    with pytest.raises(ValueError, match=r"needs five points in different places .* got \[\[3.0, 4.0\]"):
        crop_transform(np.tile([3.0, 4.0], (5, 1)), 112)
    with pytest.raises(ValueError, match="five points in different places"):
        crop_transform(np.full((5, 2), np.nan), 112)


def test_the_ffhq_crop_is_the_face_restoration_s():
    """facexlib fits with cv2's least median of squares and fills with gray (135, 133, 132) in BGR."""
    picture = photograph()
    affine = cv2.estimateAffinePartial2D(ASTRONAUT, np.array(FFHQ, np.float32), method=cv2.LMEDS)[0]
    bgr = cv2.warpAffine(
        picture[..., ::-1], affine, (512, 512), borderMode=cv2.BORDER_CONSTANT, borderValue=(135, 133, 132)
    )
    np.testing.assert_array_equal(crop_face(picture, ASTRONAUT, 512, "FFHQ"), bgr[..., ::-1])


def test_outside_the_picture_is_black_or_gray():
    picture = np.full((40, 40, 3), 255, np.uint8)
    points = np.array(ARCFACE, np.float32) + np.float32((0, 200))
    assert (crop_face(picture, points, 112) == 0).all()
    assert (crop_face(picture, points + 5000, 128, "FFHQ") == (132, 133, 135)).all(), "RGB"


def test_the_eyes_lie_where_the_template_says():
    turned = cv2.warpAffine(photograph(), crop_transform(ASTRONAUT, 224), (224, 224))
    np.testing.assert_array_equal(turned, crop_face(photograph(), ASTRONAUT, 224))
    landed = np.c_[ASTRONAUT, np.ones(5)] @ crop_transform(ASTRONAUT, 224).T
    assert np.abs(landed - template_points(224)).max() < 12
