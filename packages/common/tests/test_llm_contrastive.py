"""CLIP's and SigLIP's losses, and the insertion of pictures, against transformers."""

import math
from typing import Any

import pytest
import torch
from dlcommon.llm.contrastive import DualEncoder, class_embeddings, clip_loss, contrastive_logits, siglip_loss
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.visual_projector import VisionLanguageModel, VisualProjector, insert_image_embeddings
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, LlavaConfig, SiglipConfig, SiglipModel
from transformers import LlamaConfig as TransformersLlamaConfig
from transformers.models.clip.modeling_clip import image_text_contrastive_loss
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("pairs", [1, 2, 7])
def test_clip_loss_is_transformers_in_value_and_gradient(pairs: int) -> None:
    images, texts = random(pairs, 5).requires_grad_(), random(pairs, 5, seed=1).requires_grad_()
    log_scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64, requires_grad=True)
    inputs = (images, texts, log_scale)
    ours = clip_loss(contrastive_logits(images, texts, log_scale.exp()))
    # as transformers' CLIPModel computes the logits
    unit_images, unit_texts = (each / each.norm(p=2, dim=-1, keepdim=True) for each in (images, texts))
    theirs = image_text_contrastive_loss(unit_texts @ unit_images.T * log_scale.exp())
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(loss, inputs) for loss in (ours, theirs)]
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


def test_siglip_loss_is_transformers_in_value_and_gradient() -> None:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**small, "vocab_size": 20, "max_position_embeddings": 6},
        vision_config={**small, "image_size": 8, "patch_size": 4},
    )
    torch.manual_seed(0)
    model: Any = SiglipModel(config).double().eval()
    output = model(
        input_ids=torch.randint(20, (5, 6)), pixel_values=random(5, 3, 8, 8), return_loss=True, return_dict=True
    )
    ours = siglip_loss(
        contrastive_logits(output.image_embeds, output.text_embeds, model.logit_scale.exp()) + model.logit_bias
    )
    torch.testing.assert_close(ours, output.loss, rtol=1e-12, atol=1e-12)
    parameters = [model.logit_scale, model.logit_bias, model.text_model.embeddings.token_embedding.weight]
    gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (ours, output.loss)]
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


def test_equal_logits_cost_the_logarithm_of_the_batch() -> None:
    assert clip_loss(torch.zeros(8, 8)).item() == pytest.approx(math.log(8))
    assert siglip_loss(torch.zeros(8, 8)).item() == pytest.approx(8 * math.log(2))


def test_class_embeddings_average_directions_not_lengths() -> None:
    prompts = random(3, 4, 6)
    lengths = random(3, 4, 1, seed=1).exp()
    torch.testing.assert_close(class_embeddings(prompts * lengths), class_embeddings(prompts))
    torch.testing.assert_close(class_embeddings(prompts[:, :1]), F.normalize(prompts[:, 0], dim=1))
    torch.testing.assert_close(class_embeddings(prompts).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_dual_encoder_scores_every_picture_with_every_text() -> None:
    torch.manual_seed(0)
    model = DualEncoder(nn.Flatten(), 12, nn.Embedding(9, 5), 5, 4, temperature=0.1)
    images, tokens = torch.randn(3, 3, 2, 2), torch.tensor([1, 4])
    logits = model(images, tokens)
    assert logits.shape == (3, 2)
    torch.testing.assert_close(logits, 10 * model.embed_images(images) @ model.embed_texts(tokens).T)
    assert not model.bias.requires_grad
    with torch.no_grad():
        model.log_scale.fill_(10.0)
    assert model.scale.item() == 100.0
    assert DualEncoder(nn.Flatten(), 12, nn.Embedding(9, 5), 5, 4, bias=-10.0).bias.requires_grad


def test_the_projector_is_llavas() -> None:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=6, num_attention_heads=2),
        text_config=TransformersLlamaConfig(hidden_size=12, num_attention_heads=2),
    )
    torch.manual_seed(0)
    theirs: Any = LlavaMultiModalProjector(config)
    ours = VisualProjector(6, 12, hidden_dim=12)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    features = torch.randn(2, 7, 6)
    torch.testing.assert_close(ours(features), theirs(features))


def test_several_tokens_for_one_feature_vector_stand_one_after_the_other() -> None:
    projector = VisualProjector(4, 3, tokens_per_feature=2)
    features = torch.randn(5, 6, 4)
    projected = projector(features)
    assert projected.shape == (5, 12, 3)
    torch.testing.assert_close(projected[:, 2:4].flatten(1), projector.layers(features[:, 1]))


def test_pictures_take_the_place_of_their_placeholders_only() -> None:
    text, picture = random(2, 5, 3).requires_grad_(), random(2, 2, 3, seed=1).requires_grad_()
    is_image = torch.tensor([[False, True, True, False, False], [True, False, False, False, True]])
    inserted = insert_image_embeddings(text, is_image, picture)
    torch.testing.assert_close(inserted[0], torch.stack((text[0, 0], *picture[0], text[0, 3], text[0, 4])))
    torch.testing.assert_close(inserted[1], torch.stack((picture[1, 0], *text[1, 1:4], picture[1, 1])))
    text_gradient, picture_gradient = torch.autograd.grad(inserted.sum(), (text, picture))
    assert torch.equal(text_gradient[..., 0] == 0, is_image)
    assert picture_gradient.eq(1).all()
    with pytest.raises(ValueError, match=r"\[2, 1\] placeholders, a picture 2 embeddings"):
        insert_image_embeddings(text, is_image & torch.tensor([True, True, True, True, False]), picture)


def test_a_projected_word_is_read_as_the_word_itself() -> None:
    torch.manual_seed(0)
    llama = Llama(LlamaConfig(11, 8, 2, 2, 1, 4, 16)).eval()
    model = VisionLanguageModel(llama, VisualProjector(8, 8), image_token=10)
    with torch.no_grad():
        identity = model.projector.layers
        assert isinstance(identity, nn.Linear)
        identity.weight.copy_(torch.eye(8))
        identity.bias.zero_()
        words = torch.tensor([[3, 5, 7, 2]])
        placeholders = torch.tensor([[3, 10, 10, 2]])
        logits = model(placeholders, llama.model.embed_tokens(words[:, 1:3]))
        torch.testing.assert_close(logits, llama(words))
