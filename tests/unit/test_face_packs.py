"""Packs of face models are known by what their files take and give, wherever people put them."""

import sys

import pytest
from onnx import helper
from tiller.adapters.faces.packs import (
    PUBLISHED,
    Interface,
    MissingPackError,
    find_pack,
    pack_names,
    read_interface,
    recogniser_name,
    role_of,
)
from tiller.tests.unit.face_networks import constant_detector, plain, write

from devtools import face_standins

BOX, POINTS = (10, 10, 50, 50), [(1, 1), (2, 1), (1, 2), (1, 3), (2, 3)]
SCRFD = [(None, width) for width in (1, 1, 1, 4, 4, 4, 10, 10, 10)]
OTHERS = {
    "1k3d68": (("None", 3, 192, 192), [(1, 3309)]),
    "2d106det": (("None", 3, 192, 192), [(1, 212)]),
    "genderage": (("None", 3, 96, 96), [(1, 3)]),
}
"""What else lies in the published packs: landmarks, age."""


def pack_in(folder, **others):
    write(folder, first=constant_detector(BOX, POINTS), second=face_standins.recogniser(), **others)
    return folder


@pytest.mark.parametrize("place", ["models/mine", "mine", "models/mine/mine", "mine/mine", "deep/er/mine"])
def test_a_pack_is_found_wherever_people_put_it(tmp_path, place):
    folder = pack_in(tmp_path / place)
    pack = find_pack("mine", [tmp_path])
    assert (pack.name, pack.folder) == ("mine", folder)
    assert (pack.detector, pack.recogniser) == (folder / "first.onnx", folder / "second.onnx")
    assert pack_names([tmp_path]) == ["mine", *PUBLISHED]


def test_the_models_folder_comes_first_and_a_complete_pack_before_an_incomplete_one(tmp_path):
    pack_in(tmp_path / "mine")
    first = pack_in(tmp_path / "models/mine")
    assert find_pack("mine", [tmp_path]).folder == first
    (first / "second.onnx").unlink()
    assert find_pack("mine", [tmp_path]).folder == tmp_path / "mine"


def test_a_pack_lies_in_any_of_several_roots(tmp_path):
    folder = pack_in(tmp_path / "second/models/mine")
    assert find_pack("mine", [tmp_path / "first", tmp_path / "second"]).folder == folder


def test_published_packs_are_offered_first_and_also_when_they_are_missing(tmp_path):
    assert pack_names([tmp_path / "nowhere"]) == list(PUBLISHED)
    for name in ("zebra", "antelopev2", "apple"):
        pack_in(tmp_path / name)
    assert pack_names([tmp_path]) == ["antelopev2", "apple", "zebra", "buffalo_l"]


def test_a_single_file_of_another_pack_in_the_root_is_no_pack(tmp_path):
    write(tmp_path, inswapper_128=plain((1, 3, 128, 128), [(1, 3, 128, 128)], extra_input=True))
    assert pack_names([tmp_path]) == list(PUBLISHED)
    pack_in(tmp_path)
    assert pack_names([tmp_path]) == [tmp_path.name, *PUBLISHED]
    assert find_pack(tmp_path.name, [tmp_path]).recogniser.name == "second.onnx"


def test_the_other_files_of_a_published_pack_do_not_matter(tmp_path):
    others = {f"x{name}": plain(*interface) for name, interface in OTHERS.items()}
    pack_in(tmp_path / "buffalo_l", **others)
    (tmp_path / "buffalo_l/broken.onnx").write_bytes(b"not at all")
    pack = find_pack("buffalo_l", [tmp_path])
    assert (pack.detector.stem, pack.recogniser.stem) == ("first", "second")


def test_names_of_files_do_not_matter(tmp_path):
    write(tmp_path / "mine", w600k_r50=constant_detector(BOX, POINTS), det_10g=face_standins.recogniser())
    pack = find_pack("mine", [tmp_path])
    assert (pack.detector.stem, pack.recogniser.stem) == ("w600k_r50", "det_10g")


def test_a_missing_file_is_named_with_every_place_that_was_looked_at(tmp_path):
    folder = write(
        tmp_path / "buffalo_l", det=constant_detector(BOX, POINTS), age=plain(*OTHERS["genderage"])
    )
    (folder / "cut.onnx").write_bytes(face_standins.recogniser().SerializeToString()[:5000])
    with pytest.raises(MissingPackError) as caught:
        find_pack("buffalo_l", [tmp_path])
    said = str(caught.value)
    assert said.startswith(
        "Face analysis with buffalo_l needs a recogniser (ArcFace: 112 x 112 pixels in, 512 numbers out), "
        f"found none. Looked in: {folder} (det.onnx is the detector; age.onnx is something else; cut.onnx is "
        "cut off, damaged or no ONNX file (DecodeError)), "
    )
    assert f"{folder} (no such folder)" not in said
    for place in ("models/buffalo_l", "models/buffalo_l/buffalo_l", "buffalo_l/buffalo_l"):
        assert f"{tmp_path / place} (no such folder)" in said
    assert "non-commercial research only" in said
    assert f"unpack it into {tmp_path / 'models/buffalo_l'}, or choose another pack" in said
    assert said.endswith("Nothing is downloaded.")


