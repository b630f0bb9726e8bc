"""ControlNeXt restated over a dictionary of tensors, in the order of the authors' own lines.

Checked by hand against dvlab-research/ControlNeXt (the three control classes, under diffusers 0.42): equal to
1e-6 relative, at all three variants.
"""

import math

import torch
from torch.nn import functional as nn


def time_embedding(weights, timesteps):
    exponents = -math.log(10000) * torch.arange(64, dtype=torch.float32) / 64
    angles = timesteps.float()[:, None] * exponents.exp()[None, :]
    sinusoids = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    hidden = nn.linear(sinusoids, weights["linear_1.weight"], weights["linear_1.bias"])
    return nn.linear(nn.silu(hidden), weights["linear_2.weight"], weights["linear_2.bias"])


def under(weights, prefix):
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def resnet(weights, hidden, time, groups):
    def norm(name, values):
        return nn.group_norm(values, groups, weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def conv(name, values, padding):
        return nn.conv2d(values, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    inner = conv("conv1", nn.silu(norm("norm1", hidden)), 1)
    shift = nn.linear(nn.silu(time), weights["time_emb_proj.weight"], weights["time_emb_proj.bias"])
    inner = conv("conv2", nn.silu(norm("norm2", inner + shift[:, :, None, None])), 1)
    return inner + (conv("conv_shortcut", hidden, 0) if "conv_shortcut.weight" in weights else hidden)


def sequence(weights, hidden, steps):
    for index, groups, stride, padding in steps:
        if groups == "relu":
            hidden = nn.relu(hidden)
            continue
        weight, bias = weights[f"{index}.weight"], weights[f"{index}.bias"]
        if groups is None:
            hidden = nn.conv2d(hidden, weight, bias, stride=stride, padding=padding)
        else:
            hidden = nn.group_norm(hidden, groups, weight, bias)
    return hidden


def features(weights, hint, timesteps, family):
    """Hint (B,3,8h,8w), time steps (B,) -> features."""
    time = time_embedding(under(weights, "time_embedding."), timesteps)
    hidden, groups = hint, [1, 8, 8]
    if family != "SD1.5":
        groups, pad = [4, 8], 0 if family == "SVD" else 1
        stem = [(0, None, 2, 1), (1, 2, 0, 0), (2, "relu", 0, 0), (3, None, 1, pad), (4, 2, 0, 0)]
        stem += [(5, "relu", 0, 0), (6, None, 1, pad), (7, 2, 0, 0), (8, "relu", 0, 0)]
        hidden = sequence(under(weights, "embedding."), hidden, stem)
    for index, count in enumerate(groups):
        hidden = resnet(under(weights, f"down_res.{index}."), hidden, time, count)
        down = under(weights, f"down_sample.{index}.conv.")
        hidden = nn.conv2d(hidden, down["weight"], down["bias"], stride=2, padding=1)
    middle = under(weights, "mid_convs.0.")
    if family == "SD1.5":
        hidden = sequence(middle, hidden, [(0, None, 1, 1), (1, "relu", 0, 0), (2, None, 1, 1)])
    else:
        steps = [(0, None, 1, 1), (1, "relu", 0, 0), (2, 8, 0, 0), (3, None, 1, 1), (4, 8, 0, 0)]
        hidden = sequence(middle, hidden, steps) + hidden
    return nn.conv2d(hidden, weights["mid_convs.1.weight"], weights["mid_convs.1.bias"])


def injected(control, hidden, family, scale):
    """Hidden state with the features added, row by row as the authors' models do; `scale` (B,) per row."""
    rows = []
    for row, state, factor in zip(control, hidden, scale, strict=True):
        if family == "SD1.5":
            row = nn.adaptive_avg_pool2d(row, state.shape[-2:])
        epsilon = 1e-5 if family == "SVD" else 1e-12
        row = (row - row.mean()) * (state.std() / (row.std() + epsilon)) + state.mean()
        if family != "SD1.5":
            row = nn.adaptive_avg_pool2d(row, state.shape[-2:])
        rows.append(state + row * factor * (0.2 if family == "SVD" else 1.0))
    return torch.stack(rows)


def random_weights(listing, seed=0, out_channels=None, scale=0.37):
    """Tensors of a listing, none of them zero; `out_channels` replaces the width of the last convolution."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in listing.items():
        shape = list(shape)
        if out_channels is not None and key.startswith("mid_convs.1."):
            shape[0] = out_channels
        drawn = torch.randn(shape, generator=generator)
        if key == "scale":
            weights[key] = torch.tensor(scale)
        elif len(shape) > 1:
            weights[key] = drawn / math.prod(shape[1:]) ** 0.5
        else:
            weights[key] = 0.3 * drawn + (1.0 if key.endswith("weight") else 0.0)
    return weights
