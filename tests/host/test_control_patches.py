"""A control net that patches the model acts in its own calls, and nowhere else."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

RUN = Run(steps=3)


def push_net(amount):
    """A net whose weight is added to the model's hidden values behind the middle block."""
    real.host()
    from tiller.adapters.control.patches.apply import ModelPatchNet
    from tiller.adapters.control.patching import add_patch, add_wrapper
    from tiller.adapters.identify import Identified

    class PushNet(ModelPatchNet):
        def patch(self, call, steering):
            (network,) = self.networks
            seen.append((call.x.shape[0], float(self.hint(call).mean())))

            def push(arguments):
                return {
                    **arguments,
                    "h": arguments["h"] + steering.strength * network.weight.view(1, -1, 1, 1),
                }

            def count(executor, *args, **kwargs):
                calls.append(1)
                return executor(*args, **kwargs)

            add_patch(call.options, "middle_block_after_patch", push)
            add_wrapper(call.options, count)

    seen, calls = [], []
    network = torch.nn.Linear(1, 320, bias=False)
    network.weight.data.fill_(amount)
    return PushNet(Identified("control", "a test's net", "SD1.5"), network), seen, calls


def prepared():
    of = real.family("sd15")
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


def test_it_goes_through_the_hosts_node_and_through_ours_alike():
    of, positive, negative, image = prepared()
    net, seen, calls = push_net(3.0)
    plain = real.sample(of, positive, negative, RUN)
    core = real.sample(of, *real.core_apply(positive, negative, net, image, 0.5, 0.0, 1.0), RUN)
    assert real.difference(plain, core) > 1e-3
    assert len(seen) == len(calls) == 3
    assert [rows for rows, _ in seen] == [2, 2, 2]
    assert seen[0][1] == pytest.approx(float(image.mean()), abs=1e-6)
    ours = real.sample(of, *real.tiller_apply(positive, negative, net, image, strength=0.5), RUN)
    assert real.difference(core, ours) == 0.0


def test_it_acts_in_its_window_and_on_its_own_conditioning_alone():
    of, positive, negative, image = prepared()
    for window, calls in (("noise", 1), ("steps", 2)):
        net, seen, _ = push_net(3.0)
        ours = real.tiller_apply(positive, negative, net, image, end_percent=0.4, window=window)
        real.sample(of, *ours, RUN)
        assert len(seen) == calls
    net, seen, _ = push_net(3.0)
    only_positive = real.tiller_apply(positive, [], net, image)[0]
    steered = real.sample(of, only_positive, negative, RUN)
    assert [rows for rows, _ in seen] == [1, 1, 1]
    both = real.sample(of, *real.tiller_apply(positive, negative, net, image), RUN)
    assert real.difference(steered, both) > 1e-3


def test_it_leaves_nothing_behind_and_chains():
    of, positive, negative, image = prepared()
    net, _, _ = push_net(3.0)
    plain = real.sample(of, positive, negative, RUN)
    steered = real.sample(of, *real.tiller_apply(positive, negative, net, image), RUN)
    assert real.difference(real.sample(of, positive, negative, RUN), plain) == 0.0
    assert (
        real.difference(real.sample(of, *real.tiller_apply(positive, negative, net, image), RUN), steered)
        == 0
    )
    assert of.model.model_options["transformer_options"] == {}
    before = real.core_apply(positive, negative, of.control, image)
    one = real.sample(of, *real.tiller_apply(*before, net, image), RUN)
    after = real.tiller_apply(positive, negative, net, image)
    other = real.sample(of, *real.core_apply(*after, of.control, image), RUN)
    assert real.difference(one, other) == 0.0
    assert real.difference(one, steered) > 1e-3


def test_its_network_is_the_hosts_to_move():
    _, positive, negative, image = prepared()
    net, _, _ = push_net(3.0)
    control = real.tiller_apply(positive, negative, net, image)[0][0][1]["control"]
    assert control.get_models() == net.patchers
    assert control.inner is not net
    assert control.inner.networks is net.networks
