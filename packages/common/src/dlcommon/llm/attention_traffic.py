"""Memory traffic of attention between a processor's large slow memory and its small fast one, counted in numbers.

On a GPU the slow memory holds the tensors (HBM), and the fast one what a kernel works on (SRAM). Counts are for one
head and the forward pass.
"""

from dlcommon.llm.flash_attention import blocks, key_blocks


def standard_traffic(queries: int, keys: int, head_dim: int) -> int:
    """Counts what attention in three steps reads and writes (FlashAttention, algorithm 0).

    Logits: reads Q and K, writes S. Softmax: reads S, writes P. Output: reads P and V, writes O. The matrices S and P
    have queries · keys numbers, so that this grows as the square of the tokens.
    """
    weights = queries * keys
    return (queries + keys) * head_dim + weights + 2 * weights + weights + (keys + queries) * head_dim


def tiled_traffic(
    queries: int, keys: int, head_dim: int, query_block: int, key_block: int, causal: bool = False
) -> int:
    """Counts what the loops of `flash_attention` read and write.

    A block of queries is read once, its output and one number for each query are written once; all keys and values that
    it needs are read for each block of queries.
    """
    traffic = 0
    for rows in blocks(queries, query_block):
        count = rows.stop - rows.start
        traffic += count * head_dim + count * (head_dim + 1)  # queries in; outputs and their log totals out
        for columns in key_blocks(rows, queries, keys, key_block, causal):
            traffic += 2 * (columns.stop - columns.start) * head_dim  # keys and values in
    return traffic


def fast_memory_needed(head_dim: int, query_block: int, key_block: int) -> int:
    """Counts the numbers that a tile occupies: queries, outputs, maximum and total; keys, values; logits."""
    return query_block * (2 * head_dim + 2) + 2 * key_block * head_dim + query_block * key_block


def largest_query_block(head_dim: int, fast_memory: int, key_block: int) -> int:
    """Computes how many queries a tile may have, so that it fits into `fast_memory` numbers.

    Raises:
        ValueError: not even one query fits beside the keys and values.
    """
    fits = (fast_memory - 2 * key_block * head_dim) // (2 * head_dim + 2 + key_block)
    if fits < 1:
        raise ValueError(
            f"{fast_memory} numbers of fast memory do not hold {key_block} keys and values of width {head_dim} "
            "and a query; choose a smaller key_block"
        )
    return fits
