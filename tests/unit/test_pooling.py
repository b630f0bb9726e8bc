"""Global average pooling is told by what stands around a file's numbers, since they do not tell."""

import hashlib

import pytest
from tiller.adapters.control.load import pooling
from tiller.adapters.control.load.pooling import PIECE, Pooling, checksum, pooling_of


def file(folder, name="net.safetensors", content=b"x"):
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_file_that_says_nothing_is_not_pooled(tmp_path):
    assert pooling_of(file(tmp_path), {}) == Pooling(False, "nothing that speaks for it")
    assert pooling_of(file(tmp_path), {"format": "pt"}).on is False


@pytest.mark.parametrize(
    ("metadata", "on"),
    [
        ({"global_average_pooling": "true"}, True),
        ({"global_pool_conditions": "False"}, False),
        ({"config": '{"global_pool_conditions": true, "in_channels": 4}'}, True),
    ],
)
def test_metadata_comes_first(tmp_path, metadata, on):
    (tmp_path / "net_shuffle.yaml").write_text(f"global_average_pooling: {not on}")
    path = file(tmp_path, "net_shuffle.safetensors")
    assert pooling_of(path, metadata) == Pooling(on, "the metadata of the file")


def test_a_configuration_beside_the_file_comes_next(tmp_path):
    path = file(tmp_path, "mine.safetensors")
    (tmp_path / "mine.yaml").write_text("    params:\n        global_average_pooling: True\n")
    assert pooling_of(path, {}) == Pooling(True, "mine.yaml beside it")
    (tmp_path / "mine.json").write_text('{\n  "global_pool_conditions": false\n}')
    assert pooling_of(path, {}) == Pooling(False, "mine.json beside it")


def test_diffusers_own_configuration_belongs_to_diffusers_own_name(tmp_path):
    (tmp_path / "config.json").write_text('{"global_pool_conditions": true}')
    ours = file(tmp_path, "diffusion_pytorch_model.fp16.safetensors")
    assert pooling_of(ours, {}) == Pooling(True, "config.json beside it")
    assert pooling_of(file(tmp_path, "canny.safetensors"), {}).on is False


def test_a_configuration_that_does_not_speak_of_it_is_passed_over(tmp_path):
    (tmp_path / "net_shuffle.yaml").write_text("model: cldm")
    assert pooling_of(file(tmp_path, "net_shuffle.pth"), {}) == Pooling(True, "its name alone")


def test_the_checksum_is_of_three_pieces(tmp_path):
    content = b"".join(bytes([number]) * (PIECE // 2) for number in range(8))
    path = file(tmp_path, content=content)
    size = len(content)
    pieces = content[PIECE : 2 * PIECE] + content[size // 2 : size // 2 + PIECE] + content[-PIECE:]
    assert checksum(path) == hashlib.sha256(pieces).hexdigest()
    assert checksum(file(tmp_path, "small", b"x" * (3 * PIECE - 1))) is None


def test_a_published_file_is_known_under_any_name(tmp_path, monkeypatch):
    path = file(tmp_path, "renamed.pth", b"y" * (3 * PIECE))
    monkeypatch.setattr(pooling, "PUBLISHED", {checksum(path): "control_v11e_sd15_shuffle.pth"})
    assert pooling_of(path, {}) == Pooling(True, "its content, which is control_v11e_sd15_shuffle.pth")


@pytest.mark.parametrize(
    ("name", "on"),
    [("control_v11e_sd15_shuffle.pth", True), ("a_shuffle_fp16.safetensors", True), ("shuffle.pth", False)],
)
def test_the_name_comes_last_and_as_the_host_reads_it(tmp_path, name, on):
    assert pooling_of(file(tmp_path, name), {}).on is on


def test_published_checksums_are_sha256():
    assert all(len(value) == 64 and int(value, 16) for value in pooling.PUBLISHED)
