"""EfficientNet-Lite0, equal to timm's."""

import timm
import torch
from dlcommon.cnn.efficientnet_lite import EfficientNetLite0, fold_batch_norms


def test_it_is_timms_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    reference = timm.create_model("tf_efficientnet_lite0")
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    network = EfficientNetLite0()
    network.load_weights(reference.state_dict())
    by_order = EfficientNetLite0()
    by_order.load_weights({f"x.{name}": value for name, value in reference.state_dict().items()})
    for each in (reference, network, by_order):
        each.eval()
    images = torch.rand(2, 3, 66, 63) * 2 - 1  # odd: padded unevenly
    weight = torch.randn(2, 1000)
    found, expected = network(images), reference(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_order(images), found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for name in ("conv_stem.weight", "blocks.3.1.conv_dw.weight", "conv_head.weight"):
        ours, theirs = (each.get_parameter(name).grad for each in (network, reference))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_folded_batch_norms_change_nothing_but_the_time() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        before = network.features(images)
        fold_batch_norms(network)
        after = network.features(images)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
