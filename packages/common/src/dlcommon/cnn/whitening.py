"""A first convolution that whitens image patches (Page 2019; Jordan 2024, section 3.2)."""

import torch
from torch import nn


class WhiteningConv(nn.Conv2d):
    """Filters fixed to the whitening transform of the training images' patches, and its negative.

    Its outputs are uncorrelated with unit variance, so that the layers behind it need not learn to undo the
    strong correlation of neighbouring pixels. Only the bias is trained.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, 2 * channels * kernel**2, kernel)
        self.weight.requires_grad_(False)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit(self, images: torch.Tensor, epsilon: float = 5e-4) -> None:
        """Computes the filters.

        Args:
            images: [batch, channels, height, width], normalized to mean zero, so that second moments are covariances.
            epsilon: added to the variances, so that noise is not blown up.
        """
        kernel = self.kernel_size[0]
        patches = images.float().unfold(2, kernel, 1).unfold(3, kernel, 1)  # [b, c, rows, columns, k, k]
        flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.size(1) * kernel**2)
        variances, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
        filters = directions.T / (variances[:, None] + epsilon).sqrt()
        filters = filters.view(-1, images.size(1), kernel, kernel)
        self.weight.copy_(torch.cat([filters, -filters]))
