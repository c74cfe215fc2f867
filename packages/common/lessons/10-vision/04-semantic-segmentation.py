# %% [markdown]
# # Semantic segmentation · 语义分割

# %% [markdown] lang="en"
# After this lesson you can turn a classifier into a network that names a class for every pixel, say what its stride costs
# and how skips and dilation buy it back, measure the result by IoU and Dice, and train it although one class has four
# pixels in a thousand. You need convolutions and receptive fields (05/01, 05/03) and transposed convolution (08/02).

# %% [markdown] lang="zh"
# 学完本课，你能把分类网络改造成为每个像素给出类别的网络，能说出步幅的代价，以及跳跃连接和空洞卷积如何弥补，
# 能用 IoU 和 Dice 衡量结果，并能在某一类只占千分之四的像素时仍把网络训练好。
# 先修：卷积与感受野（05/01、05/03）、转置卷积（08/02）。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.cnn.receptive_field import gradient_map, receptive_fields
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.vision.blood_scenes import CLASSES, PLATELET, draw_blood_scenes
from dlcommon.vision.fully_convolutional import (
    FCN,
    DilatedNetwork,
    bilinear_kernel,
    bilinear_upsampling,
    coarse_to_fine_agreement,
)
from dlcommon.vision.segmentation_losses import balanced_class_weights, binary_dice_loss, dice_loss
from dlcommon.vision.segmentation_metrics import confusion_matrix, dice_per_class, iou_per_class, pixel_accuracy
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A classifier says that there is a white cell in the picture, a detector draws a box around it. To measure how large it is,
# or how much of a leaf is ill, or where the road ends, neither is enough: every pixel needs an answer.
#
# One could classify a window around each pixel, one after the other. Neighboring windows are almost the same, so almost
# all of that work is done thousands of times. A convolutional network already computes its features for all places at
# once. But it has also halved the resolution three to five times, in order to see far; at the end, one position stands for
# a block of 8 to 32 pixels a side. How does one get sharp outlines from blurred knowledge?

# %% [markdown] lang="zh"
# 分类网络说图里有一个白细胞，检测网络画出它的框。可是要量它有多大、叶子病了多少、路到哪里为止，两者都不够：
# 每个像素都需要一个答案。
#
# 可以对每个像素周围的窗口逐个分类。但相邻窗口几乎相同，几乎所有计算都重复了成千上万次。
# 卷积网络本来就同时算出所有位置的特征。但为了看得远，它把分辨率减半了三到五次，最后一个位置代表边长 8 到 32 像素的一块。
# 怎样从模糊的知识得到清晰的轮廓？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Scores.* A picture of 4 × 4 pixels with an object of 2 × 2. The prediction marks 2 × 3 pixels that contain it: 4 true
# positives, 2 false positives, no false negatives. Intersection over union: $4 / 6 = 0.667$. Dice:
# $2 \cdot 4 / (2 \cdot 4 + 2 + 0) = 0.8$. Pixel accuracy: $14 / 16 = 0.875$. A prediction that marks nothing at all has an
# accuracy of $12 / 16 = 0.75$, an IoU of 0 and a Dice of 0: where most is background, accuracy praises silence.
#
# *Enlarging.* Bilinear interpolation to twice the size is a transposed convolution: each value spreads
# $(0.25, 0.75, 0.75, 0.25)$ in both directions. Two neighbors 0 and 1 become $\dots, 0.25, 0.75, \dots$ between them.
#
# *Dilation.* Four 3×3 convolutions see $1 + 2 \cdot 4 = 9$ pixels. With their weights 1, 2, 4 and 4 pixels apart they see
# $1 + 2 (1 + 2 + 4 + 4) = 23$, with as many weights and at full resolution.

# %% [markdown] lang="zh"
# *分数。* 4 × 4 的图中有一个 2 × 2 的物体。预测标出包含它的 2 × 3 个像素：真阳性 4，假阳性 2，没有假阴性。
# 交并比：$4 / 6 = 0.667$。Dice：$2 \cdot 4 / (2 \cdot 4 + 2 + 0) = 0.8$。像素准确率：$14 / 16 = 0.875$。
# 什么都不标的预测，准确率是 $12 / 16 = 0.75$，IoU 为 0，Dice 为 0：大部分是背景时，准确率奖励沉默。
#
# *放大。* 双线性插值放大两倍就是一个转置卷积：每个值在两个方向上各按 $(0.25, 0.75, 0.75, 0.25)$ 散开。
# 相邻的 0 和 1 之间变成 $\dots, 0.25, 0.75, \dots$。
#
# *空洞。* 四个 3×3 卷积看到 $1 + 2 \cdot 4 = 9$ 个像素。让权重分别相隔 1、2、4、4 个像素，
# 就看到 $1 + 2 (1 + 2 + 4 + 4) = 23$ 个，权重一样多，分辨率不变。

# %%
truth, guess, silence = torch.zeros(3, 4, 4, dtype=torch.long)
truth[1:3, 1:3], guess[1:3, 1:4] = 1, 1
by_hand = {}
for name, predicted in (("2 × 3 pixels", guess), ("nothing", silence)):
    counts = confusion_matrix(predicted, truth, 2)
    by_hand[name] = (pixel_accuracy(counts).item(), iou_per_class(counts)[1].item(), dice_per_class(counts)[1].item())
