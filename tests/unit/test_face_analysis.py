"""Faces found, chosen and recognised: numbers by hand, insightface's own, and what is said otherwise."""

import sys
import warnings

import numpy as np
import pytest
import torch
from tiller.adapters.faces.analysis import NoFaceError, Search, analyze, describe
from tiller.adapters.faces.draw import CHOSEN, OTHER, draw_faces
from tiller.adapters.faces.packs import find_pack
from tiller.tests.unit.face_networks import (
    blob_pack,
    constant_detector,
    expected_vector,
    one_thread,
    opened,
    write,
)

from devtools import face_standins

RED, GREEN, BLUE = 0, 1, 2
PACK = ("blobs", "a network of 0 convolutions")
ASTRONAUT = np.array([[201, 115], [247, 116], [226, 139], [207, 160], [245, 160]], np.float32)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return blob_pack(tmp_path_factory.mktemp("insightface"))


@pytest.fixture(scope="module")
def networks(pack):
    return opened(pack)


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    """The stand-in that sees one face in the middle of any picture."""
    root = face_standins.ensure(tmp_path_factory.mktemp("models"))
    return opened(find_pack(face_standins.NAME, [root]))


def picture(*squares, height=640, width=640, level=0.5):
    """IMAGE (1,H,W,3): squares (channel, x0, y0, side) of pure colour on gray."""
    image = torch.full((1, height, width, 3), level)
    for channel, x0, y0, side in squares:
        image[0, y0 : y0 + side, x0 : x0 + side] = torch.eye(3)[channel]
    return image


def find(image, networks, **search):
    return analyze(image, networks, PACK, Search(**search))


THREE = ((BLUE, 400, 320, 128), (RED, 64, 96, 32), (GREEN, 256, 64, 64))


def test_a_face_lies_where_it_was_drawn_with_its_points_and_its_vector(networks):
    image = picture((RED, 96, 160, 32))
    faces, sizes = find(image, networks)
    (face,) = faces.found[0]
    np.testing.assert_allclose(face.box, [96, 160, 128, 192], atol=1e-3)
    places = np.array(face_standins.POINTS) * 32 + (112, 176)
    np.testing.assert_allclose(face.points, places, atol=1e-3)
    assert face.score == pytest.approx(0.6 + 0.16, abs=1e-5)
    assert sizes == ((640, 640),)
    crop = (faces.crops(112)[0] * 255).round().to(torch.uint8).numpy()
    np.testing.assert_allclose(face.embedding, expected_vector(crop), atol=1e-4)
    assert (faces.pack, faces.recogniser) == PACK


def test_people_at_every_stride_stand_from_left_to_right_and_the_largest_is_chosen(networks):
    faces, _ = find(picture(*THREE), networks)
    (found,) = faces.found
    boxes = [[64, 96, 96, 128], [256, 64, 320, 128], [400, 320, 528, 448]]
    np.testing.assert_allclose(torch.stack([face.box for face in found]), boxes, atol=1e-3)
    assert faces.chosen == (2,)


@pytest.mark.parametrize(
    ("search", "chosen"),
    [({"choice": "left"}, 0), ({"choice": "centre"}, 2), ({"choice": "index", "index": 1}, 1)],
)
def test_the_choice_decides_whose_vector_is_taken(networks, search, chosen):
    faces, _ = find(picture(*THREE), networks, **search)
    assert faces.chosen == (chosen,)
    assert torch.equal(faces.embedding(False)[0], faces.found[0][chosen].embedding)


def test_networks_see_colours_in_the_order_they_were_trained_with(networks):
    """24 pixels of red are 9 cells of the finest grid, 24 of blue half a cell of the coarsest."""
    assert len(find(picture((RED, 96, 160, 24)), networks).faces.found[0]) == 1
    with pytest.raises(NoFaceError):
        find(picture((BLUE, 96, 160, 24)), networks, detection_size=640)


