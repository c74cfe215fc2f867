"""Conversations are read in the three forms that people store them in; a bad row is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from dlcommon.llm.chat_template import Message
from dlcommon.runtime.data import generated_instructions
from dlcommon.runtime.data.conversations import BadConversationError, Preference, read_conversation
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.instructions import FILE, load

QUESTION, ANSWER = Message("user", "Add.\n1 and 2"), Message("assistant", "3")


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Add.", "input": "1 and 2", "output": " 3\n"},
        {"messages": [{"role": "user", "content": "Add.\n1 and 2"}, {"role": "assistant", "content": "3"}]},
        {"conversations": [{"from": "human", "value": "Add.\n1 and 2"}, {"from": "gpt", "value": "3"}]},
        {"messages": json.dumps([{"role": "user", "content": "Add.\n1 and 2"}, {"role": "assistant", "content": "3"}])},
        {"prompt": "Add.\n1 and 2", "response": "3"},
    ],
)
def test_three_forms_hold_the_same_conversation(row: dict[str, Any]) -> None:
    found = read_conversation(row)
    assert found.messages == (QUESTION, ANSWER)
    assert found.prompt == (QUESTION,)
    assert found.preference is None


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Add.\n1 and 2", "chosen": "3", "rejected": "4"},
        {"instruction": "Add.", "input": "1 and 2", "output": "3", "chosen": "3", "rejected": "4"},
        {
            "prompt": [{"role": "user", "content": "Add.\n1 and 2"}],
            "chosen": [{"role": "assistant", "content": "3"}],
            "rejected": [{"role": "assistant", "content": "4"}],
        },
        {"messages": [{"role": "user", "content": "Add.\n1 and 2"}], "chosen": "3", "rejected": "4"},
    ],
)
def test_preferences(row: dict[str, Any]) -> None:
    found = read_conversation(row)
    assert found.messages == (QUESTION, ANSWER)
    assert found.preference == Preference("3", "4")
    assert found.with_answer("4")[-1] == Message("assistant", "4")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([], "no object"),
        ({"a": 1, "b": 2}, "has the fields a, b, but neither instruction and output"),
        ({"instruction": "Add."}, "no output"),
        ({"instruction": "", "output": "3"}, "empty message"),
        ({"instruction": "Add.", "output": 3}, "output is int, not a text"),
        ({"instruction": "Add.", "output": "3", "chosen": "", "rejected": "4"}, "empty chosen"),
        ({"instruction": "Add.", "output": "3", "rejected": "4"}, "chosen is missing"),
        ({"messages": "[{"}, "messages is no JSON"),
        ({"messages": []}, "does not end with the assistant's answer"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "turn 1 of messages has the role 'robot'"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "does not alternate"),
        (
            {"messages": [{"role": "user", "content": "hi"}, {"role": "system", "content": "no"}]},
            "system message after the first turn",
        ),
    ],
)
def test_a_bad_row_says_what_is_wrong(row: object, problem: str) -> None:
    with pytest.raises(BadConversationError, match=problem):
        read_conversation(row)


def test_a_damaged_file_names_its_row(tmp_path: Path) -> None:
    rows = [{"instruction": f"Add {number}.", "output": "3"} for number in range(120)]
    rows[7].pop("output")
    (tmp_path / FILE).write_text(json.dumps(rows))
    with pytest.raises(DamagedDataError, match="row 7: has no output"):
        load(tmp_path)
    (tmp_path / FILE).write_text("[1")
    with pytest.raises(DamagedDataError, match="is no JSON"):
        load(tmp_path)


def test_questions_of_the_test_are_not_trained_on(tmp_path: Path) -> None:
    rows = [{"instruction": f"Add {number % 100}.", "output": "3"} for number in range(210)]
    (tmp_path / FILE).write_text(json.dumps(rows))
    data = load(tmp_path)
    assert len(data.test) == 110
    assert data.train == ()


def test_generated_answers_are_right() -> None:
    data = generated_instructions.generate(900, 100)
    assert (len(data.train), len(data.test)) == (900, 100)
    questions = [one.messages[0].content for one in (*data.train, *data.test)]
    assert len(set(questions)) == 1000
    for one in (*data.train, *data.test):
        question, answer = (message.content for message in one.messages)
        assert one.preference is not None
        assert one.preference.chosen == answer != one.preference.rejected
        if question.startswith("Add"):
            a, b = (int(word.strip(".")) for word in question.split() if word.strip(".").isdigit())
            assert answer == f"{a} + {b} = {a + b}."
        if "backwards" in question:
            assert answer[::-1] in question
