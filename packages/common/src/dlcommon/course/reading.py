"""The plan's reading list: books and courses to tick off, and papers by phase, each with the lesson that re-creates
it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.localization import LocalizedText


@dataclass(frozen=True)
class Reading:
    name: str
    """What it is ticked off by."""
    title: LocalizedText
    address: str


@dataclass(frozen=True)
class Paper(Reading):
    phase: int
    stars: Literal[3, 4, 5]
    """How much of a must it is, out of five."""
    lesson: str
    """The key of the lesson that re-creates it."""


BOOKS = (
    Reading(
        "deep-learning",
        LocalizedText("Deep Learning (Goodfellow, Bengio, Courville)", "《深度学习》(花书) - Goodfellow"),
        "https://www.deeplearningbook.org",
    ),
    Reading("d2l", LocalizedText("Dive into Deep Learning (Mu Li)", "《动手学深度学习》 - 李沐"), "https://zh.d2l.ai"),
    Reading(
        "pytorch-book",
        LocalizedText("Deep Learning with PyTorch", "《PyTorch 深度学习实战》"),
        "https://www.manning.com/books/deep-learning-with-pytorch",
    ),
)

COURSES = (
    Reading(
        "cs231n",
        LocalizedText("Stanford CS231n: computer vision", "Stanford CS231n：计算机视觉"),
        "https://cs231n.stanford.edu",
    ),
    Reading(
        "cs224n",
        LocalizedText("Stanford CS224n: natural language processing", "Stanford CS224n：自然语言处理"),
        "https://web.stanford.edu/class/cs224n",
    ),
    Reading(
        "hungyi-lee",
        LocalizedText("Hung-yi Lee, Machine Learning: first steps in deep learning", "李宏毅机器学习：深度学习入门"),
        "https://speech.ee.ntu.edu.tw/~hylee/ml/2021-spring.php",
    ),
    Reading(
        "d2l-course",
        LocalizedText("Mu Li, Dive into Deep Learning: PyTorch practice", "李沐 动手学深度学习：PyTorch 实践"),
        "https://courses.d2l.ai/zh-v2",
    ),
)


def _paper(name: str, title: str, address: str, phase: int, stars: Literal[3, 4, 5], lesson: str) -> Paper:
    return Paper(name, LocalizedText(title, title), address, phase, stars, lesson)


_ARXIV = "https://arxiv.org/abs/"
_OPENAI = "https://cdn.openai.com"

PAPERS = (
    _paper(
        "alexnet", "AlexNet", "https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
        5, 3, "05/05",
    ),
    _paper("resnet", "ResNet", f"{_ARXIV}1512.03385", 5, 3, "05/07"),
    _paper("efficientnet", "EfficientNet", f"{_ARXIV}1905.11946", 5, 3, "05/10"),
    _paper("lstm", "LSTM", "https://doi.org/10.1162/neco.1997.9.8.1735", 6, 3, "06/04"),
    _paper("seq2seq-attention", "Seq2Seq with Attention", f"{_ARXIV}1409.0473", 6, 3, "06/08"),
    _paper("attention", "Attention Is All You Need", f"{_ARXIV}1706.03762", 7, 5, "07/06"),
    _paper("bert", "BERT", f"{_ARXIV}1810.04805", 7, 5, "07/07"),
    _paper(
        "gpt", "GPT", f"{_OPENAI}/research-covers/language-unsupervised/language_understanding_paper.pdf",
        7, 5, "07/09",
    ),
    _paper(
        "gpt-2", "GPT-2",
        f"{_OPENAI}/better-language-models/language_models_are_unsupervised_multitask_learners.pdf", 7, 5, "07/09",
    ),
    _paper("gpt-3", "GPT-3", f"{_ARXIV}2005.14165", 7, 5, "07/10"),
    _paper("gan", "GAN", f"{_ARXIV}1406.2661", 8, 4, "08/01"),
    _paper("vae", "VAE", f"{_ARXIV}1312.6114", 8, 4, "08/05"),
    _paper("ddpm", "DDPM", f"{_ARXIV}2006.11239", 8, 4, "08/07"),
    _paper("lora", "LoRA", f"{_ARXIV}2106.09685", 12, 4, "11/08"),
    _paper("flash-attention", "Flash Attention", f"{_ARXIV}2205.14135", 12, 4, "12/03"),
)  # fmt: skip

READINGS: dict[str, Reading] = {reading.name: reading for reading in (*BOOKS, *COURSES, *PAPERS)}


def check_names(names: Iterable[str]) -> None:
    """Raises `UsageError` where a name is not on the list; says which are."""
    if unknown := [name for name in names if name not in READINGS]:
        raise UsageError(f"{', '.join(unknown)}: not on the reading list, which holds {', '.join(READINGS)}")