table(["marked", "pixel accuracy", "IoU", "Dice"], [(name, *scores) for name, scores in by_hand.items()])
step = bilinear_upsampling(1, 2)(torch.tensor([0.0, 0, 1, 1]).expand(1, 1, 4, 4))[0, 0, 4].detach()
print(f"  0 0 1 1 enlarged: {[round(value, 3) for value in step[1:-1].tolist()]}")
fields = {
    dilations: receptive_fields(DilatedNetwork(3, 4, 8, dilations), (3, 64, 64))[""].rows.size
    for dilations in ((1, 1, 1, 1), (1, 2, 4, 4))
}
print(f"  receptive fields: {fields}")

drawing = Schematic(12.8, 4.4, "A fully convolutional network with skips")
for name, x, y, text, kind in (
    ("picture", 1.0, 3.6, "picture\nH × W", "data"),
    ("stage 1", 3.4, 3.6, "stage 1\nH/2 × W/2", "data"),
    ("stage 2", 5.9, 3.6, "stage 2\nH/4 × W/4", "data"),
    ("stage 3", 8.4, 3.6, "stage 3\nH/8 × W/8", "data"),
    ("score 3", 8.4, 2.2, "1×1 conv\nto classes", "operation"),
    ("score 2", 5.9, 2.2, "1×1 conv\nto classes", "operation"),
    ("score 1", 3.4, 2.2, "1×1 conv\nto classes", "operation"),
    ("up 3", 8.4, 0.7, "× 2", "parameter"),
    ("sum 2", 5.9, 0.7, "+, × 2", "parameter"),
    ("sum 1", 3.4, 0.7, "+, × 2", "parameter"),
    ("classes", 1.0, 0.7, "a class for\nevery pixel", "data"),
):
    drawing.box(name, x, y, text, kind, 1.7, 0.8)
