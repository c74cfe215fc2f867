"""A byte-level tokenizer as text, which an exported model carries; loads without torch."""

import json

from dlcommon.llm.byte_level_bpe import ByteLevelBPE
from dlcommon.transformer.byte_pair_encoding import BytePairEncoding


def tokenizer_to_json(tokenizer: ByteLevelBPE) -> str:
    """Returns a tokenizer as JSON."""
    encoding = tokenizer.encoding
    return json.dumps(
        {
            "pieces": encoding.pieces,
            "merges": encoding.merges,
            "unknown": encoding.unknown,
            "patterns": tokenizer.patterns,
            "special": tokenizer.special,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def tokenizer_from_json(text: str) -> ByteLevelBPE:
    """Reads what `tokenizer_to_json` returned."""
    content = json.loads(text)
    merges = [(left, right) for left, right in content["merges"]]
    encoding = BytePairEncoding(content["pieces"], merges, content["unknown"])
    return ByteLevelBPE(encoding, content["patterns"], content["special"])
