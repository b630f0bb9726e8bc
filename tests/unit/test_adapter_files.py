"""The published listings that adapters are tested with, and random weights of the same layouts."""

import pytest
from tiller.tests import adapter_files as files

LONG_TO_DRAW = {"Kolors-IP-Adapter-FaceID-Plus", "ip-adapter-faceid-plusv2_sdxl"}
"""Of the same layout as the file for SD1.5, which is drawn."""


@pytest.mark.parametrize("name", sorted(set(files.FILES) - LONG_TO_DRAW))
def test_a_small_random_file_has_the_keys_of_the_published_one(name: str) -> None:
    file = files.FILES[name]
    wanted = files.published(*file)
    if file.base == "Flux":
        made = files.random_flux_adapter(file.variant, 32, 19, 38, 0, tokens=4)
        assert set(made) == set(wanted)
        return
    channels = [width // 40 for width in files.CHANNELS[file.base]]
    sites = {index: (width, files.TEXT[file.base]) for index, width in enumerate(channels)}
    made = files.random_adapter(file.variant, file.base, sites, 0, file.encoder)
    assert set(made) == set(wanted)
    assert made["ip_adapter.1.to_k_ip.weight"].shape == (channels[0], files.TEXT[file.base])


def test_file_names_and_listings_belong_together() -> None:
    listing = files.published("IP-Adapter", "SDXL", "CLIP-ViT-H")
    assert listing["image_proj.proj.weight"] == (4 * 2048, 1024)
    assert listing["ip_adapter.139.to_v_ip.weight"] == (1280, 2048)
    with pytest.raises(KeyError, match="no published file is FaceID for Flux"):
        files.published("FaceID", "Flux")