def test_without_any_folder_both_files_are_missing(tmp_path):
    with pytest.raises(MissingPackError) as caught:
        find_pack("antelopev2", [tmp_path / "a", tmp_path / "b"])
    said = str(caught.value)
    assert "needs a detector (SCRFD or RetinaFace: " in said
    assert "five points out) and a recogniser (ArcFace: " in said
    assert said.count("(no such folder)") == 8


def test_a_wrong_folder_says_what_its_files_are(tmp_path):
    swapper = plain((1, 3, 128, 128), [(1, 3, 128, 128)], extra_input=True)
    folder = write(tmp_path / "swap", inswapper_128=swapper)
    with pytest.raises(MissingPackError) as caught:
        find_pack("swap", [tmp_path])
    assert f"Looked in: {folder} (inswapper_128.onnx is something else), " in str(caught.value)
    assert "Get a pack such as buffalo_l from https://github.com/deepinsight/insightface" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("detector", {"b": constant_detector(BOX, POINTS)}), ("recogniser", {"b": face_standins.recogniser()})],
)
def test_two_of_a_kind_are_refused(tmp_path, kind, more):
    pack_in(tmp_path / "mine", **more)
    other = {"detector": "first", "recogniser": "second"}[kind]
    with pytest.raises(ValueError, match=rf"needs one {kind}, got b.onnx, {other}.onnx in .*cannot be mixed"):
        find_pack("mine", [tmp_path])


def lengths(*shape):
    return tuple(one if isinstance(one, int) else None for one in shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "role"),
    [
        (lengths(1, 3, "?", "?"), SCRFD, "detector"),
        (lengths(1, 3, 640, 640), [(12800, 1), (3200, 1), (800, 1), *SCRFD[3:]], "detector"),
        (lengths(1, 3, "?", "?"), [(1, None, 1)] * 3 + [(1, None, 4)] * 3 + [(1, None, 10)] * 3, "detector"),
        (lengths(1, 3, "?", "?"), [(None, w) for w in (1,) * 5 + (4,) * 5 + (10,) * 5], "detector"),
        (lengths(1, 3, "?", "?"), SCRFD[:6], None),
        (lengths(1, 3, "?", "?"), [(None, w) for w in (1,) * 4 + (4,) * 4 + (10,) * 4], None),
        (lengths(1, 3, "?", "?"), [SCRFD[-1], *SCRFD[:-1]], None),
        (lengths("N", 3, 112, 112), [(None, 512)], "recogniser"),
        (lengths(1, 3, 112, 112), [(1, 512)], "recogniser"),
        (lengths(1, 3, 112, 112), [(1, 256)], None),
        (lengths(1, 3, 128, 128), [(1, 512)], None),
        (lengths(1, 1, 112, 112), [(1, 512)], None),
        (lengths(1, 112, 112), [(1, 512)], None),
    ],
)
def test_what_a_network_is_follows_from_what_goes_in_and_comes_out(inputs, outputs, role):
    assert role_of(Interface((inputs,), tuple(outputs), 0)) == role


def test_a_network_of_two_inputs_is_neither():
    assert role_of(Interface(((1, 3, 112, 112), (1, 512)), ((1, 512),), 0)) is None


def resnet(*blocks):
    """Convolutions of an IResNet: two in each block, one to each new size, one in front."""
    return 2 * sum(blocks) + len(blocks) + 1


def test_recognisers_are_named_by_their_convolutions():
    """deepinsight/insightface: recognition/arcface_torch/backbones/iresnet.py."""
    names = [
        recogniser_name(Interface((), (), resnet(*blocks))) for blocks in ((3, 4, 14, 3), (3, 13, 30, 3))
    ]
    assert names == ["IResNet-50", "IResNet-100"]
    assert recogniser_name(Interface((), (), 40)) == "a network of 40 convolutions"


def test_an_interface_is_read_from_the_file(tmp_path):
    folder = pack_in(tmp_path)
    assert read_interface(folder / "second.onnx") == Interface(((None, 3, 112, 112),), ((None, 512),), 0)
    detector = read_interface(folder / "first.onnx")
    assert detector.inputs == ((1, 3, None, None),)
    assert [shape[-1] for shape in detector.outputs] == [1, 1, 1, 4, 4, 4, 10, 10, 10]


def test_weights_that_a_file_lists_among_its_inputs_are_none(tmp_path):
    """As older exporters write them, those of the published recognisers among them."""
    network = face_standins.recogniser()
    held = network.graph.initializer[0]
    network.graph.input.append(helper.make_tensor_value_info(held.name, held.data_type, list(held.dims)))
    write(tmp_path, old=network)
    interface = read_interface(tmp_path / "old.onnx")
    assert interface.inputs == ((None, 3, 112, 112),)
    assert role_of(interface) == "recogniser"


def test_a_file_that_is_no_onnx_file_is_told(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"")
    assert read_interface(path) == "no ONNX file: nothing comes out of it"
    path.write_text("404: not here")
    assert read_interface(path).startswith("cut off, damaged or no ONNX file")
    assert read_interface(tmp_path / "gone.onnx") == "cut off, damaged or no ONNX file (FileNotFoundError)"


def test_without_the_library_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    pack_in(tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r"needs insightface 2.1 or newer and onnxruntime, got .*pip install"
    ):
        find_pack("mine", [tmp_path])
