# %% [markdown]
# # YOLOv8: a detector without anchor boxes · YOLOv8：不用锚框的检测器

# %% [markdown] lang="en"
# After this lesson you can say what each YOLO from v1 to v8 changed, decode YOLOv8's outputs by hand, write the distribution
# focal loss and the task-aligned assignment, and train a small YOLOv8 in a few seconds. You need IoU, CIoU and non-maximum
# suppression (10/01) and convolutional networks with residual connections (05/07).

# %% [markdown] lang="zh"
# 学完本课，你能说出 YOLO 从 v1 到 v8 每一版改了什么，能手算解码 YOLOv8 的输出，能写出分布焦点损失和任务对齐分配，
# 并能在几秒内训练一个小的 YOLOv8。先修：IoU、CIoU 和非极大值抑制（10/01），带残差连接的卷积网络（05/07）。

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.runtime.data.scene_objects import OBJECTS
from dlcommon.runtime.data.shapes import Points
from dlcommon.vision.anchor_points import boxes_to_distances, distances_to_boxes, make_anchor_points
from dlcommon.vision.boxes import box_iou
from dlcommon.vision.distribution_focal_loss import distribution_focal_loss, expected_distance
from dlcommon.vision.suppression import batched_nms
from dlcommon.vision.task_aligned_assignment import (
    Targets,
    pad_targets,
    points_inside,
    target_scores,
    task_aligned_assignment,
)
from dlcommon.vision.yolo_loss import YoloLoss
from dlcommon.vision.yolo_v8 import SCALES, STRIDES, Scale, YoloV8
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A picture holds an unknown number of objects, but a convolutional network gives a fixed number of outputs. So a one-stage
# detector lets every cell of its feature maps say something: how sure it is of each class, and a box. That raises two
# questions. How should a cell state a box? And in training: there are 8,400 cells and three objects; which cells
# should be taught to find which object, and what should the others say?
#
# The answers changed from version to version. YOLOv1 to v8 in one picture each:

# %% [markdown] lang="zh"
# 一张图片里的物体数量不定，卷积网络的输出数量却是固定的。于是单阶段检测器让特征图的每个格子都发言：
# 每个类别有多大把握，以及一个框。由此产生两个问题。格子该怎样表示一个框？
# 训练时，有 8,400 个格子和三个物体：该教哪些格子去找哪个物体，其余格子又该说什么？
#
# 每一版的回答都不同。YOLOv1 到 v8，每版一张图：


# %%
def grid(axis, count: int, left: float = 0, width: float = 8) -> None:
    """Draws a square of count × count cells."""
    for line in np.linspace(0, width, count + 1):
        axis.plot([left, left + width], [line, line], color="0.75", linewidth=0.8)
        axis.plot([left + line, left + line], [0, width], color="0.75", linewidth=0.8)


def outline(axis, left: float, bottom: float, width: float, height: float, color: str, **style) -> None:
    axis.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=color, linewidth=2, **style))


def shade(axis, left: float, bottom: float, width: float, height: float, color: str = "tab:orange") -> None:
    axis.add_patch(Rectangle((left, bottom), width, height, color=color, alpha=0.45, linewidth=0))


def arrow(axis, start: tuple[float, float], end: tuple[float, float], color: str = "black") -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color})


figure, axes = plt.subplots(2, 4, figsize=(15, 8), layout="constrained")
for axis, title in zip(
    axes.flat,
    (
        "v1, 2016: the cell of the center\npredicts the box and one class",
        "v2, 2017: offsets from anchor boxes,\nfound by clustering the data's boxes",
        "v3, 2018: three feature maps, for\nsmall, middle and large objects",
        "v4, 2020: information goes up and\ndown again (PANet); mosaic pictures",
        "v5, 2020: two neighboring cells\nlearn the object as well",
        "v6, 2022: branches in training,\nfused to one 3×3 convolution after it",
        "v7, 2022: predictions decide who\nlearns, coarsely for an auxiliary head",
        "v8, 2023: no anchor boxes; distributions\nof four distances, aligned assignment",
    ),
    strict=True,
):
    axis.set(xlim=(-0.3, 8.3), ylim=(-0.3, 8.3), aspect="equal")
    axis.set_title(title, fontsize=10)
    axis.axis("off")
flat = axes.flat
for number, axis in ((0, flat[0]), (1, flat[1]), (4, flat[4])):
    grid(axis, 7 if number == 0 else 8)
shade(flat[0], 3 * 8 / 7, 3 * 8 / 7, 8 / 7, 8 / 7)
outline(flat[0], 1.5, 2.2, 5.2, 3.6, "tab:blue")
shade(flat[1], 4, 4, 1, 1)
for width, height in ((1.5, 1.8), (3, 5), (5.5, 2.6), (6.8, 6.4)):
    outline(flat[1], 4.5 - width / 2, 4.5 - height / 2, width, height, "tab:red", linestyle="--")
flat[2].set(ylim=(-2.3, 6.3))
for left, width, count in ((0, 4, 8), (4.3, 2.4, 4), (7, 1.2, 2)):
    grid(flat[2], count, left, width)
shade(flat[2], 1, 2, 0.5, 0.5)
shade(flat[2], 5.5, 0.6, 0.6, 0.6, "tab:green")
shade(flat[2], 7, 0.6, 0.6, 0.6, "tab:blue")
for left in (0.3, 3.1, 5.9):
    for row, width in enumerate((1.8, 1.3, 0.8)):
        outline(flat[3], left + 0.9 - width / 2, 1 + 2.4 * row, width, 1.1, "0.4")
for left, low, high in ((1.2, 2.1, 3.4), (1.2, 4.5, 5.8), (6.8, 3.4, 2.1), (6.8, 5.8, 4.5)):
    arrow(flat[3], (left, low), (left, high))
for low, high in ((5.8, 4.5), (3.4, 2.1)):
    arrow(flat[3], (4.0, low), (4.0, high))
