"""Counts a Llama's parameters, arithmetic and key-value cache from its configuration, without building it."""

from dataclasses import dataclass

from dlcommon.llm.llama_config import LlamaConfig


@dataclass(frozen=True)
class ParameterCount:
    """States where a model's parameters are."""

    embedding: int
    """The token embedding, and the output layer where it is not tied to it."""
    attention: int
    feed_forward: int
    """Of all experts, with their routers."""
    norms: int
    idle: int
    """Of the feed-forward parameters, those of the experts that a token does not pass through."""

    @property
    def total(self) -> int:
        """Returns the parameters that must be stored."""
        return self.embedding + self.attention + self.feed_forward + self.norms

    @property
    def active(self) -> int:
        """Returns the parameters that one token uses: all of a dense model's."""
        return self.total - self.idle


def count_parameters(config: LlamaConfig) -> ParameterCount:
    """Counts the parameters of `Llama(config)`."""
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention = config.dim * (2 * queries + 2 * keys)  # W_q and W_o; W_k and W_v
    if config.qkv_bias:
        attention += queries + 2 * keys
    expert = 3 * config.dim * config.feedforward_dim  # gate, up, down
    feed_forward, idle = expert, 0
    if config.num_experts:
        feed_forward = config.num_experts * (expert + config.dim)  # with the router's row for each expert
        idle = (config.num_experts - config.experts_per_token) * expert
    norms = 2 * config.dim + (2 * config.head_dim if config.qk_norm else 0)
    return ParameterCount(
        embedding=config.vocab_size * config.dim * (1 if config.tie_embeddings else 2),
        attention=config.num_layers * attention,
        feed_forward=config.num_layers * feed_forward,
        norms=config.num_layers * norms + config.dim,
        idle=config.num_layers * idle,
    )


def forward_flops(config: LlamaConfig, context: int) -> int:
    """Counts the floating-point operations of matrix products for one new token that attends to `context` tokens.

    Each weight of a matrix takes a multiplication and an addition, and so does each coordinate of a cached key and of a
    cached value, for each head of queries. Training takes about three times as many: backward is two forwards.
    """
    count = count_parameters(config)
    biases = (
        config.num_layers * (config.num_heads + 2 * config.num_kv_heads) * config.head_dim if config.qkv_bias else 0
    )
    # The embedding is looked up, not multiplied; the output layer is multiplied, tied or not.
    lookup = 0 if config.tie_embeddings else config.vocab_size * config.dim
    matrices = count.active - count.norms - biases - lookup
    attention = 2 * config.num_layers * config.num_heads * config.head_dim * context  # products with keys and values
    return 2 * (matrices + attention)


def kv_cache_bytes(config: LlamaConfig, tokens: int, bytes_per_number: int = 2) -> int:
    """Counts the bytes of the keys and values of `tokens` tokens, in 16-bit numbers by default."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * tokens * bytes_per_number
