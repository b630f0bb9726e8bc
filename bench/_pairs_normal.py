"""Surface normals of BAE beside controlnet-aux."""

from _pack import maths
from _pairs import Pair, Row, by_detector, network, shared


def _normal_bae() -> Pair:
    from types import SimpleNamespace

    from controlnet_aux import NormalBaeDetector
    from controlnet_aux.normalbae import NNET

    settings = SimpleNamespace(
        mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
    )
    theirs, ours = NNET(settings).eval(), maths("networks.normal_bae").NormalBae().eval()
    ours.load_state_dict(shared().randomise(theirs, 1, gain=1.29))
    run, hint = network(ours, "channels_last"), maths("normal").normals_bae
    return Pair(lambda image: hint(image, run, 0), by_detector(NormalBaeDetector(theirs)))


ROWS = (Row("normal_bae", _normal_bae, timed=4),)