for row in range(3):
    arrow(flat[3], (2.1, 1.5 + 2.4 * row), (3.1, 1.5 + 2.4 * row), "0.5")
    arrow(flat[3], (4.9, 1.5 + 2.4 * row), (5.9, 1.5 + 2.4 * row), "0.5")
for left, bottom in ((4, 4), (5, 4), (4, 5)):
    shade(flat[4], left, bottom, 1, 1)
outline(flat[4], 2.0, 2.6, 5.4, 4.2, "tab:blue")
flat[4].plot(4.7, 4.7, "ko")
for place, name in ((1.4, "3×3"), (4.0, "1×1"), (6.6, "identity")):
    flat[5].text(place, 5, name, ha="center", bbox={"facecolor": "white", "edgecolor": "black"})
    arrow(flat[5], (4, 7.6), (place, 5.6))
    arrow(flat[5], (place, 4.5), (4, 3.3))
flat[5].text(4, 2.9, "+", ha="center", bbox={"facecolor": "0.88", "edgecolor": "black"})
flat[5].text(4, 0.6, "after training: one 3×3", ha="center", bbox={"facecolor": "white", "edgecolor": "tab:green"})
for place, name in ((1.8, "auxiliary\nhead"), (6.2, "lead\nhead")):
    flat[6].text(place, 6, name, ha="center", bbox={"facecolor": "white", "edgecolor": "black"})
flat[6].text(4, 2.4, "assignment by the\nlead head's predictions", ha="center", bbox={"facecolor": "0.88"})
arrow(flat[6], (6.2, 5.7), (4.6, 3.4))
arrow(flat[6], (3.4, 3.4), (1.8, 5.7), "tab:orange")
arrow(flat[6], (5.2, 3.4), (6.6, 5.7), "tab:green")
flat[6].text(0.4, 4.4, "many cells", color="tab:orange")
flat[6].text(6.3, 4.4, "few cells", color="tab:green")
grid(flat[7], 8)
outline(flat[7], 1.7, 2.2, 5.6, 3.8, "tab:blue")
flat[7].plot(4.5, 4.5, "ko")
for end in ((1.7, 4.5), (7.3, 4.5), (4.5, 2.2), (4.5, 6.0)):
    arrow(flat[7], (4.5, 4.5), end)
flat[7].bar([6.5, 6.9, 7.3, 7.7], [0.2, 0.8, 1.3, 0.4], width=0.32, bottom=4.5, color="tab:orange")
show(figure, "versions")

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *A box.* On the feature map of stride 8, the cell in column 2 and row 1 (counted from 0) has its center, the anchor point, at
# pixel $(2.5 \cdot 8, 1.5 \cdot 8) = (20, 12)$. It predicts the distances 1.5, 0.5, 2.5, 1 to the left, top, right and
# bottom edge, in strides. In pixels: 12, 4, 20, 8. So the box goes from $(8, 8)$ to $(40, 20)$.
#
# *A distance* is predicted as a distribution over bins 0, 1, 2, …, and read as its mean. With 0.6 on bin 2 and 0.4 on bin 3 it
# is $1.2 + 1.2 = 2.4$. If 2.3 is right, bin 2 should get 0.7 and bin 3 should get 0.3, since 2.3 is nearer to 2. The loss is the
# cross-entropy $-(0.7 \ln 0.6 + 0.3 \ln 0.4) = 0.358 + 0.275 = 0.632$.
#
# *Who learns?* Three cells lie inside an object. Their scores for its class are 0.25, 0.81, 0.04, and the CIoUs of their boxes
# 0.8, 0.5, 0.9. Alignment is $\sqrt{\text{score}} \cdot \text{CIoU}^6$: 0.131, 0.014, 0.106. The first is best aligned, although
# the second is surer and the third has the better box. The scores that they should learn are these values, scaled so that
# the largest becomes the best CIoU, 0.9: 0.900, 0.097, 0.730.

# %% [markdown] lang="zh"
# *一个框。* 在步长 8 的特征图上，第 2 列第 1 行的格子（从 0 数起）的中心，即锚点，
# 位于像素 $(2.5 \cdot 8, 1.5 \cdot 8) = (20, 12)$。它预测到左、上、右、下四条边的距离为 1.5、0.5、2.5、1（单位是步长）。
# 换成像素是 12、4、20、8，所以框从 $(8, 8)$ 到 $(40, 20)$。
#
# *一个距离*被预测成桶 0、1、2……上的分布，取它的均值。桶 2 上 0.6、桶 3 上 0.4，均值就是 $1.2 + 1.2 = 2.4$。
# 如果正确的是 2.3，桶 2 应得 0.7，桶 3 应得 0.3，因为 2.3 离 2 更近。
# 损失是交叉熵 $-(0.7 \ln 0.6 + 0.3 \ln 0.4) = 0.358 + 0.275 = 0.632$。
#
# *谁来学？* 三个格子落在一个物体内。它们对该类别的得分是 0.25、0.81、0.04，框的 CIoU 是 0.8、0.5、0.9。
# 对齐度是 $\sqrt{\text{得分}} \cdot \text{CIoU}^6$：0.131、0.014、0.106。
# 第一个对齐得最好，尽管第二个更有把握，第三个的框更准。
# 它们应学的得分就是这些值，放大到最大者等于最好的 CIoU 0.9：0.900、0.097、0.730。

# %%
points, strides = make_anchor_points([(4, 4)], [8], torch.zeros(1))
point = points[1 * 4 + 2]  # row 1, column 2
box = distances_to_boxes(point, 8 * torch.tensor([1.5, 0.5, 2.5, 1.0]))
print(f"  anchor point {point.tolist()}, box {box.tolist()}")

probabilities = torch.tensor([1e-9, 1e-9, 0.6, 0.4, 1e-9])
mean = expected_distance(probabilities.log(), torch.arange(5.0))
loss_by_hand = distribution_focal_loss(probabilities.log(), torch.tensor(2.3))
print(f"  mean distance {mean:.3f}, loss {loss_by_hand:.3f}")