@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_insightface_s_own(pack, networks, seed):
    random = np.random.default_rng(seed)
    image = torch.from_numpy(random.uniform(0.49, 0.51, (1, 500, 900, 3)).astype(np.float32))
    for channel, (x0, y0) in zip(
        (0, 1, 2, 0, 1), ((60, 40), (260, 90), (600, 60), (140, 330), (420, 380)), strict=True
    ):
        side = int(random.integers(40, 60)) * (1, 2, 3)[channel]
        x0, y0 = x0 + int(random.integers(0, 20)), y0 + int(random.integers(0, 20))
        image[0, y0 : y0 + side, x0 : x0 + side] = torch.eye(3)[channel]
    faces, _ = find(image, networks)
    theirs = insightface_s(pack, image)
    assert len(theirs) == len(faces.found[0]) >= 3
    for ours, other in zip(faces.found[0], theirs, strict=True):
        np.testing.assert_allclose(ours.box, other.bbox, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.points, other.kps, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.score, other.det_score, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.embedding, other.embedding, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.normed, other.normed_embedding, rtol=0, atol=1e-6)


def insightface_s(pack, image, size=640):
    """What insightface's own analysis of the same folder finds, from left to right."""
    app = pytest.importorskip("insightface.app")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = app.FaceAnalysis(
            name=str(pack.folder), providers=["CPUExecutionProvider"], sess_options=one_thread()
        )
        theirs.prepare(0, det_size=(size, size))
        found = theirs.get((image[0] * 255).round().to(torch.uint8).numpy()[..., ::-1])
    return sorted(found, key=lambda face: face.bbox[0] + face.bbox[2])


def test_a_photograph_from_the_picture_to_the_crop(tmp_path):
    """scikit-image's astronaut, her points given by a detector that was made for her: 512 pixels at 640."""
    import skimage.data

    photograph = skimage.data.astronaut()
    network = constant_detector((220, 70, 350, 250), ASTRONAUT * 1.25)
    write(tmp_path / "models/her", det=network, rec=face_standins.recogniser())
    pack = find_pack("her", [tmp_path])
    image = torch.from_numpy(photograph)[None] / 255
    faces, _ = find(image, opened(pack))
    (theirs,) = insightface_s(pack, image)
    np.testing.assert_allclose(faces.faces[0].points, ASTRONAUT, atol=1e-4)
    np.testing.assert_allclose(faces.faces[0].embedding, theirs.embedding, rtol=0, atol=1e-6)
    align = pytest.importorskip("insightface.utils.face_align")
    for size in (112, 224, 256):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = align.norm_crop(photograph, theirs.kps, size)
        crop = (faces.crops(size)[0] * 255).round().to(torch.uint8).numpy()
        np.testing.assert_array_equal(crop, expected)
    crop = (faces.crops(112)[0] * 255).round().to(torch.uint8).numpy()
    np.testing.assert_allclose(faces.faces[0].embedding, expected_vector(crop), atol=1e-4)


def test_a_face_too_large_for_the_first_size_is_found_at_a_smaller_one(networks):
    faces, sizes = find(picture((RED, 160, 160, 160)), networks)
    assert sizes == ((192, 192),)
    np.testing.assert_allclose(faces.faces[0].box, [160, 160, 320, 320], atol=8)


def test_a_small_face_is_found_by_a_larger_detection_size(networks):
    image = picture((RED, 96, 160, 6))
    with pytest.raises(NoFaceError):
        find(image, networks)
    faces, sizes = find(image, networks, detection_size=1280)
    assert sizes == ((1280, 1280),)
    np.testing.assert_allclose(faces.faces[0].box, [96, 160, 102, 166], atol=1)


