"""Localization of the evidence for a class: class activation maps, Grad-CAM and Grad-CAM++.

Shapes: images [batch, channels, height, width], features [batch, feature maps, rows, columns], targets int64 [batch].
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.cnn.feature_visualization import record_outputs


def class_activation_maps(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Applies the last linear layer at each position before pooling: [batch, num_classes, rows, columns].

    For networks that end in global pooling and one linear layer (Zhou et al. 2016, https://arxiv.org/abs/1512.04150).
    With average pooling the mean over positions, plus the bias, is the logit.

    Args:
        features: input of the pooling.
        weight: of the linear layer, [num_classes, feature maps].
    """
    return torch.einsum("bchw,kc->bkhw", features, weight)


def grad_cam(network: nn.Module, target_layer: str, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Computes relu(Σ_k w_k A_k), where w_k is the mean of ∂score/∂A_k over positions: [batch, rows, columns].

    A_k are the layer's feature maps, the score is the class's logit (Selvaraju et al. 2017,
    https://arxiv.org/abs/1610.02391, equations 1 and 2). Any network that computes logits from the layer will do.

    Args:
        network: in evaluation mode, since batch norm would otherwise mix the images of a batch.
        target_layer: name of the submodule.
        images: to explain.
        targets: class to explain for each image.
    """
    features, gradient = _features_and_gradient(network, target_layer, images, targets)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # [batch, feature maps, 1, 1]
    return F.relu((weights * features).sum(dim=1))


def grad_cam_plus_plus(
    network: nn.Module, target_layer: str, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Computes relu(Σ_k w_k A_k), where w_k = Σ_ij α_k,ij relu(∂score/∂A_k,ij): [batch, rows, columns].

    α_k,ij = g² / (2 g² + g³ Σ_ab A_k,ab), where g = ∂score/∂A_k,ij, weights positions so that an object counts the
    same whether it covers many or few (Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063, equations 9 and
    19). The paper's Y is exp(score), which multiplies each image's map by one number; it is left out, since it
    overflows. Arguments are those of `grad_cam`.
    """
    features, g = _features_and_gradient(network, target_layer, images, targets)
    denominator = 2 * g**2 + g**3 * features.sum(dim=(2, 3), keepdim=True)
    # Where it is 0, so is g, and the position counts nothing.
    alpha = torch.where(denominator != 0, g**2 / torch.where(denominator != 0, denominator, 1.0), 0.0)
    weights = (alpha * F.relu(g)).sum(dim=(2, 3), keepdim=True)
    return F.relu((weights * features).sum(dim=1))


def _features_and_gradient(
    network: nn.Module, target_layer: str, images: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the layer's output, and the gradient of each image's score with respect to it, both shaped alike."""
    with torch.enable_grad(), record_outputs(network, target_layer) as outputs:
        # With frozen weights nothing would require a gradient but the images.
        logits = network(images.detach().requires_grad_())
        # The sum of all scores: an image's score depends on no other image's features.
        score = logits.gather(1, targets.unsqueeze(1)).sum()
        features = outputs[target_layer]
        (gradient,) = torch.autograd.grad(score, features)
    return features.detach(), gradient


def to_heatmap(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resizes maps to the images' size and scales each to a maximum of 1: [batch, height, width].

    A map of zeros, for a class without evidence, stays zero.
    """
    large = F.interpolate(maps.unsqueeze(1), (height, width), mode="bilinear", align_corners=False).squeeze(1)
    return large / large.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(large.dtype).tiny)
