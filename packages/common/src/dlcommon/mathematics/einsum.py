"""Einstein summation: products of tensors specified by the names of their axes."""

import math
from typing import Any


def einsum(subscripts: str, *operands: Any) -> Any:
    """Multiplies the operands and sums over every axis that the result does not name.

    `einsum("bqd,bkd->bqk", queries, keys)` computes attention scores. Each operand is transposed so that its axes
    follow one common order, with axes of length 1 for the letters that it lacks; broadcasting then multiplies. This is
    the definition: it holds the whole product in memory, [size of every letter], where NumPy and torch find matrix
    products instead.

    Args:
        subscripts: one letter per axis, with an explicit result, such as `ij,jk->ik`.
        operands: arrays, or variables of `dlcommon.mathematics.autograd`, whose gradients follow by the chain rule;
            only their `transpose`, `reshape`, `*` and `sum` are used.

    Raises:
        ValueError: letters and axes do not match, or a letter stands for two sizes.
    """
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow or len(terms) != len(operands):
        raise ValueError(f"{subscripts!r} must name {len(operands)} operands and, after ->, the result")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        if len(term) != len(operand.shape) or len(set(term)) != len(term):
            raise ValueError(f"{term!r} must give each of the {len(operand.shape)} axes a letter of its own")
        for letter, size in zip(term, operand.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"axis {letter!r} has sizes {sizes[letter]} and {size}")
    if len(set(output)) != len(output) or not set(output) <= set(sizes):
        raise ValueError(f"the result {output!r} must be made of different letters of the operands")
    letters = output + "".join(letter for letter in sizes if letter not in output)
    aligned = []  # every operand with one axis per letter, in the order of `letters`
    for term, operand in zip(terms, operands, strict=True):
        order = tuple(term.index(letter) for letter in letters if letter in term)
        shape = tuple(sizes[letter] if letter in term else 1 for letter in letters)
        aligned.append(operand.transpose(order).reshape(shape))
    product = math.prod(aligned[1:], start=aligned[0])  # [size of every letter], those of the result first
    # The result's letters come first, so all axes after them are summed.
    summed = tuple(range(len(output), len(letters)))
    return product.sum(axis=summed) if summed else product
