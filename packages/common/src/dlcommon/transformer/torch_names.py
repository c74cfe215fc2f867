"""The names that `torch.nn.Transformer` and its layers have for the weights of ours."""

import re
from collections.abc import Mapping

import torch

_NAMES = {
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
    "feed_forward.up_proj": "linear1",
    "feed_forward.down_proj": "linear2",
    "attention_residual.norm": "norm1",
    "self_residual.norm": "norm1",
    "cross_residual.norm": "norm2",
}


def torch_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames weights, or their gradients, of an encoder, a decoder or a layer as torch names them.

    The result fits `load_state_dict` of `torch.nn.TransformerEncoderLayer`, `torch.nn.TransformerDecoderLayer`, or
    their stacks. torch holds the projections of query, key and value one above the other, as `in_proj_weight`.

    Args:
        tensors: name to tensor, as `state_dict()` returns them.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(.*)\.(key|value)_proj\.(weight|bias)", name):
            continue  # joined to the query's
        if match := re.fullmatch(r"(.*)\.query_proj\.(weight|bias)", name):
            attention, kind = match.groups()
            parts = [tensors[f"{attention}.{part}_proj.{kind}"] for part in ("query", "key", "value")]
            name, tensor = f"{attention}.in_proj_{kind}", torch.cat(parts)  # [3 · dim, dim] or [3 · dim]
        layer = name.partition("feed_forward_residual.")[0]
        last_norm = "norm3" if f"{layer}cross_residual.norm.weight" in tensors else "norm2"
        for ours, theirs in {**_NAMES, "feed_forward_residual.norm": last_norm}.items():
            name = re.sub(rf"(^|\.){re.escape(ours)}\.", rf"\1{theirs}.", name)
        renamed[name] = tensor
    return renamed
