# %% [markdown]
# # Multimodal models · 多模态模型

# %% [markdown] lang="en"
# After this lesson you can train pictures and texts into one space as CLIP does, say what temperature and batch size do
# there, classify pictures without a single labelled one, and let a language model that has only ever read text answer
# questions about a picture. You need convolutional networks (05), cross-entropy (03/05), metric learning (10/08) and
# the Llama of 12/01.

# %% [markdown] lang="zh"
# 学完本课，你能像 CLIP 那样把图像和文字训练到同一个空间，能说明温度和批量大小在其中的作用，能不用任何标注图像就给图像分类，
# 还能让一个只读过文字的语言模型回答关于图像的问题。
# 先修：卷积网络（05）、交叉熵（03/05）、度量学习（10/08）和 12/01 的 Llama。

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.llm.contrastive import DualEncoder, class_embeddings, clip_loss, contrastive_logits, siglip_loss
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.visual_projector import VisionLanguageModel, VisualProjector, insert_image_embeddings
from dlcommon.nlp.retrieval import mean_reciprocal_rank, ranks, recall_at_k
from dlcommon.runtime.data.captioned_shapes import COLORS, SHAPES, all_contents, caption, draw_captioned_shapes
from dlcommon.transformer.encoder import TransformerEncoder
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A classifier knows the classes that it was trained on. Tomorrow's question is about another one, and a thousand
# labelled pictures of it would be needed first. Yet the web is full of pictures with a sentence beside them, which
# nobody had to label. The sentence names no class; it only belongs to this picture rather than to another. Is that
# enough to learn from?
#
# And a language model can reason about a red circle, but it has never seen one: it reads embeddings of tokens, and a
# picture has none. What would a picture have to be turned into, for a finished language model to read it?

# %% [markdown] lang="zh"
# 分类器只认识训练过的类别。明天要问的是另一个类别，就得先准备一千张标注图像。
# 可是网上到处是旁边配有一句话的图像，不需要谁去标注。这句话没有说出类别，只是属于这张图而不属于别的图。这够用来学习吗？
#
# 语言模型能谈论红色的圆，却从没见过：它读的是词元的嵌入，而图像没有词元。要把图像变成什么，一个现成的语言模型才能读懂？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Two pictures and their two captions as vectors of length 1: pictures $(1, 0)$ and $(0.6, 0.8)$, texts $(0.8, 0.6)$ and
# $(0, 1)$. The cosines of picture 1 are $0.8, 0$, of picture 2 $0.96, 0.8$. The true pairs are on the diagonal; picture
# 2 is nearer to the wrong text.
#
# Divided by a temperature of 0.2, the logits are $4, 0$ and $4.8, 4$. *Pictures choose a text*, along the rows:
# $-\ln \frac{e^4}{e^4 + e^0} = 0.018$ and $-\ln \frac{e^4}{e^{4.8} + e^4} = 1.171$. *Texts choose a picture*, along the
# columns: $-\ln \frac{e^4}{e^4 + e^{4.8}} = 1.171$ and $0.018$. The mean of the four is CLIP's loss, $0.595$. If all
# logits were equal it would be $\ln 2 = 0.693$.
#
# *SigLIP* asks of each of the four pairs by itself whether it is true. With a bias of $-3$ the logits are
# $1, -3, 1.8, 1$: $-\ln \sigma(1) = 0.313$ twice for the true ones, $-\ln \sigma(3) = 0.049$ and
# $-\ln \sigma(-1.8) = 1.953$ for the others. The sum over 2 pictures is $1.314$.
#
# *Zero-shot.* Prompts "a red circle" and "a red ring" have the embeddings $(0.8, 0.6)$ and $(0, 1)$. Picture 1 has
# cosine 0.8 with the first, 0 with the second: it is called a circle, though nothing was trained on the word "class".

# %% [markdown] lang="zh"
# 两张图和它们的两句描述，都是长度为 1 的向量：图 $(1, 0)$ 和 $(0.6, 0.8)$，文字 $(0.8, 0.6)$ 和 $(0, 1)$。
# 图 1 的余弦是 $0.8, 0$，图 2 的是 $0.96, 0.8$。真正的对在对角线上；图 2 离错误的文字更近。
#
# 除以温度 0.2，logits 是 $4, 0$ 和 $4.8, 4$。*图选文字*，按行：
# $-\ln \frac{e^4}{e^4 + e^0} = 0.018$，$-\ln \frac{e^4}{e^{4.8} + e^4} = 1.171$。
# *文字选图*，按列：$-\ln \frac{e^4}{e^4 + e^{4.8}} = 1.171$ 和 $0.018$。四个数的平均就是 CLIP 的损失 $0.595$。
# 若所有 logits 相等，它是 $\ln 2 = 0.693$。
#
# *SigLIP* 对四个对逐个问是真是假。加上偏置 $-3$，logits 是 $1, -3, 1.8, 1$：
# 真的两个各 $-\ln \sigma(1) = 0.313$，另外两个是 $-\ln \sigma(3) = 0.049$ 和 $-\ln \sigma(-1.8) = 1.953$。
# 总和除以 2 张图，得 $1.314$。
#
# *零样本*。提示 "a red circle" 和 "a red ring" 的嵌入是 $(0.8, 0.6)$ 和 $(0, 1)$。
# 图 1 与前者的余弦是 0.8，与后者是 0：判为圆，虽然从没有训练过“类别”这回事。

# %%
two_images = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
two_texts = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
by_hand = contrastive_logits(two_images, two_texts, scale=1 / 0.2)
by_hand_clip, by_hand_siglip = clip_loss(by_hand), siglip_loss(by_hand - 3)
table(["", "text 1", "text 2"], [(f"picture {n}", *row.tolist()) for n, row in enumerate(by_hand, start=1)])
print(f"  CLIP's loss {by_hand_clip:.3f}, SigLIP's {by_hand_siglip:.3f}")

drawing = Schematic(14.2, 4.9, "Above: CLIP. Below: its picture encoder, frozen, lets a language model see")
for name, x, y, text, kind, width in (
    ("texts", 1.0, 4.2, "texts", "data", 1.4),
    ("text encoder", 3.3, 4.2, "text encoder", "parameter", 1.9),
    ("text embeddings", 6.0, 4.2, "text\nembeddings", "data", 1.7),
    ("images", 1.0, 2.6, "pictures", "data", 1.4),
    ("image encoder", 3.3, 2.6, "picture encoder", "parameter", 1.9),
    ("image embeddings", 6.0, 2.6, "picture\nembeddings", "data", 1.7),
    ("cosines", 8.8, 3.4, "cosines / temperature\nof all pairs", "operation", 2.6),
    ("loss", 12.2, 3.4, "rows and columns:\nchoose the diagonal", "operation", 2.4),
    ("projector", 3.3, 0.9, "projector\n(trained)", "parameter", 1.9),
    ("soft", 6.0, 0.9, "5 embeddings\nlike words", "data", 1.7),
    ("llama", 8.8, 0.9, "Llama\n(frozen)", "parameter", 1.7),
    ("question", 10.9, 0.9, "what color is\nthe shape ?", "data", 1.7),
    ("answer", 13.2, 0.9, "red", "data", 1.0),
):
    drawing.box(name, x, y, text, kind, width, height=0.8)