def test_a_picture_of_5000_pixels(networks):
    image = picture((BLUE, 3000, 400, 1000), height=2000, width=5000)
    faces, sizes = find(image, networks)
    assert sizes == ((640, 640),)
    np.testing.assert_allclose(faces.faces[0].box, [3000, 400, 4000, 1400], atol=40)
    assert faces.pictures is image
    assert draw_faces(faces).shape == image.shape


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_transparent_pictures_are_those_that_they_look_like(middle, channels):
    gray = torch.rand(1, 90, 70, 1, generator=torch.Generator().manual_seed(2))
    looks = gray.repeat(1, 1, 1, 3)
    given = gray
    if channels == 4:
        alpha = torch.rand(1, 90, 70, 1, generator=torch.Generator().manual_seed(3))
        given = torch.cat([looks, alpha], -1)
        looks = looks * alpha + (1 - alpha)
    ours, theirs = find(given, middle).faces, find(looks, middle).faces
    assert ours.pictures.shape == (1, 90, 70, 3)
    assert torch.equal(ours.embedding(False), theirs.embedding(False))
    assert torch.equal(ours.crops(112), theirs.crops(112))


def test_a_batch_of_two_is_two_of_one(middle):
    images = torch.rand(2, 60, 80, 3, generator=torch.Generator().manual_seed(4))
    both = find(images, middle).faces
    ones = [find(image[None], middle).faces for image in images]
    assert torch.equal(both.embeddings(True), torch.cat([one.embeddings(True) for one in ones]))
    assert torch.equal(both.crops(224), torch.cat([one.crops(224) for one in ones]))
    assert torch.equal(draw_faces(both), torch.cat([draw_faces(one) for one in ones]))


def test_the_same_picture_gives_the_same_faces_to_the_bit(networks):
    first, second = (find(picture(*THREE), networks).faces for _ in range(2))
    assert torch.equal(first.embedding(True), second.embedding(True))
    assert [torch.equal(a.box, b.box) for a, b in zip(first.found[0], second.found[0], strict=True)] == [
        True
    ] * 3


def test_pictures_without_anybody_are_named_with_the_sizes_that_were_tried(networks):
    images = torch.cat([picture(), picture((RED, 96, 160, 32)), picture()])
    with pytest.raises(NoFaceError) as caught:
        find(images, networks, detection_size=320)
    said = str(caught.value)
    assert said.startswith(
        "Face analysis needs a face in every picture, found nobody in pictures 1, 3 of 3 (640 x 640). The "
        "detector looked at 320 x 320, 256 x 256, 192 x 192."
    )
    assert said.endswith("raise the detection size.")
    with pytest.raises(NoFaceError, match=r"nobody in picture 1 of 1 \(64 x 64\).*or leave it out\.$"):
        find(picture(height=64, width=64), networks)


def test_an_index_beyond_the_faces_names_the_picture(networks):
    images = torch.cat([picture(*THREE), picture((RED, 96, 160, 32))])
    with pytest.raises(ValueError, match="Face 2 needs at least 3 faces in picture 2, got 1"):
        find(images, networks, choice="index", index=2)


@pytest.mark.parametrize("size", [100, 128, 650, 2112])
def test_detection_sizes_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match=f"from 192 to 2048 that is a multiple of 64, got {size}"):
        Search(detection_size=size)


def test_pictures_as_narrow_as_a_line_are_refused(middle):
    with pytest.raises(
        ValueError, match=r"less than 192 times as long as wide, got 1 x 192 \(width x height\)"
    ):
        find(torch.rand(1, 192, 1, 3), middle)
    assert find(torch.rand(1, 191, 1, 3), middle).sizes == ((640, 640),)


def test_what_is_no_image_is_refused(middle):
    with pytest.raises(ValueError, match="Face analysis needs an image of shape"):
        find(torch.rand(8, 8, 3), middle)
    with pytest.raises(ValueError, match="got NaN or infinity"):
        find(torch.full((1, 8, 8, 3), torch.nan), middle)


def test_the_host_is_asked_before_each_network_runs(pack):
    asked = []
    networks = opened(pack, lambda: asked.append("asked"))
    boxes, _ = networks.detect(np.zeros((64, 64, 3), np.uint8), 192)
    assert (len(boxes), len(asked)) == (0, 1)
    networks.embed(np.zeros((112, 112, 3), np.uint8))
    assert len(asked) == 2


