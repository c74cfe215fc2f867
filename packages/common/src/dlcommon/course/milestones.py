"""The plan's five milestones: what each demands, and whether it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from dlcommon.course.plan import PHASES, lesson_key
from dlcommon.course.progress import LessonProgress
from dlcommon.course.projects import Project
from dlcommon.runtime.localization import LocalizedText


@dataclass(frozen=True)
class Demand:
    """States one requirement of a milestone, with the lessons and projects that show that it is met."""

    text: LocalizedText
    lessons: tuple[str, ...] = ()
    """Keys (`05/07`, `05/*`) of lessons that must be passed."""
    projects: tuple[int, ...] = ()
    """Phases whose project must be trained."""


@dataclass(frozen=True)
class Milestone:
    week: int
    title: LocalizedText
    phases: tuple[int, int]
    """First and last of those that must be complete: all their lessons passed."""
    demands: tuple[Demand, ...]


@dataclass(frozen=True)
class Standing:
    """Tells how much of a demand or a milestone is met."""

    lessons: tuple[str, ...]
    """Names of the lessons that it demands."""
    passed: int
    """How many of them are passed."""
    projects: tuple[Project, ...]
    """Those that it demands."""

    @property
    def holds(self) -> bool:
        return self.passed == len(self.lessons) and all(project.done for project in self.projects)


_PROJECT_PHASES = tuple(phase.number for phase in PHASES if phase.project)

MILESTONES = (
    Milestone(
        4,
        LocalizedText("After week 4 (phases 1-3 complete)", "第 4 周后（Phase 1-3 完成）"),
        (1, 3),
        (
            Demand(LocalizedText("Fluent in NumPy and pandas", "NumPy/Pandas 熟练操作"), ("01/0[1-5]",)),
            Demand(
                LocalizedText("Understand gradient descent and backpropagation", "理解梯度下降、反向传播原理"),
                ("02/0[345]", "03/03"),
            ),
            Demand(LocalizedText("Can write basic PyTorch models alone", "PyTorch 基础模型能独立实现"), ("03/*",)),
            Demand(LocalizedText("MNIST classification project done", "完成 MNIST 分类项目"), projects=(3,)),
        ),
    ),
    Milestone(
        8,
        LocalizedText("After week 8 (phases 5-6 complete)", "第 8 周后（Phase 5-6 完成）"),
        (5, 6),
        (
            Demand(
                LocalizedText("Understand and can write the classic CNN architectures", "CNN 经典架构理解并能实现"),
                ("05/*",),
            ),
            Demand(LocalizedText("Master sequence modelling with RNN and LSTM", "RNN/LSTM 序列建模掌握"), ("06/*",)),
            Demand(LocalizedText("CIFAR-10 classification project done", "完成 CIFAR-10 分类项目"), projects=(5,)),
            Demand(LocalizedText("Text generation project done", "完成文本生成项目"), projects=(6,)),
        ),
    ),
    Milestone(
        12,
        LocalizedText("After week 12 (phases 7-8 complete)", "第 12 周后（Phase 7-8 完成）"),
        (7, 8),
        (
            Demand(LocalizedText("Understand the Transformer in depth", "Transformer 架构深入理解"), ("07/0[1-6]",)),
            Demand(
                LocalizedText("Can fine-tune BERT and GPT models", "能够微调 BERT/GPT 模型"), ("07/0[789]", "07/10")
            ),
            Demand(LocalizedText("Master GANs, VAEs and diffusion", "GAN/VAE/Diffusion 原理掌握"), ("08/*",)),
            Demand(LocalizedText("Machine translation project done", "完成机器翻译项目"), projects=(7,)),
        ),
    ),
    Milestone(
        18,
        LocalizedText("After week 18 (phases 9-11 complete)", "第 18 周后（Phase 9-11 完成）"),
        (9, 11),
        (
            Demand(LocalizedText("Master training techniques as industry uses them", "掌握工业级训练技巧"), ("09/*",)),
            Demand(
                LocalizedText("Can do detection and segmentation alone", "CV 核心任务（检测、分割）能独立完成"),
                ("10/0[1-6]",),
            ),
            Demand(
                LocalizedText("Can do NLP tasks with pretrained models", "NLP 任务能使用预训练模型完成"), ("11/0[3-8]",)
            ),
            Demand(
                LocalizedText("Object detection and sentiment analysis projects done", "完成目标检测和情感分析项目"),
                projects=(10, 11),
            ),
        ),
    ),
    Milestone(
        24,
        LocalizedText("After week 24 (all complete)", "第 24 周后（全部完成）"),
        (1, 12),
        (
            Demand(LocalizedText("Understand how large models are trained", "理解大模型训练流程"), ("12/0[1-6]",)),
            Demand(LocalizedText("Can fine-tune parameter-efficiently", "能够进行参数高效微调"), ("11/08", "12/05")),
            Demand(
                LocalizedText("Can design deep learning systems alone", "具备独立设计深度学习系统的能力"),
                projects=_PROJECT_PHASES,
            ),
            Demand(LocalizedText("LLM fine-tuning project done", "完成 LLM 微调项目"), projects=(12,)),
        ),
    ),
)


def standing_of_demand(
    demand: Demand, lessons: Mapping[str, LessonProgress], projects: Mapping[int, Project]
) -> Standing:
    """Compares a demand with the lessons passed (by lesson name) and the projects trained (by phase)."""
    names = [name for phase in PHASES for name in phase.names]
    wanted = [name for name in names if any(fnmatch(lesson_key(name), key) for key in demand.lessons)]
    return _standing(wanted, lessons, [projects[phase] for phase in demand.projects])


def standing_of_milestone(
    milestone: Milestone, lessons: Mapping[str, LessonProgress], projects: Mapping[int, Project]
) -> Standing:
    """Compares a milestone, its demands and all lessons of its phases, with the lessons passed and projects trained."""
    first, last = milestone.phases
    demands = [standing_of_demand(demand, lessons, projects) for demand in milestone.demands]
    names = [name for phase in PHASES if first <= phase.number <= last for name in phase.names]
    wanted = [*names, *(name for standing in demands for name in standing.lessons)]
    trained = {project.phase.number: project for standing in demands for project in standing.projects}
    return _standing(wanted, lessons, list(trained.values()))


def _standing(names: list[str], lessons: Mapping[str, LessonProgress], projects: list[Project]) -> Standing:
    wanted = tuple(dict.fromkeys(names))
    passed = sum(name in lessons and lessons[name].state == "passed" for name in wanted)
    return Standing(wanted, passed, tuple(projects))
