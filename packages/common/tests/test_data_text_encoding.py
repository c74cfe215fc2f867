"""Text that users bring, in the encodings in which their programs write it."""

import io
from pathlib import Path

import pytest
from dlcommon.runtime.data import DamagedDataError
from dlcommon.runtime.data.delimited import records, text_lines
from dlcommon.runtime.data.text_encoding import decoded, recognized

TEXTS = {
    "gb18030": "姓名,年龄,城市\n张三,30,北京\n李四,25,上海\n",
    "big5": "姓名,年齡\n張三,30\n李四,25\n",
    "shift_jis": "名前,年齢\n田中,30\nサトウ,25\n",
    "euc_kr": "이름,나이\n김철수,30\n",
    "cp1252": "Artikel;Preis €\nÄpfel;3,50\nBrötchen – groß;1,20\n",
    "cp1250": "Jméno;Město\nJiří;Žďár\nŁukasz;Łódź\n",
    "cp1251": "Имя,Возраст\nИван,30\nМария,25\n",
    "utf-16": "姓名\t年龄\n张三\t30\n",
    "utf-8-sig": "Größe,年龄\n1,2\n",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_what_spreadsheets_write_is_recognized_and_said(encoding: str) -> None:
    said: list[str] = []
    content = TEXTS[encoding].encode(encoding)
    assert decoded(content, Path("own.csv"), said.append) == TEXTS[encoding]
    assert len(said) == (encoding != "utf-8-sig")
    assert all(text.startswith("own.csv is ") for text in said)
    rows = records(text_lines(io.BytesIO(content), Path("own.csv"), said.append), Path("own.csv"))
    assert len({len(cells) for _, cells in rows}) == 1


def test_the_first_other_letter_may_come_late() -> None:
    """As in a long file whose first million rows are ASCII."""
    said: list[str] = []
    content = b"name,age\n" + b"Ann,1\n" * 500_000 + "张三,30\n李四,25\n王五,41\n".encode("gbk")
    assert recognized(io.BytesIO(content), Path("own.csv"), said.append) == "gb18030"
    assert "GBK" in said[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("一二三四五六\n七八九".encode()[:-1], "row 2: is not UTF-8 text (byte 0xe4"),  # cut off
        (b"a\nb\n\xff\x01\x02", "row 3: is not UTF-8 text (byte 0xff), and in no encoding that is known here"),
    ],
)
def test_damaged_text_is_not_taken_for_another_encoding(content: bytes, problem: str) -> None:
    said: list[str] = []
    with pytest.raises(DamagedDataError) as caught:
        decoded(content, Path("own.csv"), said.append)
    assert problem in str(caught.value)
    assert said == []