class Planned:
    """Networks that find one face and give a planned vector."""

    def __init__(self, vector, fixed=None):
        self.vector, self.fixed_size, self.asked = vector, fixed, []

    def detect(self, picture, size):
        self.asked.append(size)
        places = np.array(face_standins.POINTS, np.float32) * 20 + 30
        found = self.vector is not None
        return np.array([[20, 20, 40, 40, 0.7]], np.float32)[:found], places[None][:found]

    def embed(self, face):
        return self.vector


@pytest.mark.parametrize(
    "vector", [np.zeros(512, np.float32), np.full(512, np.nan, np.float32), np.ones(128, np.float32)]
)
def test_a_recogniser_that_gives_nothing_usable_is_refused(vector):
    with pytest.raises(
        ValueError, match=r"512 finite numbers that are not all zero, got \(\d+,\) .* picture 1"
    ):
        find(torch.rand(1, 64, 64, 3), Planned(vector))


def test_a_detector_of_one_size_is_asked_once_and_its_size_is_told():
    nobody = Planned(None, fixed=(320, 320))
    with pytest.raises(NoFaceError, match=r"looked at 320 x 320\. Take"):
        find(torch.rand(1, 64, 64, 3), nobody)
    assert nobody.asked == [640]
    somebody = Planned(np.ones(512, np.float32), fixed=(320, 320))
    assert find(torch.rand(1, 64, 64, 3), somebody).sizes == ((320, 320),)


def test_progress_is_told_after_each_picture(middle):
    told = []
    analyze(torch.rand(3, 20, 20, 3), middle, PACK, on_image=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_report_says_what_was_found_where_and_which_was_chosen(networks):
    search = Search("index", 1)
    images = torch.cat([picture(*THREE), picture(*THREE[1:])])
    report = describe(analyze(images, networks, PACK, search), search)
    lines = report.split("\n")
    assert lines[0] == "Faces by blobs, recogniser: a network of 0 convolutions."
    assert lines[1] == "Picture 1 of 2 (640 x 640): 3 faces found at 640 x 640; chosen: face 1 (index 1)."
    assert lines[2].startswith("  face 0: 32 x 32 pixels at 64, 96; score 0.76; length of the vector ")
    assert lines[5].startswith("Picture 2 of 2 (640 x 640): 2 faces")


def test_the_preview_shows_each_face_in_its_colour_and_leaves_the_rest(networks):
    image = picture(*THREE)
    faces, _ = find(image, networks, choice="index", index=1)
    drawn = (draw_faces(faces)[0] * 255).round().to(torch.uint8).numpy()
    assert tuple(drawn[128, 80]) == OTHER
    assert tuple(drawn[128, 300]) == CHOSEN
    assert tuple(drawn[448, 450]) == OTHER
    assert (drawn[500:, :380] == 128).all()
    assert torch.equal(image, picture(*THREE)), "the picture itself stays as it is"


def test_neither_the_network_nor_the_home_folder_is_touched(pack, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    for name in [name for name in sys.modules if name.split(".")[0] == "insightface"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("socket.socket.connect", refuse)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert find(picture((RED, 96, 160, 32)), opened(pack)).faces.found[0]
    assert list(tmp_path.iterdir()) == []


def test_without_insightface_the_sentence_says_what_to_install(pack, monkeypatch):
    for name in ("insightface", "insightface.model_zoo", "insightface.model_zoo.arcface_onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=r"needs insightface 2.1 or newer and onnxruntime, got .*pip install --up"
    ):
        opened(pack)


def test_an_insightface_from_before_2_1_is_refused_with_its_version(pack, monkeypatch):
    module = pytest.importorskip("insightface")
    monkeypatch.setattr(module, "__version__", "0.7.3")
    monkeypatch.delattr("insightface.model_zoo.scrfd.SCRFD.resolution_sessions")
    with pytest.raises(
        ImportError, match=r"needs insightface 2.1 or newer and onnxruntime, got insightface 0.7.3"
    ):
        opened(pack)
