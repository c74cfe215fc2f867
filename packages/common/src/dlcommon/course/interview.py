"""Interview questions: those of the lessons, asked again when they are due, and rendered as a document."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from dlcommon.course import catalogue
from dlcommon.course.catalogue import Lesson
from dlcommon.course.cells import Language, readable_markdown, sections
from dlcommon.course.plan import PHASES
from dlcommon.course.progress import load, record_interview
from dlcommon.course.viewer import show_code, show_markdown
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.output import Output


@dataclass(frozen=True)
class InterviewQuestion:
    key: str
    """`03-pytorch/09-training-loop#2`: stays the same when the wording is improved."""
    lesson: Lesson
    text: LocalizedText
    answer: LocalizedText
    code: str
    """Shows the answer with what the lesson has computed."""


def interview_questions(lessons: list[Lesson]) -> list[InterviewQuestion]:
    """Collects the interview questions of these lessons, in order."""
    found = []
    for lesson in lessons:
        interview = [section for section in sections(lesson.cells()) if section.english == "Interview"]
        parts = [part for section in interview for part in sections(section.cells, level=3)]
        for number, part in enumerate(parts, start=1):
            answer = LocalizedText(*(readable_markdown(part.prose(each), each) for each in ("en", "zh")))
            text = LocalizedText(part.english, part.chinese)
            found.append(InterviewQuestion(f"{lesson.name}#{number}", lesson, text, answer, part.code()))
    return found


def due_questions(questions: list[InterviewQuestion], now: datetime | None = None) -> list[InterviewQuestion]:
    """Selects the questions that are due: first those last answered wrong, then the oldest due dates, then new ones."""
    known, now = load().interview, now or datetime.now(UTC)

    def order(question: InterviewQuestion) -> tuple[int, datetime]:
        answer = known.get(question.key)
        if answer is None:
            return 2, now
        return (0 if answer.streak == 0 else 1), answer.due

    due = [question for question in questions if question.key not in known or known[question.key].due <= now]
    return sorted(due, key=order)


def interview(
    questions: list[InterviewQuestion], count: int, everything: bool, language: Language, output: Output
) -> int:
    """Asks questions, shows the answers, and records which were known, until `q` or the end of the input.

    Raises:
        UserError: the lessons have no questions.
    """
    if not questions:
        raise UserError("these lessons hold no interview questions yet")
    chosen = (questions if everything else due_questions(questions))[:count]
    if not chosen:
        next_due = min(load().interview[question.key].due for question in questions)
        output.say(f"nothing is due before {next_due:%Y-%m-%d}; --all asks again · 目前没有到期的题目")

    console, right, asked = Console(stderr=output.as_json), 0, 0
    for number, question in enumerate(chosen, start=1):
        console.print(f"\n[bold]{number}/{len(chosen)}[/bold]  {question.lesson.key}", highlight=False)
        console.print(_in(question.text, language), style="bold", markup=False, highlight=False)
        if _typed("Enter: the answer · 看答案, q: stop · 结束 ", output) in (None, "q"):
            break
        _show_answer(question, language, console)
        typed = _typed("Did you know it? 答对了吗？ y / n / q ", output)
        while typed not in (None, "y", "n", "q"):
            typed = _typed("y / n / q ", output)
        if typed in (None, "q"):
            break
        due = record_interview(question.key, typed == "y")
        right, asked = right + (typed == "y"), asked + 1
        output.say(f"  again · 下次: {due:%Y-%m-%d}" if typed == "y" else "  it comes again · 会再问")
    output.say(f"\n{right} of {asked} known · 答对 {right} / {asked}")
    output.result({"asked": asked, "right": right, "due": len(due_questions(questions))})
    return 0


def _typed(prompt: str, output: Output) -> str | None:
    output.say()
    print(f"  {prompt}", end="", flush=True) if not output.as_json else None
    try:
        return input().strip().lower()
    except EOFError:
        print()
        return None


def _in(text: LocalizedText, language: Language) -> str:
    return {"en": text.en, "zh": text.zh, "both": f"{text.en}\n{text.zh}"}[language]


def _show_answer(question: InterviewQuestion, language: Language, console: "Console") -> None:

    if language != "zh":
        show_markdown(question.answer.en, console)
    if language != "en":
        show_markdown(question.answer.zh, console)
    show_code(question.code, console)
    console.print(f"  uv run lesson open {question.lesson.key}", highlight=False)


def render(questions: list[InterviewQuestion], language: Language = "both") -> str:
    """Renders `docs/INTERVIEW.md`: all questions with their answers, by phase and lesson.

    Args:
        questions: in the lessons' order.
        language: whose answers are given.
    """
    english = [
        "Rendered from the lessons by `uv run lesson render`; `uv run lesson interview` asks them, and asks again what",
        "was not known.",
    ]
    chinese = "由课程生成；`uv run lesson interview` 会提问，答错的会再次出现。"
    introduction = {"en": english, "zh": [chinese], "both": [*english[:1], f"{english[1]} {chinese}"]}
    lines = ["# Interview questions · 面试题", "", *introduction[language]]
    lesson_word = {"en": "Lesson", "zh": "课程", "both": "Lesson · 课程"}[language]
    for phase in PHASES:
        of_phase = [question for question in questions if question.lesson.phase == phase]
        if of_phase:
            lines += ["", f"## {phase.number} · {phase.title}"]
        for lesson in dict.fromkeys(question.lesson for question in of_phase):
            path = f"../packages/common/lessons/{lesson.name}.py"
            lines += ["", f"### {lesson.key} {lesson.title}", "", f"{lesson_word}: [{lesson.name}]({path})"]
            for question in (each for each in of_phase if each.lesson == lesson):
                answers = {"en": [question.answer.en], "zh": [question.answer.zh]}
                chosen = answers[language] if language != "both" else [*answers["en"], "", *answers["zh"]]
                lines += ["", f"#### {question.text}", "", *chosen]
                lines += ["", "```py", question.code, "```"]  # its lesson runs it, not the documents' test
    return "\n".join(lines) + "\n"


def interview_document() -> Path:
    """Returns the path of `docs/INTERVIEW.md` in the checkout."""
    return catalogue.lessons_folder().parents[2] / "docs" / "INTERVIEW.md"
