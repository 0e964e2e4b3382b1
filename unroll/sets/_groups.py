"""Groups of the entries of a vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Groups(nn.Module):
    """Disjoint groups that cover the last dimension: a label 0..G-1 for each entry, or the size of consecutive ones."""

    labels: Tensor

    def __init__(self, groups: int | Tensor) -> None:
        super().__init__()
        self.size = groups if isinstance(groups, int) else None
        if isinstance(groups, Tensor):
            if groups.ndim != 1 or groups.dtype != torch.int64 or not groups.numel() or int(groups.min()) < 0:
                raise ValueError(
                    "groups must be labels 0..G-1 in an integer tensor (n,), or the size of the groups; got "
                    f"{groups.dtype} of the shape {tuple(groups.shape)}"
                )
            self.count = int(groups.max()) + 1
            self.register_buffer("labels", groups, persistent=False)
        elif groups < 1:
            raise ValueError(f"groups must have a size of at least 1, got {groups}")

    def norms(self, v: Tensor) -> Tensor:
        """Return the norms of the groups, (..., G); the gradient at 0 is 0."""
        n = v.shape[-1]
        if self.size is not None:
            if n % self.size:
                raise ValueError(f"groups of {self.size} do not fill the last dimension of the shape {tuple(v.shape)}")
            members = v.reshape(*v.shape[:-1], n // self.size, self.size)
            norms: Tensor = torch.linalg.vector_norm(members, dim=-1)
            return norms
        if n != len(self.labels):
            raise ValueError(
                f"there are {len(self.labels)} labels of groups for a signal of the shape {tuple(v.shape)}"
            )
        squares = v.abs().square()
        sums = squares.new_zeros(self.count).expand(*v.shape[:-1], self.count).index_add(-1, self.labels, squares)
        return torch.where(sums > 0, torch.where(sums > 0, sums, 1).sqrt(), 0)

    def spread(self, values: Tensor, n: int) -> Tensor:
        """Return to each entry the value (..., G) of its group, (..., n)."""
        if self.size is not None:
            return values.repeat_interleave(self.size, dim=-1)
        return values.index_select(-1, self.labels)
