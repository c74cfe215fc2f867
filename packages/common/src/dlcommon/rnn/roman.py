"""Roman numerals and the numbers they stand for: a small translation task in which every answer is known.

The value of a symbol depends on its neighbor (IX is 9, XI is 11), and source and target differ in length.
"""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from dlcommon.rnn.seq2seq import BOS, EOS, PAD

VALUES = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
SYMBOLS = "IVXLCDM0123456789"
NUM_SPECIAL = 3
"""PAD, BOS and EOS come before the symbols."""
VOCAB_SIZE = NUM_SPECIAL + len(SYMBOLS)


def to_roman(number: int) -> str:
    """Writes a number from 1 to 3999 as a Roman numeral."""
    numeral = ""
    for value, symbols in VALUES:
        numeral += symbols * (number // value)
        number %= value
    return numeral


def encode(numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encodes numerals as sources and the numbers they stand for as targets.

    Returns:
        Source int64 [pairs, longest numeral], its lengths int64 [pairs], and target int64 [pairs, steps]: BOS, the
        digits, EOS. Both are padded with PAD.
    """
    sources = [torch.tensor([_token(symbol) for symbol in to_roman(number)]) for number in numbers]
    targets = [torch.tensor([BOS, *(_token(digit) for digit in str(number)), EOS]) for number in numbers]
    lengths = torch.tensor([len(source) for source in sources])
    return (
        pad_sequence(sources, batch_first=True, padding_value=PAD),
        lengths,
        pad_sequence(targets, batch_first=True, padding_value=PAD),
    )


def decode(tokens: torch.Tensor) -> list[str]:
    """Returns the symbols of each row of tokens [pairs, steps], up to EOS."""
    rows = [row[: row.index(EOS)] if EOS in row else row for row in tokens.tolist()]
    return ["".join(SYMBOLS[token - NUM_SPECIAL] for token in row if token >= NUM_SPECIAL) for row in rows]


def _token(symbol: str) -> int:
    return NUM_SPECIAL + SYMBOLS.index(symbol)
