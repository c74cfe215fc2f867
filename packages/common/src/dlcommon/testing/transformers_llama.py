"""Our Llama as transformers' class, to compare the two."""

from transformers import LlamaConfig, LlamaForCausalLM

from dlcommon.llm.llama import Llama


def to_transformers(network: Llama) -> LlamaForCausalLM:
    """Builds transformers' model of the same sizes with copies of the same weights, in evaluation mode.

    Args:
        network: without adapters, experts, biases or RoPE scaling.

    Raises:
        RuntimeError: it has weights that transformers' model has no place for.
    """
    shape = network.config
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.dim,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.feedforward_dim,
        max_position_embeddings=shape.context_length,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tie_embeddings,
    )
    model = LlamaForCausalLM(config).eval()
    state = dict(network.state_dict())
    if shape.tie_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model
