"""Subject-specific voxel encoders: the only part of a decoder that depends on a brain's size.

Section 4.2.1 of the paper; released code: HaoyyLi/NeuralDiffuser, src/train_c.py, src/train_z.py.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from neuraldiffuser.errors import DataError


def linear_encoder(voxel_count: int, hidden_size: int) -> nn.Module:
    """The high-level pipeline's encoder: one linear layer."""
    return nn.Linear(voxel_count, hidden_size)


class VoxelEncoders(nn.Module):
    """One encoder per subject into one shared space.

    Args:
        voxel_counts: number of voxels by subject.
        make_encoder: builds the encoder of one subject from its number of voxels.
    """

    def __init__(
        self, voxel_counts: Mapping[str, int], make_encoder: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {subject: make_encoder(count) for subject, count in voxel_counts.items()}
        )

    def forward(self, voxels: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Encodes each subject's (n, voxels) trials and joins them: (sum of n, hidden)."""
        unknown = sorted(set(voxels) - set(self.encoders))
        if unknown:
            raise DataError(
                f"no voxel encoder for {', '.join(unknown)}: this decoder knows "
                f"{', '.join(self.encoders)}; use a decoder that was trained on that subject."
            )
        return torch.cat([self.encoders[subject](trials) for subject, trials in voxels.items()])
