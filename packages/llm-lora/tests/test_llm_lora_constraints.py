"""Each constraint accepts answers that meet it and rejects those that do not; scores are those of IFEval."""

import json
from collections.abc import Sequence

import pytest
from llm_lora import constraints as c
from llm_lora.constraints import Constraint, follows, follows_loosely, loose_variants
from llm_lora.instruction_checks import COUNT, PROMPTS, CheckedPrompt, make_prompts, score_instructions

CASES: list[tuple[Constraint, Sequence[str], Sequence[str]]] = [
    (c.fewer_words(4), ["One two three.", "It's 3."], ["one two three four", "a-b-c-d"]),
    (c.more_words(4), ["one two three four"], ["One, two; three."]),
    (c.sentences(2), ["It rains. We stay in.", "Really? Yes!"], ["It rains.", "One. Two. Three.", "It is 3.50."]),
    (c.sentences(1), ["Dr. no more than one sentence"], ["One.\nTwo."]),
    (c.bullets(2), ["* one\n* two", "Here:\n- one\n- two\n", "• one\n  • two"], ["* a", "* a\n* b\n* c", "*a*\n*b*"]),
    (c.paragraphs(2), ["One.\n\nTwo.", "One\n still\n \n\nTwo\n\n"], ["One.\nTwo.", "1\n\n2\n\n3"]),
    (c.json_object("a"), ['{"a": 1}', '```json\n{"a": [1, 2]}\n```'], ['{"b": 1}', "[1]", "a: 1", 'Sure: {"a": 1}']),
    (c.includes("sun"), ["The Sun shines."], ["A sunny day."]),
    (c.avoids("sun"), ["A sunny day."], ["The SUN."]),
    (c.repeats("sun", 2), ["Sun, sun!"], ["Sun and sunny"]),
    (c.letter("w", 3), ["Wow, wet"], ["wow"]),
    (c.lower_case(), ["all lower, 123."], ["Not this"]),
    (c.upper_case(), ["ALL UPPER, 123."], ["ALl", "123"]),
    (c.no_comma(), ["none here."], ["one, here"]),
    (c.begins_with("Well"), ["Well, yes", "  Well."], ["well", "Oh. Well"]),
    (c.ends_with("The end."), ["That was it. The end.", '"… the end."\n'], ["The end. Really."]),
    (c.question_mark(), ["Is it?", "Yes. Or no? \n"], ["Is it? Yes."]),
    (c.quoted(), ['"Yes."', ' "a" and "b" '], ["Yes", '"', '"open']),
    (c.title(), ["<<Rain>>\nIt rains.", "x <<My day>>"], ["<Rain>", "<< >>", "<<\n>>"]),
    (c.postscript(), ["Hi.\nP.S. Bye", "hi p.s. x", "P. S. x"], ["PS: bye", "maps.s"]),
    (c.highlights(2), ["*one* and *two*", "**one** and *two*"], ["*one*", "2 * 3 * 4", "* one\n* two"]),
    (c.placeholders(2), ["Dear [name], see you at [place]."], ["Dear [name]", "[] []"]),
    (c.digits(), ["It has 4 legs"], ["It has four legs"]),
    (c.english_letters(), ["Plain – text… 1"], ["naïve", "你好", "123"]),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "good", "bad"), CASES, ids=lambda value: getattr(value, "instruction", ""))
def test_a_constraint_tells_good_answers_from_bad_ones(
    constraint: Constraint, good: Sequence[str], bad: Sequence[str]
) -> None:
    assert [follows(constraint, answer) for answer in good] == [True] * len(good)
    assert [follows(constraint, answer) for answer in bad] == [False] * len(bad)
    assert not follows(constraint, " \n"), "an empty answer meets nothing"


def test_loose_checks_forgive_a_greeting_a_farewell_and_markdown() -> None:
    lower = c.lower_case()
    for answer in ("Sure, here it is:\nall lower", "all lower\nHope it helps!", "Sure:\nall lower\nBye!"):
        assert not follows(lower, answer)
        assert follows_loosely(lower, answer)
    assert follows_loosely(c.begins_with("Well"), "**Well**, yes")
    assert not follows_loosely(lower, "Sure:\nNot This\nBye!")
    assert not follows_loosely(c.avoids("x"), ""), "an empty answer stays a failure"
    assert len(loose_variants("a\nb\nc")) == 8
    assert loose_variants("a\n*b*\nc")[-1] == "b"


def test_the_prompts_are_fixed_and_ask_for_every_kind_of_constraint() -> None:
    assert len(PROMPTS) == COUNT == len({prompt.text for prompt in PROMPTS})
    assert make_prompts() == PROMPTS
    asked = [one for prompt in PROMPTS for one in prompt.constraints]
    known = {constraint.kind for constraint, _, _ in CASES}
    assert {one.kind for one in asked} == known
    for prompt in PROMPTS:
        assert len({one.kind for one in prompt.constraints}) == len(prompt.constraints)
        assert all(one.instruction in prompt.text for one in prompt.constraints)


def test_accuracies_count_prompts_and_constraints() -> None:
    prompts = (
        CheckedPrompt("a", (c.lower_case(), c.no_comma())),
        CheckedPrompt("b", (c.digits(),)),
        CheckedPrompt("c", (c.lower_case(),)),
    )
    scores = score_instructions(["one, two", "7", "Sure:\nyes"], prompts)
    assert scores.metrics == {
        "prompt_strict": 1 / 3,
        "prompt_loose": 2 / 3,
        "instruction_strict": 2 / 4,
        "instruction_loose": 3 / 4,
    }
    assert scores.followed == (False, True, False)
    for name, (low, high) in scores.intervals.items():
        assert 0 <= low < scores.metrics[name] < high <= 1
    with pytest.raises(ValueError, match="2 answers to 3 prompts"):
        score_instructions(["a", "b"], prompts)
    assert json.dumps(scores.metrics)
