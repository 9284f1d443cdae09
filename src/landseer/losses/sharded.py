"""The classification head over many processes: each holds the rows of some landmarks, the loss is that of all.

Axes: N photos of all ranks together (in what callers give: of one rank), D descriptor components, C landmarks of the
label space, K rows (sub-centres) a landmark, L landmarks of this rank that a step compares with, P photos whose own
landmark is one of them, R ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from torch import Tensor

from landseer.losses.adacos import asked_scale
from landseer.losses.head import Columns, MarginHead, Photos
from landseer.recipe.loss_options import LossOptions


class ShardedHead(MarginHead):
    """``MarginHead`` with the landmarks ``rank*C//R .. (rank+1)*C//R`` of its rows on each of R ranks.

    ``part`` is this rank's range of landmarks; ``rows``, ``bias`` and ``state_dict`` hold those only, and the whole
    table exists nowhere, from the start on: from equal random states the rows begin as the unsharded head's do.
    ``forward``, ``validation_loss``, ``full_state`` and ``gather_rows`` are collective: every rank of *group*
    (by default, all) calls them in the same order, with the photos it has, which may be none, and label rows
    counted over all C landmarks.

    The loss is the mean over the photos of all ranks, and the same number on each.  After ``backward`` on every
    rank ``rows.grad`` is this rank's slice of what the unsharded head would have for all photos, and the
    descriptors' gradient is that of its photos there: neither is to be averaged over ranks.  A dynamic scale and
    the triplets are those of all photos together, too.

    torch's ``loss_parallel`` has the sharded cross entropy, but no label smoothing, and it starts at logits: the
    margins at the target, the scale by the batch and the landmarks drawn for a step need each photo's own
    cosine, which lies on one rank, before.

    Raises ``ValueError`` as ``MarginHead`` does, without a process group, and with more ranks than landmarks.
    """

    def __init__(
        self,
        dim: int,
        num_landmarks: int,
        *,
        options: LossOptions,
        photos_C: np.ndarray | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("a sharded head needs a process group; start with torchrun, or use MarginHead")
        group = group or dist.group.WORLD
        assert group is not None, "there is one, as just seen"
        ranks = _Ranks(
            group=group,
            rank=dist.get_rank(group),
            num=dist.get_world_size(group),
            num_landmarks=num_landmarks,
        )
        if num_landmarks < ranks.num:
            raise ValueError(f"{num_landmarks} landmarks cannot be shared out to {ranks.num} ranks")
        super().__init__(dim, num_landmarks, options=options, photos_C=photos_C, part=ranks.part(ranks.rank))
        self._ranks = ranks

    def full_state(self) -> dict[str, Tensor] | None:
        """Collective: the state of the equal ``MarginHead``, on the CPU of rank 0; None on the others."""
        state = {}
        for key, value in self.state_dict().items():
            whole = value.cpu().clone() if key == "running_scale" else self.gather_rows(value)
            if whole is not None:
                state[key] = whole
        return state if self._ranks.rank == 0 else None

    def load_full_state(self, state: Mapping[str, Tensor]) -> None:
        """Take this rank's slice of a ``MarginHead``'s state, which every rank is given."""
        self.load_state_dict(
            {key: value if key == "running_scale" else self.slice_rows(value) for key, value in state.items()}
        )

    def gather_rows(self, tensor: Tensor) -> Tensor | None:
        """Collective: what belongs to the rows (or the biases) of all ranks, such as an optimiser's moments.

        *tensor* is shaped as this rank's ``rows`` or ``bias`` in its first axis.  Rank 0 gets the whole on its CPU,
        and no more than one further rank's part at a time in its device's memory; the others get None.
        """
        tensor, each = tensor.detach().contiguous(), self._rows_each(tensor, len(self.part))
        if self._ranks.rank:
            dist.send(tensor, group=self._ranks.group, group_dst=0)
            return None
        whole = torch.empty(self.num_landmarks * each, *tensor.shape[1:], dtype=tensor.dtype)
        whole[: len(tensor)] = tensor
        for rank in range(1, self._ranks.num):
            part = self._ranks.part(rank)
            into = whole[part.start * each : part.stop * each]
            received = into if tensor.device.type == "cpu" else torch.empty_like(into, device=tensor.device)
            dist.recv(received, group=self._ranks.group, group_src=rank)
            if received is not into:
                into.copy_(received)
        return whole

    def slice_rows(self, tensor: Tensor) -> Tensor:
        """The part for this rank of *tensor*, whose first axis is that of the unsharded rows or biases; a view."""
        each = self._rows_each(tensor, self.num_landmarks)
        return tensor[self.part.start * each : self.part.stop * each]

    def extra_repr(self) -> str:
        """What ``print`` shows of the head."""
        return f"{super().extra_repr()}, part={self.part}"

    def _rows_each(self, tensor: Tensor, num_landmarks: int) -> int:
        for each in (self.options.subcentres, 1):
            if tensor.ndim and len(tensor) == num_landmarks * each:
                return each
        wanted = f"{num_landmarks} landmarks with {self.options.subcentres} rows each"
        raise ValueError(f"a table {tuple(tensor.shape)} does not fit {wanted}")

    def _whole_batch(self, photos: Photos) -> Photos:
        """The photos of all ranks, in the order of ranks; a gradient of descriptors is summed over ranks."""
        mine = photos.descriptors_ND.to(self._precise(photos.descriptors_ND))
        graph = torch.is_grad_enabled() and mine.requires_grad
        facts = [len(mine), graph, photos.weight_N is not None]
        facts_R3 = self._ranks.gather(torch.tensor(facts, device=mine.device)).view(-1, 3)
        num_R = facts_R3[:, 0].tolist()
        if not any(num_R):
            raise ValueError("no rank has a photo; leave the batch out, on every rank")
        if len(facts_R3[:, 2].unique()) > 1:
            raise ValueError(
                "weights on some ranks only; give weight_N on all, of length 0 where there is no photo"
            )
        if facts_R3[:, 1].any() and not graph:
            # the backward pass of gathering is collective, too: it must come on every rank or none
            mine = mine.detach().requires_grad_()
        row_N = self._ranks.gather_uneven(photos.row_N, num_R)
        if row_N.min() < 0 or row_N.max() >= self.num_landmarks:
            raise ValueError(f"label rows must lie in 0..{self.num_landmarks - 1}, the rows of all ranks")
        weight_N = photos.weight_N
        if weight_N is not None:
            weight_N = self._ranks.gather_uneven(weight_N.to(mine.dtype), num_R)
        return Photos(descriptors_ND=self._ranks.gather_uneven(mine, num_R), row_N=row_N, weight_N=weight_N)

    def _random_stream(self) -> int:
        return self._ranks.rank

    @torch.no_grad()
    def _dynamic_scale(self, cosines_NL: Tensor, columns: Columns, scale: float | Tensor) -> Tensor:
        at_target = (columns.photo_P, columns.column_P)
        target_N = cosines_NL.new_zeros(len(cosines_NL))
        target_N[columns.photo_P] = cosines_NL[at_target]
        others_NL = (scale * cosines_NL).index_put_(at_target, cosines_NL.new_tensor(-torch.inf))
        log_sum_R = self._ranks.gather(torch.logsumexp(others_NL.flatten(), dim=0)[None])
        return asked_scale(torch.logsumexp(log_sum_R, dim=0), self._ranks.total(target_N))

    def _cross_entropy(self, logits_NL: Tensor, columns: Columns, *, smoothing: float) -> Tensor:
        return _CrossEntropy.apply(logits_NL, columns, smoothing, self._ranks)

    def _once(self, loss: Tensor) -> Tensor:
        # every rank has the whole of it, and gathering sums the gradients of all
        return loss.detach() + (loss - loss.detach()) / self._ranks.num


@dataclass(frozen=True, kw_only=True)
class _Ranks:
    """The processes that share a head, and what they tell each other."""

    group: dist.ProcessGroup
    rank: int
    num: int
    num_landmarks: int

    def __deepcopy__(self, memo: dict[int, Any]) -> _Ranks:
        # a running average of the head is one of the same processes
        return self

    def part(self, rank: int) -> range:
        return range(*((at * self.num_landmarks) // self.num for at in (rank, rank + 1)))

    def gather(self, tensor: Tensor) -> Tensor:
        """Equally long tensors of all ranks, one after the other; without gradient."""
        found = tensor.new_empty(self.num * len(tensor), *tensor.shape[1:])
        dist.all_gather_single(found, tensor.contiguous(), group=self.group)
        return found

    def gather_uneven(self, tensor: Tensor, num_R: list[int]) -> Tensor:
        """Tensors of *num_R* entries, one after the other.  A gradient is the sum over ranks of this one's slice."""
        longest = max(num_R)
        padded = F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, longest - len(tensor)))
        found = _Gather.apply(padded, self)
        return torch.cat([found[rank * longest : rank * longest + num] for rank, num in enumerate(num_R)])

    def total(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor, group=self.group)
        return tensor

    def greatest(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.group)
        return tensor


