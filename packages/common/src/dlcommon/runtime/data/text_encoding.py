"""Recognizes the encoding of text that users bring: UTF-8, UTF-16, or what Excel wrote on their machine."""

import codecs
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dlcommon.runtime.data.dataset import DamagedDataError

Note = Callable[[str], None]
"""Is told what a user should know of a file."""

ENCODINGS = {
    "gb18030": "GBK (simplified Chinese)",
    "big5": "Big5 (traditional Chinese)",
    "shift_jis": "Shift JIS (Japanese)",
    "euc_kr": "EUC-KR (Korean)",
    "cp1252": "Windows-1252 (Western European)",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
}
"""Python's name to the one that is shown: those in which Windows writes CSV and text."""
_FREQUENT = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实日军者意无力它与长把机十民第公此已工"
    "使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化"
    "名姓龄性别城市价格期号码量数额总计备注句"
)
"""Hanzi of which ordinary Chinese consists by half, and those of headings."""
_WESTERN = frozenset("äöüÄÖÜßéèêëÉÈÊàâáÀÂÁçÇñÑíìîïóòôúùûÓÚ€£§°«»–—‘’“”„…·µ²³½\u00a0")
_UTF_16 = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_PIECE = 1 << 20
_SAMPLE = 1 << 16
"""Bytes of lines that are not ASCII, from which an encoding is recognized."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def say(text: str) -> None:
    """Prints a note on stderr."""
    print(text, file=sys.stderr, flush=True)


def recognized(file: BinaryIO, path: Path, note: Note) -> str:
    """Recognizes the encoding of a text file, which is left at its beginning; notes it where it is not UTF-8.

    Args:
        file: that can be read again from its beginning.
        path: the file that errors and notes name.

    Raises:
        DamagedDataError: the file is not UTF-8, and in no encoding that is known here; says in which line.
    """
    try:
        start = file.read(2)
        if start in _UTF_16:
            note(f"{path.name} is UTF-16, and is read as that")
            return "utf-16"
        file.seek(0)
        place = _first_other_byte(file)
        if place is None:
            return "utf-8-sig"
        name = _guessed(_sample(file))
        if name is None:
            raise _unknown(file, path, place)
        note(f"{path.name} is not UTF-8; it is read as {ENCODINGS[name]}. If letters are wrong, save it as UTF-8")
        return name
    finally:
        file.seek(0)


def decoded(content: bytes, path: Path, note: Note) -> str:
    """Decodes the content of a text file as `recognized` says, without a byte-order mark.

    Raises:
        DamagedDataError: as of `recognized`, or the encoding that was recognized does not suit all of it.
    """
    name = recognized(io.BytesIO(content), path, note)
    try:
        return content.decode(name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DamagedDataError(path, f"looks like {shown(name)}, but byte 0x{content[error.start]:02x} is not; "
                               f"save it as UTF-8", line) from error  # fmt: skip


def shown(name: str) -> str:
    """Returns the name of an encoding as users know it."""
    return ENCODINGS.get(name, "UTF-16" if name == "utf-16" else "UTF-8")


def _first_other_byte(file: BinaryIO) -> int | None:
    """Returns where the file stops being UTF-8; None where it is UTF-8 to its end."""
    decoder, read = codecs.getincrementaldecoder("utf-8")(), 0
    while True:
        piece = file.read(_PIECE)
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            return read - held + error.start
        if not piece:
            return None
        read += len(piece)


def _sample(file: BinaryIO) -> bytes:
    """Returns lines of the file that are not ASCII, a sample's length of them."""
    file.seek(0)
    lines, size = [], 0
    for line in file:
        if not line.isascii():
            lines.append(line[:_SAMPLE])
            size += len(lines[-1])
            if size >= _SAMPLE:
                break
    return b"".join(lines)


def _guessed(sample: bytes) -> str | None:
    """Recognizes an encoding by the letters that it would make of the sample; None where none makes sense."""
    from charset_normalizer import from_bytes

    damaged = sample.decode("utf-8", "replace")
    bad = damaged.count("\ufffd")
    if _CONTROL.search(sample) or sum(not one.isascii() for one in damaged) - bad > 3 * bad:
        return None  # binary, or UTF-8 in which some bytes are damaged
    if (name := _usual(sample)) is not None:
        return name
    matches = from_bytes(sample, cp_isolation=list(ENCODINGS))
    names = [one.encoding for one in matches if one.encoding in ENCODINGS]
    if not names:
        return None
    # Of encodings that make the same letters, the more usual one.
    same = [name for name in ENCODINGS if name in names and sample.decode(name) == sample.decode(names[0])]
    return same[0]


def _usual(sample: bytes) -> str | None:
    """Recognizes Chinese and Western text by its most frequent letters, of which a few are enough."""
    for name, letters, least in (("gb18030", _FREQUENT, 0.2), ("cp1252", _WESTERN, 1.0)):
        try:
            others = [one for one in sample.decode(name) if not one.isascii()]
        except UnicodeDecodeError:
            continue
        if sum(one in letters for one in others) >= least * len(others):
            return name
    return None


def _unknown(file: BinaryIO, path: Path, place: int) -> DamagedDataError:
    file.seek(0)
    before = file.read(place)
    bad = file.read(1)
    problem = f"is not UTF-8 text (byte 0x{bad.hex()}), and in no encoding that is known here; save it as UTF-8"
    return DamagedDataError(path, problem, before.count(b"\n") + 1)
