"""Where in the image a network sees a class: class activation maps, Grad-CAM and Grad-CAM++.

Shapes: images [batch, channels, height, width], features [batch, maps, rows, columns], classes [batch].
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.cnn.feature_visualization import recorded


def class_activation_maps(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The last linear layer applied at each place before pooling: [batch, classes, rows, columns].

    For networks that end in global pooling and one linear layer (Zhou et al. 2016, https://arxiv.org/abs/1512.04150).
    With average pooling the mean over places, plus the bias, is the logit.

    Args:
        weight: of that layer [classes, maps].
    """
    return torch.einsum("bchw,kc->bkhw", features, weight)


def grad_cam(network: nn.Module, layer: str, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """relu(Σ_k w_k A_k) with w_k the mean over places of ∂score/∂A_k: [batch, rows, columns].

    A_k are the maps of the layer, the score is the class's logit (Selvaraju et al. 2017,
    https://arxiv.org/abs/1610.02391, equations 1 and 2). Any network that computes logits from the layer will do.

    Args:
        network: in evaluation mode, since batch norm would otherwise let images enter each other's maps.
        layer: name of the submodule.
        classes: the class that is asked about, for each image.
    """
    features, gradient = _features_and_gradient(network, layer, images, classes)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return F.relu((weights * features).sum(dim=1))


def grad_cam_plus_plus(network: nn.Module, layer: str, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """relu(Σ_k w_k A_k) with w_k = Σ_ij α_k,ij relu(∂score/∂A_k,ij): [batch, rows, columns].

    α_k,ij = g² / (2 g² + g³ Σ_ab A_k,ab), where g = ∂score/∂A_k,ij, weighs places so that an object counts the same
    whether it fills many places or few (Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063, equations 9 and
    19). The paper's Y is exp(score), which multiplies each image's map by one number; it is left out, since it
    overflows.

    Args: as of `grad_cam`.
    """
    features, g = _features_and_gradient(network, layer, images, classes)
    below = 2 * g**2 + g**3 * features.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(below != 0, g**2 / torch.where(below != 0, below, 1.0), 0.0)
    weights = (alpha * F.relu(g)).sum(dim=(2, 3), keepdim=True)
    return F.relu((weights * features).sum(dim=1))


def _features_and_gradient(
    network: nn.Module, layer: str, images: torch.Tensor, classes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's maps and the gradient of each image's score on its own maps, both [batch, maps, rows, columns]."""
    with torch.enable_grad(), recorded(network, layer) as outputs:
        # Requiring a gradient of the images lets networks with frozen weights in.
        logits = network(images.detach().requires_grad_())
        score = logits.gather(1, classes.unsqueeze(1)).sum()
        features = outputs[layer]
        (gradient,) = torch.autograd.grad(score, features)
    return features.detach(), gradient


def heat(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The maps enlarged to the images' size and scaled to a maximum of 1 each: [batch, height, width].

    A map of zeros, of a class that nothing speaks for, stays one.
    """
    large = F.interpolate(maps.unsqueeze(1), (height, width), mode="bilinear", align_corners=False).squeeze(1)
    return large / large.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(large.dtype).tiny)
