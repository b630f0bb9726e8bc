"""Annotators' weight files: unwrapped, told apart by keys and shapes, refused with a sentence."""

from dataclasses import replace

import pytest
import torch
from tiller.adapters.identify import UnknownWeightsError
from tiller.preprocessors import weights
from tiller.preprocessors.weight_files import WEIGHT_FILES
from tiller.preprocessors.weights import (
    check_annotator,
    identify_annotator,
    shapes_of,
    state_of,
)
from tiller.tests.unit.annotators import SHAPES, listing

from devtools import annotator_standins

KEYS = sorted(key for key, file in WEIGHT_FILES.items() if file.signature)
SAME = {"line_art_realistic": "line_art_coarse", "line_art_coarse": "line_art_realistic"}
"""One network, trained twice."""

every_file = pytest.mark.parametrize("key", KEYS)


def empty_state(key):
    return {name: torch.empty(shape, device="meta") for name, shape in listing(key).items()}


@every_file
def test_every_file_has_a_listing_and_is_taken_for_no_other(key):
    found = identify_annotator(listing(key))
    assert set(found) == {key, SAME.get(key, key)}


def test_keys_and_names_are_unique():
    assert all(key == file.key for key, file in WEIGHT_FILES.items())
    names = [name.lower() for file in WEIGHT_FILES.values() for name in file.names]
    assert len(names) == len(set(names))
    assert {path.stem for path in SHAPES.glob("*.json")} >= set(KEYS)


@every_file
def test_a_signature_names_tensors_of_the_listing(key):
    for name, wanted in WEIGHT_FILES[key].signature:
        shape = listing(key)[name]
        assert len(shape) == len(wanted), name
        assert all(length in (side, None) for side, length in zip(shape, wanted, strict=True)), name


@every_file
@pytest.mark.parametrize("prefix", ["", "module."])
def test_prefixed_and_wrapped_tensors_are_found(key, prefix):
    file = WEIGHT_FILES[key]
    plain = {prefix + name: tensor for name, tensor in empty_state(key).items()}
    for loaded in (plain, *({wrapper: plain, "epoch": 3} for wrapper in file.unwrap)):
        assert shapes_of(state_of(loaded, file)) == listing(key)


def test_a_prefix_of_some_keys_stays():
    state = state_of({"module.a": torch.zeros(1), "b": torch.zeros(1)}, WEIGHT_FILES["hed"])
    assert set(state) == {"module.a", "b"}


def test_what_is_no_dictionary_is_refused():
    with pytest.raises(
        UnknownWeightsError, match=r"HED needs a file with named tensors, got one that holds a list"
    ):
        state_of([torch.zeros(1)], WEIGHT_FILES["hed"])


@every_file
def test_the_right_file_passes(key):
    check_annotator(listing(key), listing(key), WEIGHT_FILES[key], "file.pth")


@pytest.mark.parametrize("key", [key for key in KEYS if key != "hed"])
def test_another_annotators_file_is_named(key):
    with pytest.raises(UnknownWeightsError) as caught:
        check_annotator(listing(key), listing("hed"), WEIGHT_FILES["hed"], "file.pth")
    said = str(caught.value)
    assert said.startswith("HED needs weights like those of ControlNetHED.pth, got file.pth, which holds ")
    assert WEIGHT_FILES[key].names[0] in said or WEIGHT_FILES[SAME[key]].names[0] in said
    assert said.endswith("or choose another file in weights.")


@pytest.mark.parametrize("key", SAME)
def test_line_art_passes_as_either_and_is_named_as_either(key):
    """Fine or coarse lies in the numbers alone, so the contents cannot say which one a file is."""
    check_annotator(listing(SAME[key]), listing(key), WEIGHT_FILES[key], "file.pth")
    both = r"which holds Realistic line art \(sk_model\.pth\) or Coarse line art \(sk_model2\.pth\)\. Get"
    with pytest.raises(UnknownWeightsError, match=both):
        check_annotator(listing(key), listing("hed"), WEIGHT_FILES["hed"], "file.pth")


def test_a_control_net_is_named():
    shapes = {"zero_convs.0.0.weight": (320, 320, 1, 1), "a.attn2.to_k.weight": (320, 768)}
    with pytest.raises(UnknownWeightsError, match=r"got x\.pth: ControlNet \(LDM layout\) for SD1\.5\. Get"):
        check_annotator(shapes, listing("hed"), WEIGHT_FILES["hed"], "x.pth")


def test_foreign_tensors_are_named_with_the_nearest_annotator():
    shapes = {"norm": (1, 3, 1, 1), "other": (2,)}
    with pytest.raises(
        UnknownWeightsError, match=r"2 tensors \(norm, other\); HED comes nearest, but block5\."
    ):
        check_annotator(shapes, listing("hed"), WEIGHT_FILES["hed"], "x.pth")
    with pytest.raises(UnknownWeightsError, match="no tensors at all"):
        check_annotator({}, listing("hed"), WEIGHT_FILES["hed"], "x.pth")


def test_missing_and_misshapen_tensors_are_counted():
    shapes = listing("hed")
    del shapes["block1.convs.0.bias"]
    shapes["block2.convs.0.weight"] = (128, 64, 5, 5)
    with pytest.raises(
        UnknownWeightsError,
        match=r"the 37 tensors .* in x\.pth 2 of them .* \(block1\.convs\.0\.bias, block2\.convs\.0\.w",
    ):
        check_annotator(shapes, listing("hed"), WEIGHT_FILES["hed"], "x.pth")


def test_batch_counters_may_be_missing():
    shapes = {name: shape for name, shape in listing("mlsd").items() if "num_batches" not in name}
    assert len(shapes) < len(listing("mlsd"))
    check_annotator(shapes, listing("mlsd"), WEIGHT_FILES["mlsd"], "x.pth")


@pytest.mark.parametrize("key", annotator_standins.PUBLISHED)
def test_stand_ins_have_the_published_name_and_wrapping(key):
    published, file = annotator_standins.PUBLISHED[key], WEIGHT_FILES[key]
    assert published.name == file.names[0]
    assert published.wrapper in ("", *file.unwrap)
    assert published.prefix in ("", *file.prefixes)


def test_every_known_file_has_a_stand_in():
    assert set(annotator_standins.PUBLISHED) >= set(KEYS)


def test_none_in_a_signature_stands_for_any_length(monkeypatch):
    sized = replace(WEIGHT_FILES["hed"], key="sized", signature=(("stem.weight", (None, 3, 16, 16)),))
    monkeypatch.setattr(weights, "WEIGHT_FILES", {"sized": sized})
    assert identify_annotator({"stem.weight": (384, 3, 16, 16)}) == ("sized",)
    for other in ((384, 3, 14, 16), (384, 3, 16), ()):
        with pytest.raises(UnknownWeightsError):
            identify_annotator({"stem.weight": other})