for start, end in (
    ("picture", "stage 1"), ("stage 1", "stage 2"), ("stage 2", "stage 3"), ("stage 3", "score 3"),
    ("stage 2", "score 2"), ("stage 1", "score 1"), ("score 3", "up 3"), ("up 3", "sum 2"), ("score 2", "sum 2"),
    ("sum 2", "sum 1"), ("score 1", "sum 1"), ("sum 1", "classes"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.text(11.2, 0.7, "dashed: transposed convolutions\nthat begin as bilinear interpolation")
show(drawing.figure, "fcn")

# %% [markdown]
# ## Formula · 公式
#
# $$\mathrm{IoU}_c = \frac{n_{cc}}{t_c + m_c - n_{cc}}, \qquad \mathrm{Dice}_c = \frac{2\, n_{cc}}{t_c + m_c} = \frac{2\, \mathrm{IoU}_c}{1 + \mathrm{IoU}_c}$$
#
# $$L_{\mathrm{Dice}} = 1 - \frac{1}{C} \sum_c \frac{2 \sum_i p_{ic}\, y_{ic} + \epsilon}{\sum_i p_{ic} + \sum_i y_{ic} + \epsilon}$$
#
# $$L_{\mathrm{CE}} = -\frac{\sum_i w_{y_i} \log p_{i y_i}}{\sum_i w_{y_i}}, \qquad w_c = \frac{N}{C\, t_c}$$
#
# $$R = 1 + \sum_l d_l\, (k_l - 1)$$

# %% [markdown] lang="en"
# - $n_{ij}$: how many pixels of class $i$ were called $j$, the confusion matrix, `[num_classes, num_classes]`.
# - $t_c = \sum_j n_{cj}$: pixels of class $c$; $m_c = \sum_i n_{ic}$: pixels that were called $c$.
# - $C$: the number of classes; $N$: the number of pixels. The mean of $\mathrm{IoU}_c$ over classes is *mIoU*.
# - $p_{ic}$: predicted probability of class $c$ at pixel $i$, the softmax of the logits `[batch, num_classes, height, width]`.
# - $y_{ic}$: 1 if pixel $i$ is of class $c$, else 0; $y_i$ is its class.
# - $\epsilon$: `smooth`, so that a class which is absent and not predicted counts as right.
# - $w_c$: weight of a class in the cross-entropy; with these, each class has the same share.
# - $R$: receptive field of convolutions without stride, with kernels of $k_l$ and dilations $d_l$.
#
# The Dice loss is the Dice coefficient with probabilities in place of counts, so that it has a gradient. At pixel $i$ that
# is $\partial \mathrm{Dice}_c / \partial p_{ic} = (2 y_{ic} - \mathrm{Dice}_c) / (\sum_i p_{ic} + \sum_i y_{ic})$ for
# $\epsilon = 0$: pixels of the class are pulled up, all others pushed down, and the smaller the class, the harder. But the
# denominator holds all that is *predicted* as well. As long as a rare class is spread thinly over the whole picture, its
# gradient is weak.

# %% [markdown] lang="zh"
# - $n_{ij}$：类别 $i$ 的像素中被判为 $j$ 的个数，即混淆矩阵，`[num_classes, num_classes]`。
# - $t_c = \sum_j n_{cj}$：类别 $c$ 的像素数；$m_c = \sum_i n_{ic}$：被判为 $c$ 的像素数。
# - $C$：类别数；$N$：像素数。$\mathrm{IoU}_c$ 对类别的平均就是 *mIoU*。
# - $p_{ic}$：像素 $i$ 属于类别 $c$ 的预测概率，是 logits `[batch, num_classes, height, width]` 的 softmax。
# - $y_{ic}$：像素 $i$ 属于类别 $c$ 时为 1，否则为 0；$y_i$ 是它的类别。
# - $\epsilon$：即 `smooth`，使既不存在也没被预测的类别算作正确。
# - $w_c$：交叉熵中类别的权重；取这样的值，每一类所占份额相同。
# - $R$：没有步幅的卷积的感受野，核大小为 $k_l$，空洞率为 $d_l$。
#
# Dice 损失就是用概率代替计数的 Dice 系数，因此有梯度。$\epsilon = 0$ 时，
# 像素 $i$ 处 $\partial \mathrm{Dice}_c / \partial p_{ic} = (2 y_{ic} - \mathrm{Dice}_c) / (\sum_i p_{ic} + \sum_i y_{ic})$：
# 该类的像素被拉高，其余的被压低，类别越小，力度越大。但分母里也有*预测*的总量：
# 只要稀有类别的概率还稀薄地散布在整张图上，它的梯度就很弱。

# %% [markdown]
# ## Code · 代码

# %%
source(FCN.forward)
source(bilinear_upsampling)
source(dice_loss)
source(confusion_matrix)

# %% [markdown] lang="en"
# `FCN.forward` keeps the map of every stage. The coarsest is scored first, by a 1×1 convolution: what was the last linear
# layer of a classifier, applied at every position. The scores are doubled and those of the next finer stage are added,
# until no skip is left; the last transposed convolution does the rest at once. `bilinear_upsampling` sets the weight
# `[in, out, size, size]` to the tent on the diagonal, so that each class is enlarged by itself at first.
#
# `dice_loss` puts classes first and flattens everything else, `[num_classes, pixels of the batch]`, so that every sum is
# over pixels. `confusion_matrix` counts pairs of true and predicted class by giving each pair a number of its own.

# %% [markdown] lang="zh"
# `FCN.forward` 保留每个阶段的特征图。先用 1×1 卷积给最粗的一张打分：这就是分类网络最后的线性层，用在每个位置上。
# 分数放大两倍，再加上更细一级的分数，直到用完跳跃连接；最后一个转置卷积一次放大到原尺寸。
# `bilinear_upsampling` 把权重 `[in, out, size, size]` 的对角线设为三角形核，起初每个类别只由自己放大。
#
# `dice_loss` 把类别放在第一轴，其余全部展平，得到 `[num_classes, 批内像素]`，于是每个求和都对像素进行。
# `confusion_matrix` 给每一对（真实类别，预测类别）一个编号，再数各编号的个数。

# %% [markdown]
# ## Experiment: what a stride costs · 实验：步幅的代价

# %% [markdown] lang="en"
# The pictures are drawn, so that every pixel's class is known exactly: red cells that touch, white cells with a nucleus,
# platelets three to five pixels wide. First no network at all, but a bound. Suppose that a classifier knew, for each block
# of 2, 4 or 8 pixels a side, the exact shares of the classes; they are enlarged bilinearly, and the largest wins.

# %% [markdown] lang="zh"
# 图是画出来的，所以每个像素的类别都准确已知：彼此相接的红细胞、带核的白细胞、三到五个像素宽的血小板。
# 先不用网络，只看上界：假设分类器对每个边长 2、4、8 像素的块都知道各类别的准确占比；双线性放大后取最大者。

# %%
quiz(
    "platelets at stride 8",
    en="What IoU can platelets reach at stride 8, with perfect knowledge of each block?",
    zh="步幅为 8 时，即使完全了解每个块，血小板的 IoU 最高能到多少？",
)
quiz(
    "recall",
    en="Trained with plain cross-entropy, 60 updates: how many of 100 platelet pixels are found?",
    zh="用普通交叉熵训练 60 次更新：100 个血小板像素能找到多少个？",
    choices={"none": "almost none · 几乎没有", "half": "about half · 大约一半", "most": "almost all · 几乎全部"},
)

# %%
train, test = draw_blood_scenes(120, 32, seed=0), draw_blood_scenes(100, 32, seed=1)
shares = torch.bincount(train.classes.flatten(), minlength=4) / train.classes.numel()
bounds = {
    stride: iou_per_class(confusion_matrix(coarse_to_fine_agreement(test.classes, stride, 4), test.classes, 4))
    for stride in (2, 4, 8)
}
table(
    ["", *CLASSES],
    [
        ("share of pixels", *shares.tolist()),
        *((f"best IoU at stride {stride}", *iou.tolist()) for stride, iou in bounds.items()),
    ],
)
settle("platelets at stride 8", bounds[8][PLATELET].item(), tolerance=0.05)

# %% [markdown] lang="en"
# Now networks: the same three stages, scored at stride 8 only, or with the skips from strides 4 and 2 as well. And because
# four pixels in a thousand are platelets, the one with skips is also trained with two other losses: cross-entropy with
# balanced weights, and the same plus the Dice loss. Three seeds each.

# %% [markdown] lang="zh"
# 现在用网络：同样的三个阶段，一种只在步幅 8 处打分，另一种加上步幅 4 和 2 的跳跃连接。
# 又因为千分之四的像素才是血小板，带跳跃连接的网络还用另外两种损失训练：按类别平衡加权的交叉熵，以及再加上 Dice 损失。
# 每种三个种子。

# %%
SEEDS, WIDTHS = (0, 1, 2), (8, 16, 32)
weights = balanced_class_weights(train.classes, 4)
LOSSES = {
    "cross-entropy": F.cross_entropy,
    "weighted": lambda logits, target: F.cross_entropy(logits, target, weight=weights),
    "weighted + Dice": lambda logits, target: (
        F.cross_entropy(logits, target, weight=weights) + dice_loss(logits, target)
    ),
}


def fit(network, images, target, loss, seed, updates, batch_size=8):
    """Trains in place with Adam and a one-cycle schedule, and returns the network ready to predict."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=updates)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        rows = torch.randint(0, len(images), (batch_size,), generator=generator)
        value = loss(network(images[rows] - 0.75), target[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def predict(network, images):
    return network(images - 0.75).argmax(dim=1)


networks = {}
for skips, name in ((0, "cross-entropy"), (2, "cross-entropy"), (2, "weighted"), (2, "weighted + Dice")):
    for seed in SEEDS:
        torch.manual_seed(seed)
        network = FCN(3, 4, WIDTHS, skips)
        networks[skips, name, seed] = fit(network, train.images, train.classes, LOSSES[name], seed, 60)
counted = {key: confusion_matrix(predict(network, test.images), test.classes, 4) for key, network in networks.items()}
rows = []
for key, counts in counted.items():
    recall = (counts[PLATELET, PLATELET] / counts[PLATELET].sum()).item()
    row = (pixel_accuracy(counts).item(), iou_per_class(counts).mean().item(), *iou_per_class(counts).tolist(), recall)
    rows.append((*key, *(round(value, 3) for value in row)))
table(["skips", "loss", "seed", "accuracy", "mIoU", *CLASSES, "platelet recall"], rows)


def scores(skips: int, name: str, score) -> list[float]:
    """The score of each seed."""
    return [float(score(counted[skips, name, seed])) for seed in SEEDS]


def mean_iou(counts):
    return iou_per_class(counts).mean()


def platelet_iou(counts):
    return iou_per_class(counts)[PLATELET]


def platelet_recall(counts):
    return counts[PLATELET, PLATELET] / counts[PLATELET].sum()


found = sum(scores(2, "cross-entropy", platelet_recall)) / len(SEEDS)
settle("recall", "none" if found < 0.2 else "half" if found < 0.8 else "most")

most = test.classes.eq(PLATELET).flatten(1).sum(dim=1).topk(3).indices
shown = [("picture", None), ("truth", test.classes[most])]
shown += [
    (f"{'two skips' if skips else 'no skip'},\n{name}", predict(networks[skips, name, 0], test.images[most]))
    for skips, name in ((0, "cross-entropy"), (2, "cross-entropy"), (2, "weighted"), (2, "weighted + Dice"))
]
figure, axes = plt.subplots(3, len(shown), figsize=(13, 6.8), layout="constrained")
for column, (name, maps) in enumerate(shown):
    axes[0, column].set_title(name, fontsize=10)
    for row, picture in enumerate(most.tolist()):
        if maps is None:
            axes[row, column].imshow(test.images[picture].permute(1, 2, 0).numpy())
        else:
            axes[row, column].imshow(maps[row].numpy(), vmin=0, vmax=3, cmap="viridis")
        axes[row, column].axis("off")
show(figure, "predictions")

# %% [markdown] lang="en"
# Scored at stride 8 alone, cells are blobs; the skips sharpen them with every seed. But the platelets are missing: a network
# that never says "platelet" loses four pixels in a thousand, and has better things to learn in 60 updates. Accuracy
# does not notice. Balanced weights turn this around: nearly all platelets are found, and much else is taken for one, since
# a false alarm now costs a hundredth of a miss. The Dice loss counts false alarms and misses in one quotient; added to the
# weights, it gives a better platelet IoU with every seed. (Alone, or with plain cross-entropy, it did not find the
# platelets reliably in so few updates: as long as they are predicted nowhere, its gradient is weak. Longer training
# changes these figures; what they show is the order in which things are learned.)

# %% [markdown] lang="zh"
# 只在步幅 8 处打分时，细胞是一团一团的；跳跃连接在每个种子上都使轮廓清晰。但血小板不见了：从不说“血小板”的网络只错千分之四的像素，
# 60 次更新里还有更值得学的东西。准确率察觉不到这一点。平衡的权重把情况倒过来：几乎所有血小板都找到了，
# 但很多别的东西也被当成血小板，因为误报的代价只有漏报的百分之一。Dice 损失把误报和漏报放进同一个分式；
# 加到加权交叉熵上，每个种子的血小板 IoU 都更好。（单独使用，或与普通交叉熵一起使用，在这么少的更新里它不能可靠地找到血小板：
# 只要哪里都还没有预测出它们，梯度就很弱。训练更久，这些数字会变；它们显示的是学习的先后次序。）

# %% [markdown]
# ## Experiment: to see far without a stride · 实验：没有步幅也看得远

# %% [markdown] lang="en"
# Rods of 12 pixels in grey, with a head that is red or blue. The class of the whole rod is the color of its head. Two
# networks with exactly as many weights, at full resolution throughout: four convolutions, dilated by 1, 1, 1, 1 or by 1, 2,
# 4, 4. A pixel at the tail can know its class only if the head is within its receptive field.

# %% [markdown] lang="zh"
# 12 像素长的灰色小棒，头部是红色或蓝色，整根小棒的类别由头部颜色决定。两个网络权重数完全相同，始终保持全分辨率：
# 四个卷积，空洞率为 1、1、1、1 或 1、2、4、4。尾部的像素只有在头部落入感受野时才可能知道自己的类别。

# %%
SIDE, LENGTH = 16, 12


def draw_rods(count: int, generator: torch.Generator):
    """Pictures [count, 3, 16, 16], classes and the distance of each rod's pixels from its head, 0 elsewhere."""
    images, classes = torch.full((count, 3, SIDE, SIDE), 0.75), torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    distances = torch.zeros(count, SIDE, SIDE)
    for picture in range(count):
        kind = picture % 2
        top, left = (int(torch.randint(1, SIDE - size, (1,), generator=generator)) for size in (3, LENGTH))
        rod = (picture, slice(top, top + 3), slice(left, left + LENGTH))
        images[picture, :, *rod[1:]] = 0.45
        images[picture, (0, 2)[kind], top : top + 3, left : left + 3] = 1.25
        classes[rod], distances[rod] = 1 + kind, torch.arange(float(LENGTH)).sub(2).clamp(min=0)
        if picture % 4 > 1:  # the head on the right
            images[picture], classes[picture] = images[picture].flip(2), classes[picture].flip(1)
            distances[picture] = distances[picture].flip(1)
    return images + 0.02 * torch.randn(images.shape, generator=generator), classes, distances


generator = torch.Generator().manual_seed(0)
rods, rod_classes, _ = draw_rods(200, generator)
new_rods, new_classes, distances = draw_rods(100, generator)
far = (new_classes > 0) & (distances >= 6)
right, last_trained = {}, {}
for dilations in fields:
    for seed in SEEDS:
        torch.manual_seed(seed)
        network = last_trained[dilations] = DilatedNetwork(3, 3, 8, dilations)
        fit(network, rods, rod_classes, F.cross_entropy, seed, 120, batch_size=16)
        correct = predict(network, new_rods) == new_classes
        right[dilations, seed] = (
            correct[(new_classes > 0) & ~far].float().mean().item(),
            correct[far].float().mean().item(),
        )
table(
    ["dilations", "receptive field", "seed", "right within 5 pixels of the head", "right 6 to 9 pixels from it"],
    [(dilations, int(fields[dilations]), seed, *right[dilations, seed]) for dilations, seed in right],
)

figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
axes[0].imshow(new_rods[0].permute(1, 2, 0).clamp(0, 1).numpy())
axes[0].set_title("a rod")
for dilations, network in last_trained.items():
    correct = predict(network, new_rods) == new_classes
    by_distance = [
        correct[(new_classes > 0) & (distances == pixels)].float().mean().item() for pixels in range(LENGTH - 2)
    ]
    axes[1].plot(by_distance, "o-", label=f"dilations {dilations}")
axes[1].set(title="share that is right", xlabel="pixels from the head", ylim=(0, 1.05))
axes[1].legend(loc="lower left")
for axis, dilations in zip(axes[2:], fields, strict=True):
    torch.manual_seed(0)
    influence = gradient_map(DilatedNetwork(3, 4, 8, dilations).eval(), torch.randn(8, 3, 41, 41), 20, 20)
    axis.imshow((influence / influence.max()).sqrt().numpy(), cmap="gray_r")
    axis.set_title(f"pixels that influence the center:\ndilations {dilations}", fontsize=10)
show(figure, "dilation")

# %% [markdown] lang="en"
# Beyond its field the plain network guesses, and no training will help. The dilated one knows. Nothing is free: between
# the weights lie pixels that a single layer does not see (*gridding*), which is why dilations grow step by step, and a
# map at full resolution costs time and memory in every layer. Networks such as DeepLab therefore use both: a stride of 8 or
# 16, then dilation.

# %% [markdown] lang="zh"
# 超出感受野，普通网络只能猜，训练再久也没用；空洞网络知道答案。但没有免费的午餐：权重之间的像素单独一层是看不到的（*网格效应*），
# 所以空洞率要逐层增长；而且全分辨率的特征图在每一层都费时间和内存。
# 因此 DeepLab 一类的网络两者并用：先用 8 或 16 的步幅，再用空洞卷积。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# scikit-learn calls IoU the Jaccard score, and Dice the F1 score; of pixels in a row they are the same. Its balanced
# class weights are ours. The upsampling layer is held against `F.interpolate`, away from the border, where torch repeats
# the last pixel. The gradient of the Dice loss is held against the formula above. The tests of this repository also hold
# the binary Dice loss against that of transformers, value and gradient.

# %% [markdown] lang="zh"
# scikit-learn 把 IoU 叫做 Jaccard 分数，把 Dice 叫做 F1 分数；对展平的像素来说它们完全一样。它的平衡类别权重与我们的相同。
# 上采样层与 `F.interpolate` 比较（边界除外，torch 在那里重复最后一个像素）。Dice 损失的梯度与上面的公式比较。
# 本仓库的测试还把二类 Dice 损失与 transformers 的实现比较，包括数值和梯度。

# %%
predicted = predict(networks[2, "weighted", 0], test.images)
flat = test.classes.flatten().numpy(), predicted.flatten().numpy()
counts = counted[2, "weighted", 0]
random = torch.Generator().manual_seed(0)
maps = torch.randn(1, 4, 6, 6, generator=random)
enlarged, expected = bilinear_upsampling(4, 8)(maps), F.interpolate(maps, scale_factor=8, mode="bilinear")
probability = torch.rand(1, 50, generator=random, dtype=torch.float64).requires_grad_()
marked = (torch.rand(1, 50, generator=random) < 0.2).double()
(by_autograd,) = torch.autograd.grad(binary_dice_loss(probability.logit(), marked, smooth=0.0), probability)
mass = (probability.sum() + marked.sum()).detach()
coefficient = (2 * (probability * marked).sum() / mass).detach()

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: accuracy, IoU and Dice", by_hand["2 × 3 pixels"], [0.875, 2 / 3, 0.8])
check_close("marking nothing has accuracy 0.75 and IoU 0", by_hand["nothing"], [0.75, 0, 0])
check_close("by hand: the tent of stride 2", bilinear_kernel(2).sum(dim=0) / 2, [0.25, 0.75, 0.75, 0.25])
check_close("by hand: receptive fields of 9 and 23", list(fields.values()), [9, 23])
check_close("IoU equals scikit-learn's", iou_per_class(counts), metrics.jaccard_score(*flat, average=None))
check_close("Dice equals scikit-learn's F1", dice_per_class(counts), metrics.f1_score(*flat, average=None))
check_close(
    "balanced weights equal scikit-learn's",
    weights,
    compute_class_weight("balanced", classes=np.arange(4), y=train.classes.flatten().numpy()),
)
check_close("upsampling begins as F.interpolate", enlarged[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8])
check_close("the gradient of the Dice loss is that of the formula", by_autograd, -(2 * marked - coefficient) / mass)
iou = iou_per_class(counts)
check_close("Dice is 2 IoU / (1 + IoU)", dice_per_class(counts), 2 * iou / (1 + iou))
check("at stride 8 platelets are lost even with perfect knowledge", bounds[8][PLATELET] < 0.1 < bounds[2][PLATELET])
without, with_skips = (scores(skips, "cross-entropy", mean_iou) for skips in (0, 2))
check(
    "skips raise mIoU by more than 0.04, with every seed",
    min(b - a for a, b in zip(without, with_skips, strict=True)) > 0.04,
)
check(
    "plain cross-entropy finds hardly a platelet, with any seed", max(scores(2, "cross-entropy", platelet_recall)) < 0.3
)
check("accuracy does not notice", min(scores(2, "cross-entropy", pixel_accuracy)) > 0.93)
check("balanced weights find most, with every seed", min(scores(2, "weighted", platelet_recall)) > 0.7)
check(
    "with the Dice loss added the platelet IoU is better, with every seed",
    all(
        b > a
        for a, b in zip(scores(2, "weighted", platelet_iou), scores(2, "weighted + Dice", platelet_iou), strict=True)
    ),
)
check(
    "beyond its field the plain network guesses, the dilated one knows, with every seed",
    max(right[(1, 1, 1, 1), seed][1] for seed in SEEDS) < 0.7
    and min(right[(1, 2, 4, 4), seed][1] for seed in SEEDS) > 0.9,
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The next lesson trains a U-Net, which brings back features instead of scores: `uv run lesson run 10/05`. Papers: [Long et
# al. 2015](https://arxiv.org/abs/1411.4038), fully convolutional networks; [Yu & Koltun
# 2016](https://arxiv.org/abs/1511.07122), dilation; [Milletari et al. 2016](https://arxiv.org/abs/1606.04797), V-Net and the
# Dice loss; [Chen et al. 2017](https://arxiv.org/abs/1706.05587), DeepLabv3.

# %% [markdown] lang="zh"
# 下一课训练 U-Net，它带回的是特征而不是分数：`uv run lesson run 10/05`。
# 论文：[Long 等 2015](https://arxiv.org/abs/1411.4038)，全卷积网络；
# [Yu 与 Koltun 2016](https://arxiv.org/abs/1511.07122)，空洞卷积；
# [Milletari 等 2016](https://arxiv.org/abs/1606.04797)，V-Net 与 Dice 损失；
# [Chen 等 2017](https://arxiv.org/abs/1706.05587)，DeepLabv3。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `binary_dice_loss`, `dice_loss` and `balanced_class_weights` yourself. `uv run lesson exercise 10/04` makes a file with
# their signatures, `uv run lesson check 10/04` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `binary_dice_loss`、`dice_loss` 和 `balanced_class_weights`。
# `uv run lesson exercise 10/04` 生成带有签名的文件，`uv run lesson check 10/04` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Logits become probabilities by the sigmoid (binary) or the softmax over axis 1 (classes).
# 2. `flatten(1)` leaves the batch alone: sums over axis 1 are then over the pixels of each picture.
# 3. With classes, bring the class axis to the front before flattening; `F.one_hot` puts it last.
# 4. `smooth` is added once above and once below, after the factor 2.
# 5. `torch.bincount(…, minlength=num_classes)` also counts classes that are absent.

# %% [markdown] lang="zh"
# 1. logits 变成概率：二类用 sigmoid，多类用沿第 1 轴的 softmax。
# 2. `flatten(1)` 保留批次轴：沿第 1 轴求和就是对每张图的像素求和。
# 3. 多类时先把类别轴移到最前再展平；`F.one_hot` 把它放在最后。
# 4. `smooth` 在分子、分母各加一次，加在乘 2 之后。
# 5. `torch.bincount(…, minlength=num_classes)` 也会数没有出现的类别。


# %%
@exercise(binary_dice_loss, dice_loss, balanced_class_weights)
def judge(yours, reference):
    random = torch.Generator().manual_seed(7)
    logits = torch.randn(3, 6, 5, generator=random, dtype=torch.float64).requires_grad_()
    target = (torch.rand(3, 6, 5, generator=random) < 0.3).double()
    for smooth in (1.0, 0.1):
        mine, theirs = (each.binary_dice_loss(logits, target, smooth) for each in (yours, reference))
        check_close(f"binary_dice_loss with smooth={smooth}", mine, theirs, 1e-8)
        gradients = [torch.autograd.grad(loss, logits)[0] for loss in (mine, theirs)]
        check_close(f"its gradient with smooth={smooth}", *gradients, 1e-8)
    nothing = torch.full((1, 4, 4), -50.0, dtype=torch.float64)
    check_close("of nothing found where nothing is, the loss is 0", yours.binary_dice_loss(nothing, nothing * 0), 0.0)
    try:
        yours.binary_dice_loss(logits, target[:2])
        refused = False
    except ValueError:
        refused = True
    check("other shapes raise ValueError", refused)

    scores = torch.randn(2, 4, 6, 5, generator=random, dtype=torch.float64).requires_grad_()
    classes = torch.randint(0, 3, (2, 6, 5), generator=random)  # class 3 is absent
    mine, theirs = (each.dice_loss(scores, classes) for each in (yours, reference))
    check("dice_loss is a scalar", mine.shape == ())
    check_close("dice_loss", mine, theirs, 1e-8)
    check_close("its gradient", *(torch.autograd.grad(loss, scores)[0] for loss in (mine, theirs)), 1e-8)

    mine, theirs = (each.balanced_class_weights(classes, 3) for each in (yours, reference))
    check_close("balanced_class_weights", mine, theirs)
    try:
        yours.balanced_class_weights(classes, 4)
        refused = False
    except ValueError:
        refused = True
    check("a class without pixels raises ValueError", refused)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is pixel accuracy a poor score? · 为什么像素准确率不是好的指标？

# %% [markdown] lang="en"
# Each pixel counts the same, so that large classes decide. A constant answer reaches the share of the largest class, and a
# class of four pixels in a thousand can be missed altogether for 0.4 points. mIoU gives each class the same weight,
# and punishes both what is missed and what is invented.

# %% [markdown] lang="zh"
# 每个像素权重相同，于是大类说了算。恒定的答案就能达到最大类的占比，而占千分之四的类别全漏掉也只损失 0.4 个百分点。
# mIoU 给每个类别相同的权重，漏报和误报都会受罚。

# %%
constant = confusion_matrix(torch.zeros_like(test.classes), test.classes, 4)
print(f"  always background: accuracy {pixel_accuracy(constant):.1%}, mIoU {iou_per_class(constant).mean():.1%}")

# %% [markdown]
# ### How do IoU and Dice differ? · IoU 和 Dice 有什么区别？

# %% [markdown] lang="en"
# For one class they rank all predictions alike, since Dice = 2 IoU / (1 + IoU) grows with IoU; Dice is the larger number.
# Averages over classes or pictures can differ in rank, because the map between them is not linear: IoU punishes bad
# cases more. Report which one, and whether counts were summed over the data set before dividing (as mIoU does) or scores
# were averaged over pictures.

# %% [markdown] lang="zh"
# 对单个类别，两者的排序相同，因为 Dice = 2 IoU / (1 + IoU) 随 IoU 递增，只是 Dice 数值更大。
# 对类别或图片取平均后排序可能不同，因为两者的关系不是线性的：IoU 对差的情形罚得更重。
# 报告时要说明用的是哪一个，以及是先在整个数据集上累加计数再相除（mIoU 的做法），还是对各图的分数取平均。

# %%
for value in (0.2, 0.5, 0.9):
    print(f"  IoU {value}: Dice {2 * value / (1 + value):.3f}")

# %% [markdown]
# ### Why a transposed convolution, if it begins as bilinear interpolation anyway? · 既然初始就是双线性插值，为什么还用转置卷积？

# %% [markdown] lang="en"
# Because it may learn another kernel, and begins at one that makes sense. With a random kernel the output begins with a
# pattern of squares, above all where the stride does not divide the kernel size. Long et al. kept the last layer fixed
# at bilinear; many networks now interpolate and then convolve, which cannot make that pattern.

# %% [markdown] lang="zh"
# 因为它可以学到别的核，而起点是合理的。随机核一开始就会产生方格图案，步幅不能整除核大小时尤其明显。
# Long 等人把最后一层固定为双线性；现在许多网络先插值再卷积，不会产生这种图案。

# %%
flat_map, random_layer = torch.ones(1, 1, 6, 6), torch.nn.ConvTranspose2d(1, 1, 4, 2, padding=1, bias=False)
for name, layer in (("bilinear", bilinear_upsampling(1, 2)), ("random", random_layer)):
    print(f"  a constant map through {name} weights: standard deviation {layer(flat_map)[..., 3:-3, 3:-3].std():.3f}")

# %% [markdown]
# ### What does dilation give, and what does it cost? · 空洞卷积带来什么，代价是什么？

# %% [markdown] lang="en"
# A wider field with the same weights and no loss of resolution; with dilations that double, it grows exponentially with
# depth. It costs memory and time, since maps stay large, and one layer sees a sparse grid: if all layers have the same
# dilation, neighboring pixels never meet.

# %% [markdown] lang="zh"
# 权重不变、分辨率不降，感受野变宽；空洞率逐层加倍时，随深度指数增长。代价是内存和时间，因为特征图一直很大；
# 而且单独一层看到的是稀疏网格：如果各层空洞率都相同，相邻像素永远不会相遇。

# %%
for dilations in ((1, 2, 4, 8), (2, 2, 2, 2)):
    torch.manual_seed(0)
    influence = gradient_map(DilatedNetwork(1, 2, 8, dilations).eval(), torch.randn(8, 1, 41, 41), 20, 20)
    size = int(receptive_fields(DilatedNetwork(1, 2, 8, dilations), (1, 64, 64))[""].rows.size)
    print(f"  dilations {dilations}: field {size}×{size}, of which {(influence > 0).sum() / size**2:.0%} is seen")

# %% [markdown]
# ### One class has four pixels in a thousand. What do you do? · 某一类只占千分之四的像素，怎么办？

# %% [markdown] lang="en"
# First measure it by itself: recall, precision, IoU. Then change the loss: class weights (recall rises, precision falls,
# and weights can be tempered), a Dice term beside cross-entropy, or a focal loss; or the sampling: crops around the rare
# class. Last, move its threshold on validation data. Check the stride first, for what is smaller than it cannot be
# drawn whatever the loss.

# %% [markdown] lang="zh"
# 先单独衡量它：召回率、精确率、IoU。再改损失：类别权重（召回升、精确率降，权重可以调温和些）、
# 在交叉熵旁加 Dice 项、或 focal 损失；或者改采样：围绕稀有类别裁剪。最后在验证数据上调整它的阈值。
# 首先要检查步幅：比步幅还小的东西，用什么损失都画不出来。

# %%
for name in LOSSES:
    recalls, ious = scores(2, name, platelet_recall), scores(2, name, platelet_iou)
    print(f"  {name}: platelet recall {np.mean(recalls):.2f}, IoU {np.mean(ious):.2f}")

# %% [markdown]
# ### Why is the Dice loss rarely used alone? · Dice 损失为什么很少单独使用？

# %% [markdown] lang="en"
# Its gradient is the same kind of number for all pixels of a class, divided by the whole predicted mass: weak while a
# class is spread thinly, and with little to say which pixel is most wrong, while cross-entropy grows without bound for a
# confident mistake. For a class that is absent it depends on `smooth` alone. The sum of both has the steady gradient of
# the one and the balance of the other.

# %% [markdown] lang="zh"
# 对同一类的所有像素，它的梯度都差不多，再除以预测的总量：类别还稀薄散布时很弱，也说不清哪个像素错得最厉害；
# 而交叉熵对自信的错误没有上限。类别不存在时，它只取决于 `smooth`。两者相加，既有前者的均衡，又有后者稳定的梯度。

# %%
for spread in (0.5, 0.05, 0.005):
    p = torch.full((1, 1000), spread, dtype=torch.float64).requires_grad_()
    y = torch.zeros(1, 1000, dtype=torch.float64)
    y[0, :4] = 1
    (gradient,) = torch.autograd.grad(binary_dice_loss(p.logit(), y), p)
    print(f"  predicted {spread} everywhere: gradient at a pixel of the class {gradient[0, 0]:.4f}")
