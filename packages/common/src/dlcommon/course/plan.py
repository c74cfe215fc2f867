"""The learning plan: twelve phases in 22 weeks, 108 lessons, in the order and the words of its progress table.

The order of the course is data; modules are named after what they implement.
"""

from dataclasses import dataclass

from dlcommon.runtime.localization import LocalizedText


@dataclass(frozen=True)
class Phase:
    number: int
    weeks: tuple[int, int]
    """First and last."""
    slug: str
    title: LocalizedText
    project: LocalizedText | None
    """What the table's project column says; a capstone names the phase that it ends (`Capstone.phase`)."""
    lessons: tuple[str, ...]
    """File names without `.py`, in order; those that are not written yet have no file."""
    goal: tuple[str, float] | None = None
    """Metric and value that the plan demands of the project."""
    lesson_projects: tuple[tuple[LocalizedText, str], ...] = ()
    """The plan's further projects, each with the lesson that does it."""

    @property
    def folder(self) -> str:
        return f"{self.number:02d}-{self.slug}"

    @property
    def count(self) -> int:
        """How many lessons the plan holds."""
        return len(self.lessons)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all its lessons, such as `05-cnn/07-resnet`."""
        return tuple(f"{self.folder}/{lesson}" for lesson in self.lessons)


def _numbered(*slugs: str) -> tuple[str, ...]:
    return tuple(f"{number:02d}-{slug}" for number, slug in enumerate(slugs, start=1))


PHASES = (
    Phase(
        1, (1, 1), "data-science", LocalizedText("Python data science", "Python 数据科学基础"),
        LocalizedText("Exploratory data analysis", "探索性数据分析"),
        _numbered(
            "numpy-basics", "numpy-operations", "numpy-linear-algebra", "pandas-basics", "pandas-preprocessing",
            "matplotlib-basics", "visualization-advanced",
        ),
    ),
    Phase(
        2, (2, 3), "mathematics", LocalizedText("Mathematics of deep learning", "深度学习数学基础"), None,
        _numbered(
            "vectors-matrices", "eigenvalue-svd", "derivatives-gradients", "chain-rule", "optimization-basics",
            "probability-basics", "entropy-kl-divergence",
        ),
    ),
    Phase(
        3, (4, 4), "pytorch", LocalizedText("PyTorch core skills", "PyTorch 核心技能"),
        LocalizedText("MNIST classification", "MNIST 分类"),
        _numbered(
            "tensor-basics", "tensor-operations", "tensor-autograd", "nn-module", "loss-functions", "optimizers",
            "dataset-dataloader", "data-augmentation", "training-loop", "model-save-load",
        ),
    ),
    Phase(
        4, (5, 5), "neural-networks", LocalizedText("Neural networks", "神经网络基础"),
        LocalizedText("House prices", "房价预测"),
        _numbered(
            "perceptron", "mlp-basic", "forward-backward", "activation-functions", "activation-comparison", "dropout",
            "batch-normalization", "weight-regularization", "weight-init",
        ),
    ),
    Phase(
        5, (6, 7), "cnn", LocalizedText("Convolutional networks", "卷积神经网络 CNN"),
        LocalizedText("CIFAR-10", "CIFAR-10"),
        _numbered(
            "convolution-basics", "pooling-layers", "receptive-field", "lenet", "alexnet", "vggnet", "resnet",
            "resnet-variants", "mobilenet", "efficientnet", "feature-visualization", "grad-cam",
        ),
        goal=("accuracy", 0.90),
    ),
    Phase(
        6, (8, 9), "rnn", LocalizedText("Recurrent networks", "循环神经网络 RNN/LSTM"),
        LocalizedText("Text generation", "文本生成"),
        _numbered(
            "rnn-basics", "bptt", "vanishing-gradient", "lstm", "gru", "bidirectional", "seq2seq", "attention-basic",
            "time-series",
        ),
        lesson_projects=((LocalizedText("Stock forecasting", "股票预测"), "06/09"),),
    ),
    Phase(
        7, (10, 12), "transformer", LocalizedText("Attention and Transformer", "注意力机制与 Transformer"),
        LocalizedText("Machine translation", "机器翻译"),
        _numbered(
            "self-attention", "multi-head-attention", "positional-encoding", "transformer-encoder",
            "transformer-decoder", "transformer-full", "bert-architecture", "bert-finetuning", "gpt-architecture",
            "gpt-generation",
        ),
        lesson_projects=((LocalizedText("Text classification", "文本分类"), "07/08"),),
    ),
    Phase(
        8, (13, 14), "generative", LocalizedText("Generative models", "生成模型"),
        LocalizedText("Image generation", "图像生成"),
        _numbered(
            "gan-basics", "dcgan", "wgan", "autoencoder", "vae", "diffusion-theory", "diffusion-implementation",
            "stable-diffusion-intro",
        ),
    ),
    Phase(
        9, (15, 15), "training", LocalizedText("Training and optimization", "训练技巧与优化"), None,
        _numbered(
            "sgd-momentum", "adam-variants", "lr-schedulers", "gradient-clipping", "mixed-precision",
            "gradient-accumulation", "data-parallel", "distributed-training", "hyperparameter-tuning",
            "optuna-integration",
        ),
    ),
    Phase(
        10, (16, 17), "vision", LocalizedText("Computer vision", "计算机视觉应用"),
        LocalizedText("Object detection", "目标检测"),
        _numbered(
            "detection-basics", "yolo-v8", "rcnn-family", "semantic-segmentation", "unet", "instance-segmentation",
            "pose-estimation", "face-recognition",
        ),
    ),
    Phase(
        11, (18, 19), "nlp", LocalizedText("Natural language processing", "自然语言处理 NLP"),
        LocalizedText("Sentiment analysis", "情感分析"),
        _numbered(
            "word2vec", "embeddings-advanced", "text-classification", "ner", "question-answering",
            "huggingface-basics", "transformer-finetuning", "peft-lora",
        ),
    ),
    Phase(
        12, (20, 22), "llm", LocalizedText("Large language models", "大模型与前沿技术"),
        LocalizedText("LLM fine-tuning", "LLM 微调"),
        _numbered(
            "llm-architecture", "tokenization-advanced", "flash-attention", "pre-training-basics",
            "instruction-tuning", "rlhf-basics", "quantization", "inference-optimization", "multimodal",
            "agents-tools",
        ),
    ),
)  # fmt: skip


def lesson_key(name: str) -> str:
    """Returns the key that users type, such as `05/07`, for a lesson's name, such as `05-cnn/07-resnet`."""
    phase, _, lesson = name.partition("/")
    return f"{phase[:2]}/{lesson[:2]}"
