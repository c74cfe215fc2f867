"""The learning plan: twelve phases in 24 weeks, 108 lessons. The order of the course is data; modules are named
after what they implement."""

from dataclasses import dataclass

from dlcommon.runtime.localization import LocalizedText


@dataclass(frozen=True)
class Phase:
    number: int
    weeks: tuple[int, int]
    """First and last."""
    slug: str
    title: LocalizedText
    count: int
    """How many lessons the plan holds."""
    projects: tuple[str, ...]
    """Capstones that end the phase."""
    lessons: tuple[str, ...] = ()
    """File names without `.py`, in order, where the plan has fixed them."""

    @property
    def folder(self) -> str:
        return f"{self.number:02d}-{self.slug}"


def _numbered(*slugs: str) -> tuple[str, ...]:
    return tuple(f"{number:02d}-{slug}" for number, slug in enumerate(slugs, start=1))


PHASES = (
    Phase(
        1, (1, 1), "data-science", LocalizedText("Python data science", "Python 数据科学"), 7, ("eda-titanic",),
        _numbered(
            "numpy-basics", "numpy-operations", "numpy-linear-algebra", "pandas-basics", "pandas-preprocessing",
            "matplotlib-basics", "visualization-advanced",
        ),
    ),
    Phase(
        2, (2, 2), "mathematics", LocalizedText("Mathematics", "数学基础"), 7, (),
        _numbered(
            "vectors-matrices", "eigenvalue-svd", "derivatives-gradients", "chain-rule", "optimization-basics",
            "probability-basics", "entropy-kl-divergence",
        ),
    ),
    Phase(
        3, (3, 3), "pytorch", LocalizedText("PyTorch core", "PyTorch 核心"), 10, ("mnist-classifier",),
        _numbered(
            "tensor-basics", "tensor-operations", "tensor-autograd", "nn-module", "loss-functions", "optimizers",
            "dataset-dataloader", "data-augmentation", "training-loop", "model-save-load",
        ),
    ),
    Phase(
        4, (4, 4), "neural-networks", LocalizedText("Neural networks", "神经网络"), 9, ("house-prices",),
        _numbered(
            "perceptron", "mlp-basic", "forward-backward", "activation-functions", "activation-comparison", "dropout",
            "batch-normalization", "weight-regularization", "weight-init",
        ),
    ),
    Phase(
        5, (5, 6), "cnn", LocalizedText("Convolutional networks", "卷积神经网络"), 12, ("cifar10-resnet",),
        _numbered(
            "convolution-basics", "pooling-layers", "receptive-field", "lenet", "alexnet", "vggnet", "resnet",
            "resnet-variants", "mobilenet", "efficientnet", "feature-visualization", "grad-cam",
        ),
    ),
    Phase(
        6, (7, 8), "rnn", LocalizedText("Recurrent networks", "循环神经网络"), 9, ("char-lm",),
        _numbered(
            "rnn-basics", "bptt", "vanishing-gradient", "lstm", "gru", "bidirectional", "seq2seq", "attention-basic",
            "time-series",
        ),
    ),
    Phase(7, (9, 11), "transformer", LocalizedText("Transformer", "Transformer"), 10, ("translator",)),
    Phase(8, (12, 14), "generative", LocalizedText("Generative models", "生成模型"), 8, ("face-gan",)),
    Phase(9, (15, 16), "training", LocalizedText("Training techniques", "训练技巧"), 10, ()),
    Phase(10, (17, 19), "vision", LocalizedText("Computer vision", "计算机视觉"), 8, ("yolo-detector",)),
    Phase(11, (20, 21), "nlp", LocalizedText("Natural language processing", "自然语言处理"), 8, ("sentiment-bert",)),
    Phase(12, (22, 24), "llm", LocalizedText("Large language models", "大语言模型"), 10, ("llm-lora",)),
)  # fmt: skip