score, overlap = torch.tensor([0.25, 0.81, 0.04]), torch.tensor([0.8, 0.5, 0.9])
alignment = score.sqrt() * overlap**6
wanted_scores = alignment * overlap.max() / alignment.max()
table(
    ["cell", "score", "CIoU", "alignment", "score to learn"],
    [
        (number, *(values[number].item() for values in (score, overlap, alignment, wanted_scores)))
        for number in range(3)
    ],
)

# %% [markdown]
# ## Formula · 公式
#
# $$d_e = \sum_{i=0}^{B-1} i \, P_e(i), \qquad P_e = \mathrm{softmax}(z_e), \qquad b = (a_x - S d_l,\; a_y - S d_t,\; a_x + S d_r,\; a_y + S d_b)$$
#
# $$\mathrm{DFL}(P, y) = -\big( (i + 1 - y) \log P(i) + (y - i) \log P(i + 1) \big), \qquad i = \lfloor y \rfloor$$
#
# $$t = s^\alpha u^\beta, \qquad \hat t = t \, \frac{\max u}{\max t}$$
#
# $$L = \frac{1}{N} \Big( \lambda_b \sum_{+} \hat t \, (1 - u) + \lambda_d \sum_{+} \hat t \, \frac14 \sum_{e} \mathrm{DFL}(P_e, y_e) + \lambda_c \sum_{\text{all}} \sum_c \mathrm{BCE}(s_c, q_c) \Big), \qquad N = \max\Big(1, \sum_+ \hat t\Big)$$

# %% [markdown] lang="en"
# - $a_x, a_y$: the anchor point, the center of a cell, in pixels; $S$: the stride of its feature map, 8, 16 or 32.
# - $e$: an edge, one of left, top, right, bottom ($l, t, r, b$); $z_e$: its logits, `[bins]`; $B$: the number of bins, 16.
# - $P_e(i)$: the probability that the edge lies $i$ strides away; $d_e$: the mean (Li et al. 2020, equation 5).
# - $y$: the true distance in strides, and $y_e$ that of edge $e$; $i$: the bin below it (Li et al. 2020, equation 6).
# - $s$: the predicted score of the object's class, after a sigmoid; $u$: the CIoU of the predicted box with the object's.
# - $t$: the alignment; $\alpha = 0.5$, $\beta = 6$ (Feng et al. 2021, section 3.2).
# - $\hat t$: the score to be learned; the maxima are taken over the cells of one object.
# - $+$: the positive cells: for each object, the 10 of highest $t$ among those whose anchor point lies inside it.
# - $s_c$: the score of class $c$; $q_c$: its target, $\hat t$ for the object's class, and 0 for all else.
# - $\lambda_b = 7.5$, $\lambda_d = 1.5$, $\lambda_c = 0.5$: the gains; $N$: the sum of all targets in the batch.
#
# There is no background class and no objectness: a cell that belongs to no object learns the score 0 for each class, and a cell
# that belongs to one learns as its score how good its box is. A point claimed by two objects goes to the one that it
# overlaps most. Nothing of the assignment is differentiated: it makes targets.

# %% [markdown] lang="zh"
# - $a_x, a_y$：锚点，即格子的中心，单位是像素；$S$：所在特征图的步长，8、16 或 32。
# - $e$：一条边，左、上、右、下之一（$l, t, r, b$）；$z_e$：它的 logits，`[bins]`；$B$：桶数，16。
# - $P_e(i)$：这条边在 $i$ 个步长之外的概率；$d_e$：均值（Li 等 2020，式 5）。
# - $y$：真实距离，单位是步长，$y_e$ 是边 $e$ 的；$i$：它下方的桶（Li 等 2020，式 6）。
# - $s$：对物体类别的预测得分，经过 sigmoid；$u$：预测框与物体框的 CIoU。
# - $t$：对齐度；$\alpha = 0.5$，$\beta = 6$（Feng 等 2021，第 3.2 节）。
# - $\hat t$：要学的得分；最大值在同一个物体的格子中取。
# - $+$：正样本格子：每个物体取锚点落在它内部的格子中 $t$ 最高的 10 个。
# - $s_c$：类别 $c$ 的得分；$q_c$：它的目标，物体的类别为 $\hat t$，其余全为 0。
# - $\lambda_b = 7.5$、$\lambda_d = 1.5$、$\lambda_c = 0.5$：各项的权重；$N$：一个批次中所有目标之和。
#
# 没有背景类，也没有 objectness：不属于任何物体的格子对每个类别都学得分 0，属于某个物体的格子则学“自己的框有多好”作为得分。
# 被两个物体同时要的点归它重叠最多的那个。分配的过程不求导，它只产生目标。

# %% [markdown]
# ## Code · 代码

# %%
source(distribution_focal_loss)
source(task_aligned_assignment)
source(YoloV8.feature_maps)
source(YoloLoss.__call__)

# %% [markdown] lang="en"
# `distribution_focal_loss` gathers two log-probabilities for each distance, `[..., 2]`, and weights them. In
# `task_aligned_assignment` all tensors are `[batch, objects, anchors]`, but CIoU is computed only for pairs where the point lies
# inside the object, taken out by `nonzero` and put back by `index_put`. `topk` along the anchors chooses for each object; the
# maximum along the objects settles what several claim. There is no loop over pictures or boxes.
#
# `feature_maps` is the whole wiring: the backbone's layers 0 to 9 halve the picture five times; two steps up bring what coarse
# cells know to the fine ones, two steps down bring exact edges back. `YoloLoss` computes the classes' loss for all anchors and
# the other two for the positive ones only, `[positives]`, weighted by the score that each is to learn.

# %% [markdown] lang="zh"
# `distribution_focal_loss` 为每个距离取出两个对数概率 `[..., 2]`，再加权。
# 在 `task_aligned_assignment` 中所有张量都是 `[batch, objects, anchors]`，
# 但 CIoU 只对点落在物体内部的配对计算：用 `nonzero` 取出，用 `index_put` 放回。
# 沿锚点的 `topk` 为每个物体挑选，沿物体的最大值裁定被多个物体同时要的点。没有对图片或框的循环。
#
# `feature_maps` 就是全部连线：骨干网络的第 0 到 9 层把图片缩小五次一半；向上两步把粗格子知道的带给细格子，
# 向下两步把精确的边缘带回来。`YoloLoss` 对所有锚点计算类别损失，另外两项只对正样本 `[positives]` 计算，
# 并以各自要学的得分加权。

