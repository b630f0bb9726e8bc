"""OneFormer as a node in the real host, with small random weight files; its sentence in the host's tokens."""

import importlib

import pytest
import torch
from tiller.preprocessors.networks.oneformer import TASK
from tiller.tests.host import inprocess as real

from devtools.locales import load_pack

IMAGE = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(7))
ADE20K, COCO = "250_16_swin_l_oneformer_ade20k_160k.pth", "150_16_swin_l_oneformer_coco_100ep.pth"


@pytest.fixture(scope="module")
def node():
    real.annotators()
    return load_pack()["TillerSegmentOneFormer"]


def hint(node, dataset, **settings):
    settings = {"image": IMAGE, "resolution": 64, "weights": "auto", **settings}
    return node.execute(dataset=dataset, **settings).args[0]


def test_each_dataset_takes_its_own_file_and_has_its_own_colours(node):
    ade20k, coco = hint(node, "ade20k"), hint(node, "coco")
    assert ade20k.shape == coco.shape == IMAGE.shape
    assert torch.equal(hint(node, "ade20k", weights=ADE20K), ade20k)
    assert torch.equal(hint(node, "coco", weights=COCO), coco)
    assert not torch.equal(ade20k, coco)


def test_a_picture_of_its_own_size_gives_a_hint_of_that_size(node):
    assert hint(node, "ade20k", image=IMAGE[:, :33, :71], resolution=0).shape == (1, 33, 71, 3)


def test_the_other_datasets_file_is_named(node):
    with pytest.raises(ValueError, match=rf"which holds OneFormer \(COCO\) \({COCO}\)"):
        hint(node, "ade20k", weights=COCO)


def test_the_sentence_is_in_the_tokens_of_clip():
    real.host()
    tokenizer = importlib.import_module("comfy.sd1_clip").SDTokenizer()
    words = [token for token, _ in tokenizer.tokenize_with_weights("The task is semantic")[0]]
    assert tuple(words[: len(TASK)]) == TASK
    assert set(words[len(TASK) :]) == {TASK[-1]}, "behind its end there is nothing but padding"