class _Gather(torch.autograd.Function):
    """``_Ranks.gather`` with a gradient: each rank gets the sum over ranks of its slice's.

    ``torch.distributed.nn.functional.all_gather`` does so too, and is deprecated for a private module.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: _Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(tensor)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mine = grad.new_empty(len(grad) // ctx.ranks.num, *grad.shape[1:])
        dist.reduce_scatter_single(mine, grad.contiguous(), group=ctx.ranks.group)
        return mine, None


class _CrossEntropy(torch.autograd.Function):
    """Cross entropy ``[N]`` of logits whose columns lie on several ranks; its gradient, p - target, needs no rank.

    Every rank has the same loss and its own columns' gradient.  One table ``[N, L]`` is kept, that of p.
    """

    @staticmethod
    def forward(ctx: Any, logits_NL: Tensor, columns: Columns, smoothing: float, ranks: _Ranks) -> Tensor:
        photo_P, column_P = columns.photo_P, columns.column_P
        # less the greatest of all ranks: exp overflows at the logits themselves
        p_NL = logits_NL - ranks.greatest(logits_NL.amax(dim=1))[:, None]
        sums_3N = p_NL.new_zeros(3, len(p_NL))  # of exponentials, of logits, and the logit at the target
        if smoothing:
            sums_3N[1] = p_NL.sum(dim=1)
        sums_3N[2, photo_P] = p_NL[photo_P, column_P]
        sums_3N[0] = p_NL.exp_().sum(dim=1)
        sum_N, logits_N, target_N = ranks.total(sums_3N)
        ctx.save_for_backward(p_NL.div_(sum_N[:, None]), photo_P, column_P)
        ctx.smoothing, ctx.spread = smoothing, smoothing / ranks.num_landmarks
        return sum_N.log() - (1.0 - smoothing) * target_N - ctx.spread * logits_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        p_NL, photo_P, column_P = ctx.saved_tensors
        grad_NL = p_NL - ctx.spread
        grad_NL[photo_P, column_P] -= 1.0 - ctx.smoothing
        return grad_NL.mul_(grad_N[:, None]), None, None, None
