"""What a block makes of the references it has seen: longer self-attention, exchanged statistics.

In a row's result the share of what it would be without any reference is called plain: 0 for positive
rows, the style fidelity for negative rows, 1 for rows that the reference shall not reach.

Source of all formulas: Mikubill/sd-webui-controlnet: scripts/hook.py.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

NEGLIGIBLE = 1e-5
"""A plain share below this is none: the second attention is spared."""

MIN_VARIANCE = 1e-6

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Plain:
    """Plain shares of one reference: `rows` (R,) in 0..1, and `mask` (n,1,H,W) where it acts, or None."""

    rows: Tensor
    mask: Tensor | None = None

    def at(self, height: int, width: int) -> Tensor:
        """(R,1,1,1), or (R,1,height,width) where a mask confines the reference."""
        rows = self.rows.view(-1, 1, 1, 1)
        if self.mask is None:
            return rows
        mask = interpolate(self.mask.float(), size=(height, width), mode="bilinear")
        return 1.0 - mask * (1.0 - rows)


def plain_share(shares: Sequence[Plain], height: int, width: int) -> Tensor:
    """Mean over the references that a block has seen: (R,1,1,1) or (R,1,height,width)."""
    total: Tensor | float = 0.0
    for share in shares:
        total = total + share.at(height, width)
    return torch.as_tensor(total) / len(shares)


def reference_noise(seed: int, timestep: float, shape: Sequence[int]) -> Tensor:
    """Normal noise of `shape` on the CPU: the same whenever seed and timestep (to 0.001) are."""
    digest = hashlib.sha256(f"tiller reference {seed} {round(1000 * timestep)}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(*shape, generator=generator)


def _mix(
    seen: Tensor, rows: Tensor | None, share: Tensor, plain: Callable[[Tensor], Tensor], count: int
) -> Tensor:
    """share * plain + (1 - share) * seen for all `count` rows; `seen` has the given rows alone."""
    result = seen
    if rows is not None:
        result = seen.new_zeros((count, *seen.shape[1:]))
        result[rows] = seen
    needed = (share.flatten(1).amax(1) > NEGLIGIBLE).nonzero().flatten().to(seen.device)
    if not len(needed):
        return result
    share = share.to(seen)[needed]
    result = result.clone() if result is seen else result
    result[needed] = share * plain(needed) + (1.0 - share) * result[needed]
    return result


def _at(tensor: Tensor, rows: Tensor | None) -> Tensor:
    return tensor if rows is None else tensor[rows]


def referenced_attention(
    query: Pair, values: Tensor, banked: Sequence[Pair], share: Tensor, rows: Tensor | None, attend: Attend
) -> Tensor:
    """Self-attention (R,P,C) that also reads the references' keys and values.

    `query` is q and k, (R,P,C) each, with `values` v. `banked` holds keys and values of the references,
    for `rows` of the batch (None: for all). `share` (R,1,1) or (R,P,1) is the plain share.
    """
    q, k = query
    keys = torch.cat([_at(k, rows), *(pair[0] for pair in banked)], dim=1)
    contents = torch.cat([_at(values, rows), *(pair[1] for pair in banked)], dim=1)
    seen = attend(_at(q, rows), keys, contents)

    def plain(needed: Tensor) -> Tensor:
        return attend(q[needed], k[needed], values[needed])

    return _mix(seen, rows, share, plain, q.shape[0])


def statistics(h: Tensor) -> Pair:
    """Mean and population variance over the positions of (R,C,h,w): (R,C,1,1) each, in float32."""
    variance, mean = torch.var_mean(h.float(), dim=(2, 3), keepdim=True, correction=0)
    return mean, variance


def exchanged_statistics(h: Tensor, banked: Sequence[Pair], share: Tensor, rows: Tensor | None) -> Tensor:
    """(R,C,h,w) with the references' mean and deviation per channel in place of its own (AdaIN).

    `banked` holds means and variances of the references, which are averaged, for `rows` of the batch
    (None: for all). `share` (R,1,1,1) or (R,1,h,w) is the plain share.
    """
    own = _at(h, rows).float()
    mean, variance = statistics(own)
    wanted_mean = sum((pair[0] for pair in banked), torch.zeros(())) / len(banked)
    wanted = sum((pair[1] for pair in banked), torch.zeros(())) / len(banked)
    normal = (own - mean) / variance.clamp(min=MIN_VARIANCE).sqrt()
    seen = normal * wanted.clamp(min=MIN_VARIANCE).sqrt() + wanted_mean
    return _mix(seen, rows, share, lambda needed: h[needed].float(), h.shape[0]).to(h.dtype)
