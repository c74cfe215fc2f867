"""Roman numerals and the numbers they stand for: a small translation whose every answer is known.

A symbol's worth depends on its neighbour (IX is 9, XI is 11), and source and target differ in length.
"""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from dlcommon.rnn.seq2seq import END, PAD, START

VALUES = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
SYMBOLS = "IVXLCDM0123456789"
VOCABULARY = 3 + len(SYMBOLS)
"""PAD, START and END come before the symbols."""


def roman(number: int) -> str:
    """The numeral of a number from 1 to 3999."""
    text = ""
    for value, symbols in VALUES:
        text += symbols * (number // value)
        number %= value
    return text


def encode(numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numerals to translate, and the numbers they stand for.

    Returns:
        Source int64 [pairs, longest numeral], its lengths int64 [pairs], and target int64 [pairs, steps]: START, the
        digits, END. Both are filled up with PAD.
    """
    sources = [torch.tensor([3 + SYMBOLS.index(symbol) for symbol in roman(number)]) for number in numbers]
    targets = [torch.tensor([START, *(3 + SYMBOLS.index(digit) for digit in str(number)), END]) for number in numbers]
    lengths = torch.tensor([len(source) for source in sources])
    return pad_sequence(sources, True, PAD), lengths, pad_sequence(targets, True, PAD)


def read(tokens: torch.Tensor) -> list[str]:
    """The symbols of each row of tokens [pairs, steps], up to END."""
    rows = [row[: row.index(END)] if END in row else row for row in tokens.tolist()]
    return ["".join(SYMBOLS[token - 3] for token in row if token > END) for row in rows]