# %% [markdown]
# ## Experiment: what a distribution learns · 实验：分布学到什么

# %% [markdown] lang="en"
# Logits over 8 bins learn by gradient descent. In one case the edge lies at 2.3 each time. In the other the label changes: half of
# the annotators put the edge at 2, half at 5 (an object partly hidden).

# %% [markdown] lang="zh"
# 8 个桶上的 logits 用梯度下降学习。一种情况下边总在 2.3 处。另一种情况下标注不一致：
# 一半标注者把边放在 2，一半放在 5（物体被遮住一部分）。

# %%
quiz(
    "floor",
    en="Every edge lies at exactly 2.3, and the network knows it. How low can the distribution focal loss get?",
    zh="所有的边都恰好在 2.3，网络也知道。分布焦点损失最低能降到多少？",
)
quiz(
    "wider",
    en="YOLOv8s has twice the channels of YOLOv8n, and equally many layers. How many times the parameters?",
    zh="YOLOv8s 的通道数是 YOLOv8n 的两倍，层数相同。参数量是几倍？",
)

# %%
learned = {}
for name, distances in (("always 2.3", torch.tensor([2.3, 2.3])), ("2 or 5", torch.tensor([2.0, 5.0]))):
    logits = torch.zeros(8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = distribution_focal_loss(logits.expand(2, 8), distances).mean()
        loss.backward()
        optimizer.step()
    learned[name] = (logits.detach().softmax(0), loss.item())
table(
    ["true distance", "loss", "mean", *(f"P({i})" for i in range(8))],
    [
        (name, loss, (p @ torch.arange(8.0)).item(), *(round(v, 2) for v in p.tolist()))
        for name, (p, loss) in learned.items()
    ],
)
settle("floor", learned["always 2.3"][1], tolerance=0.02)
with torch.device("meta"):  # shapes without memory
    parameters = {name: sum(p.numel() for p in YoloV8(80, SCALES[name]).parameters()) for name in "nsmlx"}
table(["scale", "parameters, 80 classes"], parameters.items())
settle("wider", parameters["s"] / parameters["n"], tolerance=0.15)

# %% [markdown] lang="en"
# The floor is the entropy of the pair (0.7, 0.3), not 0: the loss says how far the distribution is from the *best pair*, and its gradient
# vanishes there. In the second case the mean, 3.5, is where no one put the edge; but the distribution shows that there
# are two opinions, which a single number could not.

# %% [markdown] lang="zh"
# 下限是 (0.7, 0.3) 这一对的熵，而不是 0：损失衡量的是分布离*最佳的一对*有多远，到了那里梯度为零。
# 第二种情况下均值是 3.5，没有人把边放在那里；但分布显示有两种意见，单独一个数做不到这一点。

# %% [markdown]
# ## Experiment: a tiny YOLOv8 · 实验：一个很小的 YOLOv8

# %% [markdown] lang="en"
# Pictures of 64×64 pixels with one to three balloons, cars and fish (the drawings of the data set `colour-scenes`), boxes
# around what was drawn. The network is YOLOv8 at a sixteenth of its width, with 8 bins: 84 cells on maps of 8×8, 4×4 and 2×2. Three
# seeds learn, the first for 100 updates, the others for 40. The biases of the classes begin at −2 instead of the very low
# prior for large pictures, and the running averages of normalization follow faster, since the training is so short.

# %% [markdown] lang="zh"
# 64×64 像素的图片，其中有一到三个气球、汽车和鱼（数据集 `colour-scenes` 的图形），框围住画出的部分。
# 网络是宽度为十六分之一的 YOLOv8，8 个桶：8×8、4×4、2×2 的特征图共 84 个格子。
# 三个种子，第一个学 100 次更新，另外两个各学 40 次。由于训练极短，类别的偏置从 −2 开始，
# 而不是为大图片准备的极低先验；归一化的滑动平均也跟得更快。

# %%
SIZE, CLASSES, SEEDS, TRAIN = 64, ("balloon", "car", "fish"), (0, 1, 2), 256


def draw_scenes(count: int, seed: int) -> tuple[torch.Tensor, Targets]:
    """Draws pictures [count, 3, 64, 64] in 0 … 1, and the boxes around their objects."""
    random = np.random.default_rng(seed)

    def number(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, (count, 1, 1)).astype(np.float32)

    grid_line = np.arange(SIZE, dtype=np.float32) + 0.5
    x, y = grid_line[None, None, :], grid_line[None, :, None]
    waves = 0.05 * np.sin(number(0.1, 0.5) * x + number(-0.5, 0.5) * y + number(0, 6))
    canvas = (number(0.1, 0.4) + waves)[..., None] + 0.06 * random.standard_normal((count, 1, 1, 3))
    quarters = random.permuted(np.tile(np.arange(4), (count, 1)), axis=1)  # no two objects in one quarter
    objects = random.integers(1, 4, count)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for turn in range(3):
        quarter = quarters[:, turn, None, None]
        center_x, center_y = quarter % 2 * 32 + number(12, 20), quarter // 2 * 32 + number(12, 20)
        half, extra = number(11, 16), (number(0, 1), number(0, 1))
        colors, labels = random.uniform(0.3, 1, (4, count, 1, 1, 3)), random.integers(len(CLASSES), size=count)
        for label, name in enumerate(CLASSES):
            rows = np.flatnonzero((turn < objects) & (labels == label))
            at = Points(((x - center_x) / half)[rows], ((center_y - y) / half)[rows])
            covered = np.zeros((len(rows), SIZE, SIZE), bool)
            for distance, color in OBJECTS[name](at, (extra[0][rows], extra[1][rows])):
                cover = np.clip(0.5 - distance * half[rows], 0, 1)[..., None]
                canvas[rows] += cover * (colors[color][rows] - canvas[rows])
                covered |= distance < 0
            columns, lines = covered.any(1), covered.any(2)
            edges = (
                columns.argmax(1),
                lines.argmax(1),
                SIZE - columns[:, ::-1].argmax(1),
                SIZE - lines[:, ::-1].argmax(1),
            )
            found.append((rows, np.full(len(rows), label), np.stack(edges, 1)))
    canvas += 0.03 * random.standard_normal(canvas.shape)
    index, labels, boxes = (torch.from_numpy(np.concatenate(part)) for part in zip(*found, strict=True))
    images = torch.from_numpy(canvas.clip(0, 1).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    return images, pad_targets(index, labels, boxes.float(), count)


def tiny_yolo(seed: int) -> YoloV8:
    torch.manual_seed(seed)
    model = YoloV8(len(CLASSES), Scale(0.33, 1 / 16, 1024), bins=8)
    for name, parameter in model.named_parameters():
        if "cv3" in name and name.endswith("2.bias"):
            nn.init.constant_(parameter, -2.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return model


def learn(model: YoloV8, updates: int, seed: int) -> torch.Tensor:
    """Trains, and returns the loss of each update by term, [updates, 3]."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    generator, criterion, losses = torch.Generator().manual_seed(seed), YoloLoss(), []
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-2 * min((update + 1) / 10, 1.0, 2 - 2 * update / updates)
        rows = torch.randint(TRAIN, (16,), generator=generator)
        terms = criterion(model(images[rows]), Targets(*(each[rows] for each in targets)))
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(torch.stack(terms).detach())
    return torch.stack(losses)


@torch.no_grad()
def detect(model: YoloV8, pictures: torch.Tensor, threshold: float = 0.25) -> list[tuple[torch.Tensor, ...]]:
    """Returns boxes, scores and labels of each picture, duplicates removed."""
    predictions = model.eval()(pictures)
    answers = []
    for boxes, logits in zip(predictions.boxes, predictions.logits, strict=True):
        scores, labels = logits.sigmoid().max(1)
        sure = scores > threshold
        kept = batched_nms(boxes[sure], scores[sure], labels[sure], 0.5)
        answers.append((boxes[sure][kept], scores[sure][kept], labels[sure][kept]))
    return answers


def recall(answers: list[tuple[torch.Tensor, ...]], true: Targets) -> float:
    """Share of the objects for which a box of their class has an IoU of at least 0.5."""
    hits = []
    for number, (boxes, _, labels) in enumerate(answers):
        wanted, names = true.boxes[number][true.valid[number]], true.labels[number][true.valid[number]]
        good = (box_iou(wanted, boxes) >= 0.5) & (names[:, None] == labels[None])
        hits.extend(good.any(1).tolist())
    return sum(hits) / len(hits)


images, targets = draw_scenes(TRAIN, 0)
test_images, test_targets = draw_scenes(48, 1)
models = {seed: tiny_yolo(seed) for seed in SEEDS}
runs = {seed: learn(models[seed], 40 if seed else 100, seed) for seed in SEEDS}
untrained, model = tiny_yolo(0), models[0]
TERMS = ("box", "classes", "distances")
table(
    ["seed", *(f"{term}: updates 1–5 → 36–40" for term in TERMS)],
    [
        (seed, *(f"{first:.2f} → {last:.2f}" for first, last in zip(run[:5].mean(0), run[35:40].mean(0), strict=True)))
        for seed, run in runs.items()
    ],
)
answers = detect(model, test_images)
reached = recall(answers, test_targets)
print(f"  seed 0 after 100 updates: {reached:.0%} of the objects in 48 new pictures found (score > 0.25, IoU ≥ 0.5)")

figure, axes = plt.subplots(1, 5, figsize=(17, 3.6), layout="constrained")
COLORS = ("tab:red", "tab:cyan", "tab:olive")
for axis, number in zip(axes, range(4), strict=False):
    axis.imshow(test_images[number].permute(1, 2, 0).numpy(), extent=(0, SIZE, SIZE, 0))
    for left, top, right, bottom in test_targets.boxes[number][test_targets.valid[number]].tolist():
        outline(axis, left, top, right - left, bottom - top, "white", linestyle=":")
    for (left, top, right, bottom), sure, label in zip(*(each.tolist() for each in answers[number]), strict=True):
        outline(axis, left, top, right - left, bottom - top, COLORS[label])
        axis.text(
            left,
            max(top - 1, 5),
            f"{CLASSES[label]} {sure:.2f}",
            fontsize=8,
            bbox={"facecolor": COLORS[label], "pad": 1},
        )
    axis.set(title=f"new picture {number + 1}", xlim=(0, SIZE), ylim=(SIZE, 0))
    axis.axis("off")
for term, values in zip(TERMS, runs[0].T, strict=True):
    axes[4].plot(values, label=term)
axes[4].set(yscale="log", xlabel="update", title="loss by term, seed 0")
axes[4].legend()
show(figure, "detections")

# %% [markdown] lang="en"
# All three terms fall, with every seed. Now look at who learns, before and after. Untrained, the scores and boxes are
# arbitrary, and yet each object has its cells, since at least the points inside it are known. Later a few
# cells with good boxes are taught high scores. (The training is far from finished: where two classes are drawn on one
# object, it cannot tell them apart yet, and suppression works within a class only.)

# %% [markdown] lang="zh"
# 三项损失都下降，每个种子都是如此。再看训练前后是谁在学。未训练时得分和框都是任意的，
# 但每个物体仍有自己的格子，因为至少知道哪些点在它里面。后来少数框得准的格子被教以高分。
# （训练远未完成：同一个物体上画了两个类别的地方，它还分不清，而抑制只在同一类别内进行。）

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
shown = 2  # the number of the picture
mean_strength = {}
for axis, (name, network) in zip(axes, {"untrained": untrained, "after 100 updates": model}.items(), strict=True):
    with torch.no_grad():
        found = network.eval()(test_images)
    assigned = task_aligned_assignment(found.logits.sigmoid(), found.boxes, found.points, test_targets)
    mean_strength[name] = assigned.strengths[assigned.positive].mean().item()
    axis.imshow(test_images[shown].permute(1, 2, 0).numpy(), extent=(0, SIZE, SIZE, 0))
    for left, top, right, bottom in test_targets.boxes[shown][test_targets.valid[shown]].tolist():
        outline(axis, left, top, right - left, bottom - top, "white", linestyle=":")
    x, y = found.points.T
    axis.scatter(x, y, s=6, color="black")
    positive = assigned.positive[shown]
    marks = axis.scatter(
        x[positive], y[positive], s=90, c=assigned.strengths[shown][positive], vmin=0, vmax=1, edgecolors="white"
    )
    axis.set(title=f"{name}: {positive.sum()} of 84 points assigned")
    axis.axis("off")
figure.colorbar(marks, ax=axes, label="score to learn")
show(figure, "assignment")
print(f"  mean score to learn, all positive points: { ({k: round(v, 3) for k, v in mean_strength.items()}) }")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# PyTorch's cross-entropy takes probabilities as targets: with a two-bin target it must be the distribution focal loss, value and
# gradient; binary cross-entropy of all cells is `F.binary_cross_entropy_with_logits` already. The published parameter counts are
# 3,157,200 (n), 11,166,560 (s), 25,902,640 (m).
#
# The reference for the whole is ultralytics' own package. It is under AGPL-3.0, and this course is under Apache-2.0, so that the code here
# was written from the architecture, and the package is installed for tests only. The tests load its weights into our network by
# name and find equal outputs, equal assignments, equal loss, and equal gradients of every weight
# (`packages/common/tests/test_vision_yolo_v8.py`).

# %% [markdown] lang="zh"
# PyTorch 的交叉熵可以用概率作目标：目标放在两个桶上时，它必须等于分布焦点损失，数值和梯度都是；
# 所有格子的二元交叉熵本来就是 `F.binary_cross_entropy_with_logits`。
# 公布的参数量是 3,157,200（n）、11,166,560（s）、25,902,640（m）。
#
# 整体的参照是 ultralytics 自己的包。它的许可证是 AGPL-3.0，而本课程是 Apache-2.0，
# 所以这里的代码是按架构自己写的，那个包只为测试而安装。
# 测试（`packages/common/tests/test_vision_yolo_v8.py`）按名字把它的权重载入我们的网络，
# 并验证输出、分配、损失以及每个权重的梯度都相等。

# %%
random = torch.Generator().manual_seed(0)
logits = torch.randn(40, 16, generator=random, dtype=torch.float64, requires_grad=True)
distances = 14.9 * torch.rand(40, generator=random, dtype=torch.float64)
two_bins = (1 - (distances[:, None] - torch.arange(16)).abs()).clamp(min=0)  # [40, bins]: shares of the two bins around
ours = distribution_focal_loss(logits, distances)
theirs = F.cross_entropy(logits, two_bins, reduction="none")
our_gradient, their_gradient = (torch.autograd.grad(each.square().sum(), logits)[0] for each in (ours, theirs))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the box from (8, 8) to (40, 20)", box, [8.0, 8, 40, 20])
check_close("and back: the distances", boxes_to_distances(point, box) / 8, [1.5, 0.5, 2.5, 1.0])
check_close("by hand: mean 2.4 and loss 0.632", [mean.item(), loss_by_hand.item()], [2.4, 0.6325], 1e-3)
check_close("by hand: the scores to learn", wanted_scores, [0.9, 0.0965, 0.7298], 1e-3)
check_close("distribution focal loss equals torch's cross-entropy with two bins", ours, theirs, 1e-10)
check_close("so does its gradient", our_gradient, their_gradient, 1e-10)
check(
    "the published numbers of parameters",
    [parameters[name] for name in "nsm"] == [3_157_200, 11_166_560, 25_902_640],
)
check_close(
    "the loss of an exact distribution is its entropy",
    learned["always 2.3"][1], -(0.7 * math.log(0.7) + 0.3 * math.log(0.3)), 1e-3,
)  # fmt: skip
check("two opinions give two peaks", learned["2 or 5"][0][[2, 5]].min() > 0.4)
check(
    "all three terms of the loss fall, with every seed",
    all((run[35:40].mean(0) < 0.75 * run[:5].mean(0)).all() for run in runs.values()),
)
check("points that are assigned lie inside their object, or the object is smaller than a cell's neighborhood", bool(
    points_inside(found.points, test_targets.boxes, 16.0)
    .gather(1, assigned.objects[:, None]).squeeze(1)[assigned.positive].all()
))  # fmt: skip
check("no point is assigned to padding", test_targets.valid.gather(1, assigned.objects)[assigned.positive].all())
check("training raises the scores to be learned", mean_strength["after 100 updates"] > mean_strength["untrained"])

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `dlcommon.vision` holds the network, the assignment and the loss for any data with boxes, such as the blood cells of BCCD
# (`uv run data list` says where it lies). The capstone `yolo-detector` trains exactly this on them, from scratch:
# `uv run --package yolo-detector train --max-minutes 5`. At work one trains the published weights further; what you have
# written here is what that training does.
#
# Papers: [Redmon et al. 2016](https://arxiv.org/abs/1506.02640), YOLO; [Redmon and Farhadi
# 2018](https://arxiv.org/abs/1804.02767), YOLOv3; [Tian et al. 2019](https://arxiv.org/abs/1904.01355), distances instead of anchor
# boxes; [Li et al. 2020](https://arxiv.org/abs/2006.04388), distribution focal loss; [Feng et al.
# 2021](https://arxiv.org/abs/2108.07755), task alignment. YOLOv8 itself has no paper, only [its
# documentation](https://docs.ultralytics.com/models/yolov8). Next: detectors that look twice, `uv run lesson run 10/03`.

# %% [markdown] lang="zh"
# `dlcommon.vision` 里有网络、分配和损失，可用于任何带框的数据，例如 BCCD 血细胞（`uv run data list` 会说明它在哪里）。
# 实战项目 `yolo-detector` 就用它们从零训练这个网络：`uv run --package yolo-detector train --max-minutes 5`。
# 工作中通常在公布的权重上继续训练；你在这里写的就是那种训练所做的事。
#
# 论文：[Redmon 等 2016](https://arxiv.org/abs/1506.02640)，YOLO；[Redmon 和 Farhadi 2018](https://arxiv.org/abs/1804.02767)，YOLOv3；
# [Tian 等 2019](https://arxiv.org/abs/1904.01355)，用距离代替锚框；[Li 等 2020](https://arxiv.org/abs/2006.04388)，分布焦点损失；
# [Feng 等 2021](https://arxiv.org/abs/2108.07755)，任务对齐。YOLOv8 本身没有论文，只有[文档](https://docs.ultralytics.com/models/yolov8)。
# 下一课：看两遍的检测器，`uv run lesson run 10/03`。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `points_inside`, `task_aligned_assignment` and `target_scores` yourself. `uv run lesson exercise 10/02` makes a file
# with their signatures, `uv run lesson check 10/02` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `points_inside`、`task_aligned_assignment` 和 `target_scores`。
# `uv run lesson exercise 10/02` 生成带有签名的文件，`uv run lesson check 10/02` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. A point is inside if its distance to the center is less than half of the side, in x and in y. Lengthen short sides with
#    `.clamp(min=min_side / 2)` on the halves. `points - center[..., None, :]` is `[batch, objects, anchors, 2]`.
# 2. Begin with dense tensors: the score of each object's class at each anchor, `[batch, objects, anchors]`, by indexing;
#    the CIoU of every pair as `1 - ciou_loss(boxes[:, None], targets.boxes[:, :, None])`, clamped at 0. Set both to 0 where a
#    point is no candidate: not inside, or a row of padding.
# 3. `topk(...).indices` along the anchors; `zeros.scatter(-1, indices, True)` makes a mask of them. It can hold points that are no
#    candidates, where an object has fewer than `top_k`: cut with the mask of candidates.
# 4. Where the mask has more than one object for a point, replace the column by the one-hot of the object that overlaps most.
# 5. The maxima of the scores to learn are over the chosen points only: multiply by the mask first, and add `1e-9` below.

# %% [markdown] lang="zh"
# 1. 点到中心的距离在 x 和 y 上都小于边长的一半，它就在框内。用 `.clamp(min=min_side / 2)` 把过短的半边加长。
#    `points - center[..., None, :]` 的形状是 `[batch, objects, anchors, 2]`。
# 2. 先用稠密张量：用索引取出每个物体的类别在每个锚点上的得分 `[batch, objects, anchors]`；
#    所有配对的 CIoU 是 `1 - ciou_loss(boxes[:, None], targets.boxes[:, :, None])`，下限截到 0。
#    不是候选的点（不在框内，或是填充行）两者都设为 0。
# 3. 沿锚点取 `topk(...).indices`，用 `zeros.scatter(-1, indices, True)` 变成掩码。
#    物体的候选少于 `top_k` 个时，其中会混入不是候选的点：再与候选的掩码相与。
# 4. 掩码中一个点对应多个物体时，把这一列换成重叠最多的物体的 one-hot。
# 5. 要学的得分中的最大值只在选中的点上取：先乘以掩码，分母加 `1e-9`。


# %%
@exercise(points_inside, task_aligned_assignment, target_scores)
def judge(yours, reference):
    generator = torch.Generator().manual_seed(7)
    points, _ = make_anchor_points([(8, 8), (4, 4)], [8, 16], torch.zeros(1))
    corners = 40 * torch.rand(2, 3, 2, generator=generator)
    boxes = torch.cat((corners, corners + 3 + 30 * torch.rand(2, 3, 2, generator=generator)), dim=2)
    for side in (0.0, 16.0):
        mine, theirs = (each.points_inside(points, boxes, side) for each in (yours, reference))
        check("points_inside gives [batch, objects, anchors]", mine.shape == (2, 3, 80))
        check(f"points_inside, sides of at least {side:.0f} pixels", torch.equal(mine, theirs))

    labels = torch.tensor([[0, 2, 1], [1, 1, 0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    truth = Targets(labels, boxes, valid)
    near = boxes[:, torch.randint(2, (80,), generator=generator)]
    predicted = near + 3 * torch.randn(near.shape, generator=generator)
    predicted = torch.cat((predicted[..., :2], torch.maximum(predicted[..., 2:], predicted[..., :2] + 1)), dim=2)
    scores = torch.rand(2, 80, 3, generator=generator)
    for options in ({"top_k": 80}, {"top_k": 4}, {"top_k": 10, "alpha": 1.0, "beta": 2.0}):
        mine, theirs = (
            each.task_aligned_assignment(scores, predicted, points, truth, **options) for each in (yours, reference)
        )
        named = ", ".join(f"{name}={value}" for name, value in options.items())
        check(f"which points are positive: {named}", torch.equal(mine.positive, theirs.positive))
        positive = theirs.positive
        check(f"to which object they belong: {named}", torch.equal(mine.objects[positive], theirs.objects[positive]))
        check(f"the class to learn: {named}", torch.equal(mine.labels[positive], theirs.labels[positive]))
        check_close(f"the box to learn: {named}", mine.boxes[positive], theirs.boxes[positive])
        check_close(f"the strength, 0 where not positive: {named}", mine.strengths, theirs.strengths, 1e-4)
    mine, answer = (each.target_scores(theirs, 4) for each in (yours, reference))
    check_close("target_scores: the strength at the class, 0 elsewhere", mine, answer)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What does a detector gain by giving up anchor boxes? · 检测器不用锚框有什么好处？

# %% [markdown] lang="en"
# Fewer choices to make and fewer outputs: no clustering of the data's boxes, no sizes that fit one data set and not the next, one
# prediction for each cell instead of three to nine. Which feature map an object belongs to is left to the assignment. The price is
# that distances are bounded: with 16 bins a map reaches 15 strides in each direction, so that large objects must be
# found on the coarse map.

# %% [markdown] lang="zh"
# 要做的选择更少，输出也更少：不必对数据的框聚类，没有只适合某个数据集的尺寸，每个格子只做一个预测，而不是三到九个。
# 物体归哪张特征图交给分配去决定。代价是距离有上限：16 个桶时每个方向最多 15 个步长，所以大物体必须在粗的特征图上找。

# %%
table(["stride", "largest box in pixels"], [(stride, 2 * 15 * stride) for stride in STRIDES])

# %% [markdown]
# ### Why is a box's edge predicted as a distribution? · 为什么把框的边预测成分布？

# %% [markdown] lang="en"
# A regression with an L1 or IoU loss assumes one sharp value. Edges can be ambiguous: hidden, blurred, labelled differently. A
# distribution can be sharp or broad, and learning it as a classification gives well-scaled gradients. Only the mean is used in
# the end, so that it costs nothing at inference but a softmax.

# %% [markdown] lang="zh"
# 用 L1 或 IoU 损失做回归，等于假定只有一个确定的值。边可能是含糊的：被遮挡、模糊、标注不一致。
# 分布可以尖锐，也可以宽；当作分类来学，梯度的尺度也合适。最后只用均值，推理时的代价只是一次 softmax。

# %%
for name, (p, _) in learned.items():
    spread = (p @ (torch.arange(8.0) - p @ torch.arange(8.0)).square()).sqrt()
    print(f"  {name}: standard deviation of the distance {spread:.2f} strides")

# %% [markdown]
# ### What does task-aligned assignment repair? · 任务对齐分配修正了什么？

# %% [markdown] lang="en"
# When positives are chosen by geometry alone (IoU with an anchor box, the center's cell), the cell with the highest score need not
# be the one with the best box; then suppression keeps the surer, worse one. Alignment chooses cells by the product of both, and teaches a
# score that reflects the box's quality, so that sorting by score sorts by quality.

# %% [markdown] lang="zh"
# 如果只按几何来选正样本（与锚框的 IoU、中心所在的格子），得分最高的格子不一定是框最好的，抑制时就会留下更有把握却更差的框。
# 对齐用两者的乘积选格子，并教它以框的质量为得分，于是按得分排序就是按质量排序。

# %%
print(
    f"  surest cell: {score.argmax()}, best box: {overlap.argmax()}, best aligned: {alignment.argmax()} (by hand, above)"
)

# %% [markdown]
# ### YOLOv8 has no objectness. How does it say "nothing here"? · YOLOv8 没有 objectness，它怎样表示“这里什么也没有”？

# %% [markdown] lang="en"
# Each class has its own sigmoid, and a background cell is taught 0 for all of them. Objectness times class probability, as in
# v3 to v5, are two factors learned from different cells that need not agree; here one number is ranked, and it is the one that was
# trained. With a softmax, a cell would have to choose some class, or one would need a background class.

# %% [markdown] lang="zh"
# 每个类别各有一个 sigmoid，背景格子对所有类别都学 0。v3 到 v5 用 objectness 乘以类别概率，
# 这两个因子是从不同的格子学来的，未必一致；这里排序所用的就是训练过的那一个数。
# 如果用 softmax，格子就必须选某个类别，否则得另设一个背景类。

# %%
with torch.no_grad():
    everywhere = model.eval()(test_images).logits.sigmoid().max(2).values
print(f"  median of the highest score, positive cells {everywhere[assigned.positive].median():.2f},"
      f" the others {everywhere[~assigned.positive].median():.3f}")  # fmt: skip

# %% [markdown]
# ### Why does YOLOv8 still need non-maximum suppression? · 为什么 YOLOv8 仍然需要非极大值抑制？

# %% [markdown] lang="en"
# Because up to ten cells are taught to find the same object: that is what makes learning fast, and it makes duplicates. A
# detector without suppression must be taught one cell for each object (DETR's matching; YOLOv10 trains a second head with
# one-to-one assignment beside the first, and uses that head alone at inference).

# %% [markdown] lang="zh"
# 因为最多有十个格子被教去找同一个物体：这让学习变快，也造成重复。不用抑制的检测器，
# 必须一个物体只教一个格子（DETR 的匹配；YOLOv10 在原来的头之外再训练一个一对一分配的头，推理时只用后者）。

# %%
with torch.no_grad():
    predictions = model(test_images)
before = int((predictions.logits.sigmoid().max(2).values > 0.25).sum())
print(f"  48 pictures: {before} cells above 0.25, {sum(len(boxes) for boxes, _, _ in answers)} left after suppression,"
      f" {int(test_targets.valid.sum())} objects")  # fmt: skip

# %% [markdown]
# ### Why is the loss divided by the sum of the target scores? · 为什么损失要除以目标得分之和？

# %% [markdown] lang="en"
# Each positive is weighted by its target score, so the sum is an average over positives, weighted by how good they are; a picture with
# thirty objects does not count thirty times as much for each of its boxes. Early in training targets are small and so is
# the sum, which keeps gradients from vanishing; the bound of 1 keeps a batch without objects from dividing by 0.

# %% [markdown] lang="zh"
# 每个正样本以目标得分加权，除以总和就是按质量加权的平均；有三十个物体的批次不会让损失大三十倍。
# 训练初期目标很小，总和也小，这使梯度不至于消失；下限 1 使没有物体的批次不会除以 0。

# %%
nothing = pad_targets(torch.empty(0, dtype=torch.long), torch.empty(0), torch.empty(0, 4), 4)
terms = YoloLoss()(predictions._replace(**{
    name: getattr(predictions, name)[:4] for name in ("distributions", "boxes", "logits")
}), nothing)  # fmt: skip
print(
    f"  four pictures said to be empty: box {terms.box:.2f}, distances {terms.distances:.2f}, classes {terms.classes:.2f}"
)