for start, end in (
    ("texts", "text encoder"), ("text encoder", "text embeddings"), ("text embeddings", "cosines"),
    ("images", "image encoder"), ("image encoder", "image embeddings"), ("image embeddings", "cosines"),
    ("cosines", "loss"), ("image encoder", "projector"), ("projector", "soft"), ("soft", "llama"), ("question", "llama"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.arrow("llama", "answer", bend=-0.25)
show(drawing.figure, "parts")

# %% [markdown]
# ## Formula · 公式
#
# $$S_{ij} = s \, \frac{f(x_i)^\top g(y_j)}{\lVert f(x_i) \rVert \, \lVert g(y_j) \rVert}, \qquad s = e^{t}$$
#
# $$L_{\mathrm{CLIP}} = -\frac{1}{2N} \sum_{i=1}^{N} \left( \ln \frac{e^{S_{ii}}}{\sum_j e^{S_{ij}}} + \ln \frac{e^{S_{ii}}}{\sum_j e^{S_{ji}}} \right)$$
#
# $$L_{\mathrm{SigLIP}} = -\frac{1}{N} \sum_{i=1}^{N} \sum_{j=1}^{N} \ln \sigma\left( z_{ij} (S_{ij} + b) \right)$$
#
# $$\frac{\partial L_{\mathrm{CLIP}}}{\partial S_{ij}} = \frac{1}{2N} \left( P_{ij} + Q_{ij} - 2 \cdot 1_{i = j} \right)$$
#
# $$\hat c(x) = \arg\max_c \frac{f(x)^\top w_c}{\lVert f(x) \rVert}, \qquad w_c = \mathrm{normalize}\left( \frac1K \sum_{k=1}^{K} \frac{g(y_{ck})}{\lVert g(y_{ck}) \rVert} \right)$$
#
# $$p(a \mid x, q) = \mathrm{LM}\left( [\, W(h(x)),\; E(q) \,] \right)$$

# %% [markdown] lang="en"
# - $x_i, y_i$: a picture and its text; $f, g$: encoders, each with a projection to the common width,
#   `[batch, embedding_dim]`.
# - $S$: logits `[pictures, texts]`; $s$: the scale, learned as $t = \ln s$; its inverse is the temperature. CLIP starts
#   at 0.07 and lets $s$ not exceed 100 (Radford et al. 2021, section 2.5).
# - $N$: pairs in a batch; each picture has $N - 1$ wrong texts for free.
# - $P$: softmax of $S$ along rows; $Q$: along columns. The gradient pulls the true pair together and pushes a wrong one
#   apart in proportion to its probability: what is confused is pushed hardest.
# - $z_{ij}$: 1 for true pairs, −1 for others; $b$: a learned bias, −10 at the start since most pairs are false (Zhai et
#   al. 2023, section 3.2).
# - $w_c$: a class's vector, from $K$ prompts about it.
# - $h(x)$: features of the frozen picture encoder, `[positions, image_dim]`; $W$: the projector; $E$: the language
#   model's own embeddings; $q$: the question; $a$: the answer.

# %% [markdown] lang="zh"
# - $x_i, y_i$：一张图和它的文字；$f, g$：编码器，各带一个到共同宽度的投影，`[batch, embedding_dim]`。
# - $S$：logits，`[pictures, texts]`；$s$：缩放，以 $t = \ln s$ 学习，倒数就是温度。
#   CLIP 从 0.07 开始，并限制 $s$ 不超过 100（Radford 等 2021，第 2.5 节）。
# - $N$：一批里的对数；每张图白得 $N - 1$ 句错误的文字。
# - $P$：$S$ 按行的 softmax；$Q$：按列的。梯度把真对拉近，把错对按它的概率推开：越容易混淆的推得越狠。
# - $z_{ij}$：真对为 1，其余为 −1；$b$：学到的偏置，因为大多数对是假的，从 −10 开始（Zhai 等 2023，第 3.2 节）。
# - $w_c$：一个类别的向量，由关于它的 $K$ 句提示得到。
# - $h(x)$：冻结的图像编码器的特征，`[positions, image_dim]`；$W$：投影器；$E$：语言模型自己的嵌入；$q$：问题；$a$：回答。

# %% [markdown]
# ## Code · 代码

# %%
source(contrastive_logits)
source(clip_loss)
source(siglip_loss)
source(class_embeddings)
source(insert_image_embeddings)

# %% [markdown] lang="en"
# `clip_loss` gets one matrix `[pairs, pairs]` and uses it twice: a log-sum-exp over each row, over each column, and the
# diagonal. `siglip_loss` needs no sum over a row, so a machine can add up its block of the matrix without ever seeing
# the others. Both leave normalization and scale to `contrastive_logits`.
#
# `insert_image_embeddings` is how a picture enters a text: the text has placeholders, `<image>` five times, and
# `masked_scatter` overwrites their embeddings, `[batch, tokens, dim]`. The language model behind it is the `Llama` of
# 12/01, told to read embeddings instead of tokens; nothing in it knows about pictures.

# %% [markdown] lang="zh"
# `clip_loss` 拿到一个矩阵 `[pairs, pairs]`，用两次：每行一个 log-sum-exp，每列一个，再加对角线。
# `siglip_loss` 不需要对整行求和，所以一台机器可以只累加自己那一块，不必看到别的块。两者都把归一化和缩放交给 `contrastive_logits`。
#
# `insert_image_embeddings` 说明图像怎样进入文本：文本里有占位符，五个 `<image>`，
# `masked_scatter` 把它们的嵌入 `[batch, tokens, dim]` 换掉。后面的语言模型就是 12/01 的 `Llama`，
# 只是改读嵌入而不读词元；它内部没有任何东西知道图像。

# %% [markdown]
# ## Experiment: captions instead of labels · 实验：用描述代替标签

# %% [markdown] lang="en"
# Pictures of 16×16 pixels: a shape in one of six colors, on a ground of another. Captions say it in one of two orders:
# "a red circle on blue", "on blue a red circle". Of 150 combinations, 30 are kept out of the training: neither their
# pictures nor their captions are seen, only their words, in others.
#
# A small convolutional network and a Transformer of one layer, 100 updates with batches of 128. Then with batches of
# 32: once as before, with a learned temperature, and once with a temperature fixed at 1. Three seeds each. The test:
# each of 300 new pictures chooses one of all 150 captions.

# %% [markdown] lang="zh"
# 16×16 像素的图：六种颜色之一的形状，放在另一种颜色的底上。
# 描述有两种语序："a red circle on blue" 和 "on blue a red circle"。
# 150 种组合中有 30 种不参加训练：既没见过它们的图，也没见过它们的描述，只在别的描述里见过那些词。
#
# 一个小卷积网络加一层 Transformer，批量 128，更新 100 次；再用批量 32，一次照旧学习温度，一次把温度固定为 1。
# 各三个种子。测试：300 张新图各从全部 150 句描述中选一句。

# %%
quiz(
    "held out",
    en="Batch 128: in what share do pictures of never-trained combinations choose the right one of 150 captions?",
    zh="批量 128：没训练过的组合，图像从 150 句描述中选对的比例是多少？",
)
quiz(
    "temperature",
    en="A temperature of 1 instead of a learned one: what becomes of that accuracy on trained combinations?",
    zh="温度固定为 1 而不是学习：训练过的组合上的正确率会怎样？",
    choices={
        "same": "within a tenth of it · 相差不到十分之一",
        "half": "falls below two thirds · 降到三分之二以下",
        "chance": "falls to chance · 降到随机水平",
    },
)

# %%
SIZE, SEEDS, PAIRS = 16, (0, 1, 2), 4096
CONTENTS = all_contents()  # [150, 3]: color, shape, ground
HELD_OUT = np.array([(c + 2 * s + 3 * g) % 5 == 0 for c, s, g in CONTENTS])
WORDS = ("<image>", "a", "on", *COLORS, *SHAPES, "what", "color", "shape", "is", "the", "ground", "?")


def tokenize(texts: list[str]) -> torch.Tensor:
    """Numbers the words of texts of one length, [texts, words]."""
    return torch.tensor([[WORDS.index(word) for word in text.split()] for text in texts])


def draw(contents: np.ndarray, random: np.random.Generator) -> torch.Tensor:
    """Draws pictures in −1 … 1, [n, 3, 16, 16], at random places."""
    places = random.uniform((-0.25, -0.25, 0.5), (0.25, 0.25, 0.7), (len(contents), 3))
    return torch.from_numpy(draw_captioned_shapes(contents, places, SIZE) * 2 - 1)


random = np.random.default_rng(0)
train_rows = np.flatnonzero(~HELD_OUT)[random.integers(0, (~HELD_OUT).sum(), PAIRS)]
train_images = draw(CONTENTS[train_rows], random)
orders = random.random(PAIRS) < 0.5
train_texts = tokenize([caption(CONTENTS[row], bool(order)) for row, order in zip(train_rows, orders, strict=True)])
all_texts = tokenize([caption(content) for content in CONTENTS])  # [150, 5]
all_texts_reordered = tokenize([caption(content, ground_first=True) for content in CONTENTS])
test_rows = np.tile(np.arange(len(CONTENTS)), 2)
test_images = draw(CONTENTS[test_rows], random)
test_held_out = torch.from_numpy(HELD_OUT[test_rows])


class ImageEncoder(nn.Module):
    """Three convolutions, then maximum and mean over all positions: [batch, 3, 16, 16] to [batch, 96]."""

    def __init__(self) -> None:
        super().__init__()
        channels = ((3, 16, 2), (16, 32, 2), (32, 48, 1))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride, padding=1) for i, o, stride in channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        return torch.cat((x.amax(dim=(2, 3)), x.mean(dim=(2, 3))), dim=1)


class TextEncoder(nn.Module):
    """One layer of self-attention over five words, then their mean: [batch, 5] to [batch, 48]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(len(WORDS), 48), nn.Parameter(0.1 * torch.randn(5, 48))
        self.encoder = TransformerEncoder(48, 2, 48, 1, dropout=0.0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.words(tokens) + self.places)[0].mean(dim=1)


def warm_up_and_decay(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1, (step + 1) / 10, 2 - 2 * step / steps)


def train_clip(
    seed: int, batch: int = 128, steps: int = 100, temperature: float = 0.07, learned: bool = True
) -> tuple[DualEncoder, float]:
    """Trains a CLIP; returns it and its last loss."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = DualEncoder(ImageEncoder(), 96, TextEncoder(), 48, 32, temperature=temperature)
    model.log_scale.requires_grad_(learned)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-3, fused=True)
    for step in range(steps):
        warm_up_and_decay(optimizer, 5e-3, step, steps)
        rows = torch.randint(PAIRS, (batch,), generator=generator)
        loss = clip_loss(model(train_images[rows], train_texts[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False), loss.item()


def choose_captions(model: DualEncoder) -> torch.Tensor:
    """Cosines of the test pictures with all captions, [300, 150]."""
    return contrastive_logits(model.embed_images(test_images), model.embed_texts(all_texts), 1.0)


def accuracies(cosines: torch.Tensor) -> tuple[float, float]:
    """Share of pictures that choose their own caption: of trained and of held-out combinations."""
    right = (cosines.argmax(dim=1) == torch.from_numpy(test_rows)).float()
    return right[~test_held_out].mean().item(), right[test_held_out].mean().item()


SETTINGS = {
    "batch 128": {},
    "batch 32": {"batch": 32},
    "batch 32, temperature 1": {"batch": 32, "temperature": 1.0, "learned": False},
}
trained = {(name, seed): train_clip(seed, **kw) for name, kw in SETTINGS.items() for seed in SEEDS}
clips = [trained["batch 128", seed][0] for seed in SEEDS]
cosines = {key: choose_captions(model) for key, (model, _) in trained.items()}
reached = {name: [accuracies(cosines[name, seed]) for seed in SEEDS] for name in SETTINGS}


def written(values: list[float]) -> str:
    return " ".join(f"{value:.0%}" for value in values)


table(
    ["setting", "right, trained combinations", "right, held out", "last loss", "temperature at the end"],
    [
        (
            name,
            written([seen for seen, _ in reached[name]]),
            written([unseen for _, unseen in reached[name]]),
            " ".join(f"{trained[name, seed][1]:.2f}" for seed in SEEDS),
            " ".join(f"{1 / trained[name, seed][0].scale.item():.3f}" for seed in SEEDS),
        )
        for name in SETTINGS
    ],
)
settle("held out", sum(unseen for _, unseen in reached["batch 128"]) / 3, tolerance=0.1)
change = np.mean([seen for seen, _ in reached["batch 32, temperature 1"]]) / np.mean(
    [seen for seen, _ in reached["batch 32"]]
)
settle("temperature", "same" if change > 0.9 else "half" if change > 0.1 else "chance")

floor = {  # the lowest loss that any vectors could reach: true pairs at cosine 1, all others at −1
    (batch, temperature): math.log1p((batch - 1) * math.exp(-2 / temperature))
    for batch in (32, 128)
    for temperature in (1.0, 0.2, 0.07)
}
table(
    ["batch", "ln N: all equal", *(f"lowest loss at temperature {t}" for t in (1.0, 0.2, 0.07))],
    [(batch, math.log(batch), *(floor[batch, t] for t in (1.0, 0.2, 0.07))) for batch in (32, 128)],
)

# %% [markdown] lang="en"
# Chance is 1 of 150. With larger batches each picture is told apart from more wrong texts in every update, among them
# such as differ in a single word; and more pictures are seen, since the number of updates is the same. Both matter, and
# both cost. Combinations that were never trained are recognized from what their parts mean, though less often.
#
# At a temperature of 1 a cosine cannot be turned into confidence: even a perfect model has $e^1$ for the true text and
# $e^{-1}$ for each wrong one, and many wrong ones outweigh it. The loss stays near its floor, and its gradient no
# longer says which wrong text is nearest. Hence the learned scale. Why does the loss of batch 128 not go to 0 either?
# There are 120 trained combinations: in a batch of 128, a picture's caption stands with other pictures as well, and
# each such *false negative* is pushed away.

# %% [markdown] lang="zh"
# 随机选对的概率是 1/150。批量越大，每次更新里每张图要与更多错误文字区分开，其中有的只差一个词；
# 而且更新次数相同，见过的图也更多。两者都起作用，也都要花钱。从未训练过的组合，靠各部分的含义也能认出来，只是没那么准。
#
# 温度为 1 时，余弦变不成把握：即使完美的模型，真文字也只有 $e^1$，每句错误文字有 $e^{-1}$，错的多了就压过真的。
# 损失停在下限附近，梯度也不再指明哪句错误文字最近。所以要学习缩放。
# 为什么批量 128 的损失也到不了 0？训练过的组合只有 120 种：在 128 对的一批里，一张图的描述也会配在别的图上，
# 而每个这样的*假负例*（false negative）都被推开。

# %% [markdown]
# ## Experiment: what the space knows · 实验：这个空间知道什么

# %% [markdown] lang="en"
# *Retrieval*: which of 300 pictures has what the caption says? *Zero-shot classification*: the classes are the five
# shapes, given as prompts only: "a … circle on …" with all colors, averaged. Nobody trained a classifier. And the hard
# one, *who has which color*: the right caption against the one with its colors exchanged ("a red circle on blue", "a
# blue circle on red"). Both have the same words, so a model that treats a text as a bag of words cannot tell
# (Yuksekgonul et al. 2022 found large models near that).

# %% [markdown] lang="zh"
# *检索*：300 张图中，哪张符合描述？*零样本分类*：类别是五种形状，只以提示给出："a … circle on …"，所有颜色取平均。
# 没有谁训练过分类器。还有较难的*谁是什么颜色*：正确描述对颜色互换的描述（"a red circle on blue" 与 "a blue circle on red"）。
# 两句的词完全相同，把文字当成词袋的模型分不出来（Yuksekgonul 等 2022 发现大模型接近这样）。

# %%
swapped_rows = torch.tensor([np.flatnonzero((content[[2, 1, 0]] == CONTENTS).all(axis=1))[0] for content in CONTENTS])
shape_prompts = [np.flatnonzero(CONTENTS[:, 1] == shape) for shape in range(len(SHAPES))]  # 30 captions for each
true_shape = torch.from_numpy(CONTENTS[test_rows, 1])


class WordBag(nn.Module):
    """A text encoder that knows which words there are and not their order, as a control."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(len(WORDS), 48, mode="mean")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.words(tokens)


def what_it_knows(model: DualEncoder) -> tuple[float, float, float, float]:
    """Recall at 10 and reciprocal rank of pictures for a caption, zero-shot accuracy of shapes, swapped colors."""
    images, texts = model.embed_images(test_images), model.embed_texts(all_texts)
    of_images = images @ texts.T
    first = ranks(of_images[:150].T.numpy(), np.arange(150))  # each caption looks for its one picture of 150
    prompts = torch.stack([texts[rows] for rows in shape_prompts])  # [5 classes, 30 prompts, dim]
    named = (images @ class_embeddings(prompts).T).argmax(dim=1)
    own = of_images[torch.arange(300), test_rows]
    other = of_images[torch.arange(300), swapped_rows[test_rows]]
    return (
        recall_at_k(first, 10),
        mean_reciprocal_rank(first),
        (named == true_shape).float().mean().item(),
        (own > other).float().mean().item(),
    )


known = {seed: what_it_knows(model) for seed, model in zip(SEEDS, clips, strict=True)}
torch.manual_seed(0)
bag = DualEncoder(ImageEncoder(), 96, WordBag(), 48, 32).eval()
exchanged = all_texts[:, [0, 4, 2, 3, 1]]
bag_same = torch.allclose(bag.embed_texts(all_texts), bag.embed_texts(exchanged), atol=1e-5)
table(
    [
        "seed",
        "picture among the first 10 of 150",
        "mean reciprocal rank",
        "zero-shot: 5 shapes",
        "own colors, not swapped",
    ],
    [(seed, *values) for seed, values in known.items()],
)
print(f"  a bag of words gives exchanged colors the same embedding: {bag_same}")

figure, axes = plt.subplots(2, 6, figsize=(15, 5.2), layout="constrained")
asked = [(0, 4, 2), (3, 1, 0), (5, 0, 1), (2, 3, 5), (4, 2, 3), (1, 1, 4)]
for axis_pair, content in zip(axes.T, asked, strict=True):
    row = int(np.flatnonzero((content == CONTENTS).all(axis=1))[0])
    order = cosines["batch 128", 0][:150, row].argsort(descending=True)[:2]
    for axis, found, place in zip(axis_pair, order.tolist(), ("first", "second"), strict=True):
        axis.imshow((test_images[found].permute(1, 2, 0) / 2 + 0.5).numpy())
        mark = "✓" if found == row else caption(CONTENTS[found])
        new = " (held out)" if HELD_OUT[row] and place == "first" else ""
        axis.set_title(
            (f"“{caption(CONTENTS[row])}”{new}\n" if place == "first" else "") + f"{place}: {mark}", fontsize=9
        )
        axis.axis("off")
show(figure, "retrieval")

# %% [markdown] lang="en"
# The shapes are named by prompts alone, far above the 20 % of chance, though less surely than by a full caption:
# averaging over colors blurs. And for nearly every picture its own caption beats the one with exchanged colors. This
# CLIP learned word order because its batches force it to: nearly every batch holds captions that differ in nothing
# else. In captions from the web such pairs are rare, and a bag of words does well enough.

# %% [markdown] lang="zh"
# 形状只靠提示就能叫出名字，远高于随机的 20 %，但不如用完整描述那么准：对颜色取平均会变模糊。几乎每张图都更接近自己的描述，而不是颜色互换的那句。
# 这个 CLIP 学到了词序，因为它的批次迫使它学：几乎每一批里都有只在这一点上不同的描述。
# 网上的描述很少有这样的对，词袋就够用了。

# %% [markdown]
# ## Experiment: a language model that sees · 实验：能看的语言模型

# %% [markdown] lang="en"
# A small Llama reads texts only: a caption and a question, "a red circle on blue what color is the ground ?", and
# learns to answer "blue". Then it is frozen. In place of the caption's five words come five embeddings that a projector
# makes from the picture encoder's features (CLIP's, frozen as well). Only the projector is trained, on pictures with
# questions and answers.
#
# Two controls. *Another picture*: the same model is given the features of a wrong picture; if it still answered, it
# would not be looking. *Random encoder*: a picture encoder that was never trained, with a projector trained on it just
# the same.

# %% [markdown] lang="zh"
# 一个小 Llama 只读文字：一句描述加一个问题，`a red circle on blue what color is the ground ?`，学会回答 "blue"。然后冻结。
# 描述的五个词，换成投影器由图像编码器（CLIP 的，同样冻结）的特征算出的五个嵌入。
# 只训练投影器，用带问题和答案的图像。
#
# 两个对照。*别的图*：给同一个模型一张错误图的特征；如果照样答对，说明它没在看。
# *随机编码器*：从未训练过的图像编码器，同样为它训练一个投影器。

# %%
quiz(
    "sees",
    en="With CLIP's encoder and a frozen Llama, what share of questions on pictures of held-out combinations is answered right?",
    zh="用 CLIP 的编码器和冻结的 Llama，关于没训练过的组合的图，问题答对的比例是多少？",
)

# %%
QUESTIONS = ("what color is the shape ?", "what shape is the shape ?", "what color is the ground ?")
question_tokens = tokenize(list(QUESTIONS))  # [3, 6]
names = (list(COLORS), SHAPES, list(COLORS))
answers = torch.tensor([[WORDS.index(names[q][content[q]]) for q in range(3)] for content in CONTENTS])  # [150, 3]
placeholders = torch.zeros(1, 5, dtype=torch.long)  # <image> five times
IMAGE = WORDS.index("<image>")


def learn(module: nn.Module, logits_of, rows_of, steps: int, batch: int, peak: float, seed: int) -> float:
    """Trains a module to answer; returns the last loss. `rows_of` maps indices to contents."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=peak, fused=True)
    for step in range(steps):
        warm_up_and_decay(optimizer, peak, step, steps)
        rows = torch.randint(len(rows_of), (batch,), generator=generator)
        question = torch.randint(3, (batch,), generator=generator)
        loss = F.cross_entropy(logits_of(rows, question), answers[rows_of[rows], question])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


torch.manual_seed(0)
llama = Llama(LlamaConfig(len(WORDS), 48, 2, 4, 2, 12, 96, tie_embeddings=True))
readable_rows = torch.from_numpy(np.flatnonzero(~HELD_OUT))


def read(rows: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
    """Logits of the answer after a caption and a question, [batch, words]."""
    return llama(torch.cat((all_texts[readable_rows[rows]], question_tokens[question]), dim=1))[:, -1]


learn(llama, read, readable_rows, steps=90, batch=64, peak=5e-3, seed=0)
llama.eval().requires_grad_(False)
frozen = {name: value.clone() for name, value in llama.state_dict().items()}
each_row, each_question = torch.arange(150).repeat_interleave(3), torch.arange(3).repeat(150)
with torch.no_grad():
    by_text = llama(torch.cat((all_texts[each_row], question_tokens[each_question]), dim=1))[:, -1].argmax(dim=1)
text_right = (by_text == answers[each_row, each_question]).float().mean().item()


@torch.no_grad()
def encode(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Features, [images, 1 position, 96]; computed once, since the encoder is frozen."""
    return torch.cat([encoder(some) for some in images.split(512)])[:, None]


def answer(model: VisionLanguageModel, features: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
    """Logits of the answer after a picture and a question, [batch, words]."""
    tokens = torch.cat((placeholders.expand(len(features), -1), question_tokens[question]), dim=1)
    return model(tokens, features)[:, -1]


def see(encoder: nn.Module, seed: int) -> tuple[VisionLanguageModel, torch.Tensor]:
    """Trains a projector; returns the model, and the features of the test pictures."""
    torch.manual_seed(seed)
    model = VisionLanguageModel(llama, VisualProjector(96, 48, tokens_per_feature=5, hidden_dim=128), IMAGE)
    features = encode(encoder, train_images)
    rows = torch.from_numpy(train_rows)
    learn(model.projector, lambda r, q: answer(model, features[r], q), rows, steps=80, batch=48, peak=7e-3, seed=seed)
    return model, encode(encoder, test_images)


@torch.no_grad()
def right_answers(model: VisionLanguageModel, features: torch.Tensor, which: torch.Tensor) -> list[float]:
    """Share of right answers to each question, on the test pictures of `which`."""
    truth = answers[torch.from_numpy(test_rows)][which]
    return [
        (answer(model, features[which], torch.full((int(which.sum()),), q)).argmax(dim=1) == truth[:, q])
        .float()
        .mean()
        .item()
        for q in range(3)
    ]


answered: dict[str, list[list[float]]] = {
    "trained combinations": [],
    "held out": [],
    "another picture": [],
    "random encoder": [],
}
for seed, clip in zip(SEEDS, clips, strict=True):
    model, features = see(clip.image_encoder, seed)
    answered["trained combinations"].append(right_answers(model, features, ~test_held_out))
    answered["held out"].append(right_answers(model, features, test_held_out))
    mixed = features[torch.randperm(300, generator=torch.Generator().manual_seed(seed))]
    answered["another picture"].append(right_answers(model, mixed, torch.ones(300, dtype=torch.bool)))
    torch.manual_seed(seed)
    untrained = ImageEncoder()
    untrained(train_images[:512])  # so that batch norm knows mean and variance
    model, features = see(untrained.eval(), seed)
    answered["random encoder"].append(right_answers(model, features, ~test_held_out))
print(f"  questions after a caption in words, all combinations: {text_right:.0%} right")
table(
    ["picture", *QUESTIONS],
    [(name, *(written([run[q] for run in runs]) for q in range(3))) for name, runs in answered.items()],
)
means = {name: [sum(run) / 3 for run in runs] for name, runs in answered.items()}
settle("sees", sum(means["held out"]) / len(SEEDS), tolerance=0.1)

figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
for number, (name, hatch) in enumerate(zip(answered, ("", "//", "..", "xx"), strict=True)):
    runs = np.array(answered[name])
    places = np.arange(3) + 0.2 * (number - 1.5)
    axis.bar(places, runs.mean(axis=0), width=0.18, label=name, hatch=hatch, edgecolor="white")
    axis.plot(np.tile(places, (3, 1)), runs, "k.", markersize=4)
axis.hlines([1 / 6, 1 / 5, 1 / 6], np.arange(3) - 0.4, np.arange(3) + 0.4, color="grey", linestyle="--")
axis.set_xticks(range(3), QUESTIONS)
axis.set(ylabel="share right", title="Questions about pictures; dots: seeds, dashed: guessing")
axis.legend(fontsize=8, ncols=2)
show(figure, "answers")

# %% [markdown] lang="en"
# The language model was never told that pictures exist. The projector alone, about 43,000 numbers, has learned to write
# five "words" that the frozen Llama reads as it would read a caption. A wrong picture brings the answers down to
# guessing: it does look. With an untrained encoder the color of the ground survives, since even random filters pass a
# large area's color on, while the shape and its color are mostly lost. What the projector can say is bounded by what
# the encoder has kept: that is what CLIP's training was for, and why nearly all such models start from a contrastive
# encoder.
#
# Real models differ in size and in one step: after the projector alone (stage 1), LLaVA trains it together with the
# language model on conversations about pictures (stage 2). Their features are not one vector but one for each of
# several hundred patches, which keeps where things are, and costs as many tokens of context.

# %% [markdown] lang="zh"
# 从没有谁告诉语言模型世上有图像。只有约 43,000 个数的投影器学会了写五个“词”，冻结的 Llama 像读描述一样读它们。
# 换上错误的图，回答就降到瞎猜的水平：它确实在看。
# 用未训练的编码器，底色还能答对，因为随机滤波器也能传递大面积的颜色；形状和形状的颜色则大多丢失。
# 投影器能说什么，受限于编码器保留了什么：这就是 CLIP 训练的意义，也是几乎所有这类模型都从对比学习的编码器出发的原因。
#
# 真实的模型更大，还多一步：先只训练投影器（第一阶段），然后 LLaVA 把它和语言模型一起在关于图像的对话上训练（第二阶段）。
# 它们的特征不是一个向量，而是几百个图块各一个，这样保留了位置，也占掉同样多的上下文词元。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Torch has both losses under other names: CLIP's is the mean of two cross-entropies whose classes are the row numbers,
# SigLIP's a binary cross-entropy with an identity matrix as labels. Values and gradients must agree. In this
# repository's tests they are held against transformers' `CLIPModel` and `SiglipModel`, the projector against
# `LlavaMultiModalProjector` (importing that library takes about as long as this lesson's training of a CLIP).

# %% [markdown] lang="zh"
# 两个损失在 torch 里都有，只是名字不同：CLIP 的是两个交叉熵的平均，类别就是行号；
# SigLIP 的是以单位矩阵为标签的二元交叉熵。数值和梯度必须一致。
# 本仓库的测试还与 transformers 的 `CLIPModel` 和 `SiglipModel` 比较，投影器与 `LlavaMultiModalProjector` 比较；
# 导入那个库的时间，差不多够本课训练一个 CLIP。

# %%
generator = torch.Generator().manual_seed(0)
images, texts = (torch.randn(12, 7, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
log_scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64, requires_grad=True)
logits = contrastive_logits(images, texts, log_scale.exp())
own_rows = torch.arange(12)
losses = {
    "CLIP": (clip_loss(logits), (F.cross_entropy(logits, own_rows) + F.cross_entropy(logits.T, own_rows)) / 2),
    "SigLIP": (
        siglip_loss(logits - 10),
        12 * F.binary_cross_entropy_with_logits(logits - 10, torch.eye(12, dtype=torch.float64)),
    ),
}
loss_gradients = {
    name: [torch.cat([g.flatten() for g in torch.autograd.grad(each, (images, texts, log_scale), retain_graph=True)]) for each in pair]
    for name, pair in losses.items()
}  # fmt: skip
by_formula = (logits.softmax(dim=1) + logits.softmax(dim=0) - 2 * torch.eye(12)) / (2 * 12)
by_autograd = torch.autograd.grad(losses["CLIP"][0], logits, retain_graph=True)[0]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: logits 4, 0, 4.8, 4", by_hand, [[4.0, 0.0], [4.8, 4.0]], 1e-5)
check_close("by hand: CLIP's loss 0.595", by_hand_clip, 0.5947, 1e-4)
check_close("by hand: SigLIP's loss 1.314", by_hand_siglip, 1.3140, 1e-4)
for name, (ours, by_torch) in losses.items():
    check_close(f"{name}'s loss equals torch's", ours, by_torch, 1e-10)
    check_close(f"so do its gradients, of embeddings and scale: {name}", *loss_gradients[name], 1e-9)
check_close("the gradient is (P + Q − 2 I) / 2N", by_autograd, by_formula, 1e-9)
check(
    "batch 128 chooses the right one of 150 captions in over 60 % of trained and 20 % of held-out ones, with every seed",
    all(seen > 0.6 and unseen > 0.2 for seen, unseen in reached["batch 128"]),
)
check(
    "a larger batch is better, with every seed",
    all(a[0] > b[0] for a, b in zip(reached["batch 128"], reached["batch 32"], strict=True)),
)
check(
    "a learned temperature is better than 1, with every seed",
    all(a[0] > 1.3 * b[0] for a, b in zip(reached["batch 32"], reached["batch 32, temperature 1"], strict=True)),
)
check(
    "at temperature 1 no loss gets below its floor",
    all(trained["batch 32, temperature 1", seed][1] > floor[32, 1.0] - 0.05 for seed in SEEDS),
)
check("zero-shot names over half of the shapes, with every seed", all(values[2] > 0.5 for values in known.values()))
check("own colors beat exchanged ones in over 90 %, with every seed", all(values[3] > 0.9 for values in known.values()))
check("which a bag of words could not", bag_same)
check("the Llama answers after captions in words", text_right > 0.95)
check("and has not changed since", all(torch.equal(frozen[name], value) for name, value in llama.state_dict().items()))
check("with the right picture it answers over 60 %, with every seed", min(means["trained combinations"]) > 0.6)
check("of held-out combinations over 40 %, with every seed", min(means["held out"]) > 0.4)
check("with another picture it guesses, with every seed", max(means["another picture"]) < 0.3)
check(
    "on a random encoder it knows less, with every seed",
    all(a > b + 0.15 for a, b in zip(means["trained combinations"], means["random encoder"], strict=True)),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# CLIP's text encoder steers Stable Diffusion (08/08); its picture encoder, or SigLIP's, is the eye of most open
# vision-language models; cosines of both search photo albums by words. The embeddings of `sentiment-bert`'s encoder
# come from the same loss on pairs of sentences: `uv run --package sentiment-bert train`.
#
# Papers: [Radford et al. 2021](https://arxiv.org/abs/2103.00020), CLIP;
# [Zhai et al. 2023](https://arxiv.org/abs/2303.15343), SigLIP;
# [van den Oord et al. 2018](https://arxiv.org/abs/1807.03748), InfoNCE;
# [Liu et al. 2023](https://arxiv.org/abs/2304.08485), LLaVA, and [its 1.5](https://arxiv.org/abs/2310.03744);
# [Tsimpoukelli et al. 2021](https://arxiv.org/abs/2106.13884), a frozen language model that sees;
# [Alayrac et al. 2022](https://arxiv.org/abs/2204.14198), Flamingo: cross-attention instead of tokens;
# [Yuksekgonul et al. 2022](https://arxiv.org/abs/2210.01936), bags of words. Next: a language model that acts, 12/10.

# %% [markdown] lang="zh"
# CLIP 的文本编码器为 Stable Diffusion 指路（08/08）；它或 SigLIP 的图像编码器是大多数开源视觉语言模型的眼睛；
# 两者的余弦可以用文字搜索相册。
# `sentiment-bert` 的编码器也是用同一种损失在句子对上训练出来的：`uv run --package sentiment-bert train`。
#
# 论文：[Radford 等 2021](https://arxiv.org/abs/2103.00020)，CLIP；[Zhai 等 2023](https://arxiv.org/abs/2303.15343)，SigLIP；
# [van den Oord 等 2018](https://arxiv.org/abs/1807.03748)，InfoNCE；
# [Liu 等 2023](https://arxiv.org/abs/2304.08485)，LLaVA，以及 [1.5 版](https://arxiv.org/abs/2310.03744)；
# [Tsimpoukelli 等 2021](https://arxiv.org/abs/2106.13884)，能看的冻结语言模型；
# [Alayrac 等 2022](https://arxiv.org/abs/2204.14198)，Flamingo：用交叉注意力代替词元；
# [Yuksekgonul 等 2022](https://arxiv.org/abs/2210.01936)，词袋。下一课：会行动的语言模型，12/10。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `contrastive_logits`, `clip_loss`, `siglip_loss` and `class_embeddings` yourself. `uv run lesson exercise 12/09`
# makes a file with their signatures, `uv run lesson check 12/09` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `contrastive_logits`、`clip_loss`、`siglip_loss` 和 `class_embeddings`。
# `uv run lesson exercise 12/09` 生成带有签名的文件，`uv run lesson check 12/09` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Normalize along the features, not along the batch; then one matrix product gives all pairs.
# 2. $-\ln \frac{e^{S_{ii}}}{\sum_j e^{S_{ij}}} = \mathrm{logsumexp}_j S_{ij} - S_{ii}$: use `logsumexp`, never the
#    exponential itself. The columns need `dim=0`.
# 3. SigLIP's signs are $2 I - 1$. Use `F.logsigmoid`. Divide by the number of pictures, not by that of pairs.
# 4. Normalize each prompt before the mean, and the mean again: otherwise long vectors count more.

# %% [markdown] lang="zh"
# 1. 沿特征归一化，不是沿批次；然后一次矩阵乘法给出所有对。
# 2. $-\ln \frac{e^{S_{ii}}}{\sum_j e^{S_{ij}}} = \mathrm{logsumexp}_j S_{ij} - S_{ii}$：用 `logsumexp`，不要直接算指数。
#    按列要用 `dim=0`。
# 3. SigLIP 的符号是 $2 I - 1$。用 `F.logsigmoid`。除以图的数量，不是对的数量。
# 4. 先把每句提示归一化再平均，平均后再归一化一次：否则长的向量分量更重。


# %%
@exercise(contrastive_logits, clip_loss, siglip_loss, class_embeddings)
def judge(yours, reference):
    generator = torch.Generator().manual_seed(3)
    for images, texts in ((4, 4), (3, 6)):
        x = 3 * torch.randn(images, 5, generator=generator)
        y = torch.randn(texts, 5, generator=generator)
        mine, theirs = (each.contrastive_logits(x, y, 2.5) for each in (yours, reference))
        check(f"logits are [pictures, texts]: {images} and {texts}", mine.shape == (images, texts))
        check_close(f"logits of {images} pictures and {texts} texts", mine, theirs)
    for pairs in (1, 2, 9):
        for name in ("clip_loss", "siglip_loss"):
            inputs = [
                (3 * torch.randn(pairs, pairs, generator=torch.Generator().manual_seed(pairs))).requires_grad_()
                for _ in range(2)
            ]
            mine, theirs = (
                getattr(each, name)(logits) for each, logits in zip((yours, reference), inputs, strict=True)
            )
            check(f"{name} is a scalar", mine.shape == ())
            check_close(f"{name} of {pairs} pairs", mine, theirs)
            mine.backward()
            theirs.backward()
            check_close(f"the gradient of {name} of {pairs} pairs", inputs[0].grad, inputs[1].grad)
    large = torch.full((3, 3), 500.0).fill_diagonal_(0.0)
    check_close("clip_loss of very large logits", yours.clip_loss(large), reference.clip_loss(large))
    check_close("siglip_loss of very large logits", yours.siglip_loss(large), reference.siglip_loss(large))
    prompts = torch.randn(4, 3, 6, generator=generator) * torch.tensor([0.1, 1.0, 20.0])[:, None]
    mine, theirs = (each.class_embeddings(prompts) for each in (yours, reference))
    check("class_embeddings is [classes, dim]", mine.shape == (4, 6))
    check_close("class_embeddings have length 1", mine.norm(dim=1), torch.ones(4))
    check_close("class_embeddings of prompts of any length", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does CLIP want large batches, and what does SigLIP change? · CLIP 为什么需要大批量？SigLIP 改变了什么？

# %% [markdown] lang="en"
# The batch is the question: choose among its texts. With few texts it is too easy, since hardly any wrong one is
# similar. CLIP used 32,768. The softmax needs every logit of a row and a column, so all machines exchange all
# embeddings, and the matrix grows with the square. SigLIP's terms are independent: each machine computes a block,
# passes its texts on, and adds up, so that memory stays small. It also works better at small batches; beyond about
# 32,000 larger ones bring neither much.

# %% [markdown] lang="zh"
# 批次就是考题：从这批文字中选。文字少就太容易，因为几乎没有相似的错误文字。CLIP 用了 32,768。
# softmax 需要整行整列的 logits，所以所有机器要交换全部嵌入，矩阵随批量的平方增长。
# SigLIP 的各项互相独立：每台机器算一块，把自己的文字传给下一台，再累加，内存保持很小。
# 它在小批量时也更好；超过约 32,000 之后，再大对两者都没多少好处。

# %%
blocks = logits.detach() - 10
signs = 2 * torch.eye(12, dtype=torch.float64) - 1
by_blocks = sum(
    -F.logsigmoid(signs[a : a + 4, b : b + 4] * blocks[a : a + 4, b : b + 4]).sum()
    for a in (0, 4, 8)
    for b in (0, 4, 8)
)
print(f"  SigLIP in 9 blocks: {by_blocks / 12:.6f}, at once: {siglip_loss(blocks):.6f}")
for batch in (8, 128, 32_768):
    print(f"  a batch of {batch:,}: {4 * batch**2 / 2**20:,.1f} MiB of logits, loss of guessing {math.log(batch):.2f}")

# %% [markdown]
# ### What does the temperature do, and why is it learned? · 温度的作用是什么，为什么要学习？

# %% [markdown] lang="en"
# Cosines lie between −1 and 1; divided by the temperature they become logits that can express confidence. A low one
# makes the softmax sharp: the gradient goes to the few nearest negatives. Too high and all negatives count alike; too
# low and only the single hardest counts, which may well be a false negative. The best value depends on batch and stage
# of the training, and it is one number: so it is learned, as a logarithm, which keeps it positive, and bounded, so that
# it cannot run away.

# %% [markdown] lang="zh"
# 余弦在 −1 到 1 之间，除以温度才变成能表达把握的 logits。温度低，softmax 就尖锐：梯度落在最近的少数负例上。
# 太高则所有负例一视同仁；太低则只有最难的一个起作用，而它很可能是假负例。
# 最佳值取决于批量和训练阶段，又只是一个数，所以让它自己学：以对数形式，保证为正；并加上限，免得失控。

# %%
wrong = torch.tensor([0.9, 0.6, 0.2, -0.5])
for temperature in (1.0, 0.2, 0.07, 0.01):
    shares = (wrong / temperature).softmax(dim=0)
    print(f"  temperature {temperature}: negatives at 0.9, 0.6, 0.2, −0.5 get {[round(s, 3) for s in shares.tolist()]}")

# %% [markdown]
# ### What are false negatives in contrastive learning? · 对比学习中的假负例是什么？

# %% [markdown] lang="en"
# Pairs that are treated as wrong though they fit: two photographs of dogs with the caption "a dog". The loss pushes
# them apart, and cannot get to zero. The more a batch repeats its meanings, the more of them. On the web they are few;
# in a small domain they are many: then mark all equal captions as true (SigLIP's form allows several in a row), or
# remove duplicates from a batch.

# %% [markdown] lang="zh"
# 被当成错误、其实相符的对：两张狗的照片都配着“一只狗”。损失把它们推开，自己也到不了零。
# 一批里含义重复越多，假负例就越多。网上的数据里很少，窄领域里很多：
# 这时可以把相同的描述都标为真（SigLIP 的形式允许一行有几个），或在批内去重。

# %%
rows = torch.randint(PAIRS, (2000, 128), generator=torch.Generator().manual_seed(0))
contents_of = torch.from_numpy(train_rows)[rows]
for batch in (32, 128):
    some = contents_of[:, :batch]
    others = (some[:, :, None] == some[:, None]).sum(dim=2) - 1
    print(f"  batch {batch}: {others.float().mean():.2f} false negatives for each picture")

# %% [markdown]
# ### How would you use CLIP to classify, and when does it fail? · 怎样用 CLIP 分类，什么时候会失败？

# %% [markdown] lang="en"
# Write several prompts for each class, embed and average them, and take the class with the largest cosine. It costs no
# labels, and new classes are new sentences. It fails where captions do not tell: counting, fine-grained kinds, medical
# pictures, who does what to whom; where prompts do not resemble captions of the training; and it can be misled by text
# within the picture. With a few labels, a linear classifier on the features usually beats prompts.

# %% [markdown] lang="zh"
# 为每个类别写几句提示，求嵌入并平均，取余弦最大的类别。不需要标签，新类别就是新句子。
# 描述里不说的它就不会：数数、细分种类、医学图像、谁对谁做什么；提示与训练时的描述差得远也会失败；图中的文字还能误导它。
# 有少量标签时，在特征上训练一个线性分类器通常胜过提示。

# %%
texts_now = clips[0].embed_texts(all_texts)
test_embeddings = clips[0].embed_images(test_images)
for count in (1, 5, 30):
    few = torch.stack([texts_now[rows[:: 30 // count][:count]] for rows in shape_prompts])
    named = (test_embeddings @ class_embeddings(few).T).argmax(dim=1)
    print(f"  {count} prompts for each shape: {(named == true_shape).float().mean():.0%} right")

# %% [markdown]
# ### How does a picture get into a language model? · 图像怎样进入语言模型？

# %% [markdown] lang="en"
# As tokens: features of a picture encoder, projected to the width of the embeddings, stand in the text (LLaVA,
# Qwen-VL). It is simple and every layer sees them, but a picture costs hundreds of tokens. Or by cross-attention: extra
# layers read the features (Flamingo): the context stays free, at the price of new weights. Or as discrete tokens of a
# picture tokenizer, which the model can then also write. A perceiver or pooling makes the tokens fewer.

# %% [markdown] lang="zh"
# 作为词元：图像编码器的特征投影到嵌入宽度，放进文本（LLaVA、Qwen-VL）。简单，每一层都能看到，但一张图要占几百个词元。
# 或用交叉注意力：额外的层去读特征（Flamingo），不占上下文，代价是新的权重。
# 或变成图像分词器的离散词元，模型还能把它们写出来。用 perceiver 或池化可以减少词元数。

# %%
for name, side, patch in (("CLIP ViT-L/14 at 224", 224, 14), ("at 336, as LLaVA-1.5", 336, 14)):
    print(f"  {name}: {(side // patch) ** 2} tokens for a picture")

# %% [markdown]
# ### A model answers questions about pictures well. How do you know that it looks? · 模型对图像问答得很好，怎么知道它真的在看？

# %% [markdown] lang="en"
# Take the picture away or exchange it, and measure again: what is still right was guessed from the question and from
# habit. Balance the answers, so that guessing pays little; ask for things that contradict habit; compare pairs of
# pictures that differ in one thing only. In early benchmarks models that saw nothing answered about half of the
# questions, since most bananas are yellow.

# %% [markdown] lang="zh"
# 把图拿走或换掉再测：仍然答对的，是靠问题和习惯猜的。让各答案数量均衡，使猜测得不到好处；
# 问与习惯相反的事；比较只差一点的成对图像。早期的基准上，什么都不看的模型能答对约一半，因为香蕉多半是黄的。

# %%
table(
    ["share right, mean of three questions", *(f"seed {seed}" for seed in SEEDS)],
    [(name, *means[name]) for name in ("trained combinations", "another picture")],
)
