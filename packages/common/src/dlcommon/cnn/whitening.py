"""A first convolution that whitens image patches (Page 2019; Jordan 2024, section 3.2)."""

import torch
from torch import nn


class WhiteningConv(nn.Conv2d):
    """Convolves with the whitening transform of the training images' patches, and with its negative.

    Its outputs are uncorrelated with unit variance, so that the layers after it need not learn to undo the strong
    correlation of neighboring pixels. Only the bias is trained.

    Args:
        in_channels: of the images; there are 2 · in_channels · kernel_size² outputs.
        kernel_size: of the patches.
    """

    def __init__(self, in_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, 2 * in_channels * kernel_size**2, kernel_size)
        self.weight.requires_grad_(False)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit(self, images: torch.Tensor, eps: float = 5e-4) -> None:
        """Sets the filters to the whitening transform of the images' patches.

        Args:
            images: [batch, channels, height, width], normalized to mean zero, so that second moments are covariances.
            eps: added to the variances, so that noise is not amplified.
        """
        kernel = self.kernel_size[0]
        patches = images.float().unfold(2, kernel, 1).unfold(3, kernel, 1)  # [b, c, rows, columns, k, k]
        # One patch a row: [patches, c·k·k].
        flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.size(1) * kernel**2)
        variances, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
        # PCA whitening: each eigenvector of the covariance, divided by the standard deviation along it.
        filters = directions.T / (variances[:, None] + eps).sqrt()
        filters = filters.view(-1, images.size(1), kernel, kernel)
        self.weight.copy_(torch.cat([filters, -filters]))
