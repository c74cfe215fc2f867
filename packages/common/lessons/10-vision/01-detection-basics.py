# %% [markdown]
# # Object detection basics · 目标检测基础

# %% [markdown] lang="en"
# After this lesson you can measure how well two boxes agree (IoU), say why GIoU, DIoU and CIoU are better losses than IoU,
# turn many detections of one object into one (NMS), and compute by hand the number by which detectors are compared, mAP,
# under the rules of VOC and of COCO. You need tensors (03/02) and losses (03/05).

# %% [markdown] lang="zh"
# 学完本课，你能度量两个框有多一致（IoU），能说明 GIoU、DIoU、CIoU 为什么是比 IoU 更好的损失，
# 能把同一个物体的许多检测合并成一个（NMS），并能按 VOC 和 COCO 的规则手算出比较检测器所用的数：mAP。
# 先修：张量（03/02）和损失（03/05）。

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.vision.anchors import BELOW, BETWEEN, cell_anchors, grid_anchors, match_anchors
from dlcommon.vision.average_precision import (
    COCO_THRESHOLDS,
    average_precision,
    box_overlaps,
    class_average_precision,
    match_detections,
    match_detections_voc,
    mean_average_precision,
    precision_recall,
)
from dlcommon.vision.boxes import box_iou, clip_boxes, intersection_union
from dlcommon.vision.iou_losses import ciou_loss, diou_loss, giou_loss, iou_loss
from dlcommon.vision.suppression import nms, soft_nms
from matplotlib.patches import Rectangle
from sklearn.metrics import average_precision_score
from torch.nn import functional as F
from torchvision import ops

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A classifier names a picture. A doctor who counts blood cells needs more: how many are there, of which kind, and where? A
# detector answers with a list of boxes, each with a class and a score. That raises questions that a classifier never
# had. When is a box *right*, if it never fits to the pixel? What is to be done with ten boxes around one cell? And how is
# a list of unknown length graded, in which some boxes are wrong and some cells are missing?

# %% [markdown] lang="zh"
# 分类器给整张图片一个名字。数血细胞的医生要的更多：有多少个、是哪一种、在哪里？
# 检测器的回答是一串框，每个框带类别和得分。于是出现了分类器从未遇到的问题：框永远不会精确到像素，那么怎样才算*对*？
# 一个细胞周围有十个框怎么办？一串长度不定的框，有的错了，有的细胞漏了，该怎么打分？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Overlap.* Box A has the corners $(0, 0)$ and $(4, 4)$, box B $(2, 2)$ and $(6, 6)$. They share a square of side 2, area 4;
# together they cover $16 + 16 - 4 = 28$. Their IoU is $4 / 28 = 0.143$. The smallest box around both has area 36, of which
# 8 is empty: GIoU $= 0.143 - 8/36 = -0.079$. Their centers are $\sqrt 8$ apart, the diagonal of the surrounding box is
# $\sqrt{72}$: DIoU $= 0.143 - 8/72 = 0.032$. Both are squares, so that CIoU is equal to DIoU.
#
# *Average precision.* Four cells are there. A detector gives five boxes, by falling score: right, wrong, right, right,
# wrong. After 1, 2, … boxes the precision (share of boxes that are right) is 1, 1/2, 2/3, 3/4, 3/5; the recall (share of
# cells that are found) is 1/4, 1/4, 2/4, 3/4, 3/4. Now each precision is replaced by the best one at the same recall or
# more, since whoever wants recall 2/4 may as well take 3/4 with precision 3/4. That gives 1 up to recall 1/4, 3/4 up to
# recall 3/4, and 0 beyond it. The area under these steps: $1/4 \cdot 1 + 2/4 \cdot 3/4 = 0.625$. With 11 points, at recall
# 0, 0.1, …, 1: three of them see 1, five see 3/4, three see 0: $(3 + 3.75) / 11 = 0.614$.

# %% [markdown] lang="zh"
# *重叠*：框 A 的两角是 $(0, 0)$ 和 $(4, 4)$，框 B 是 $(2, 2)$ 和 $(6, 6)$。公共部分是边长 2 的正方形，面积 4；
# 合起来覆盖 $16 + 16 - 4 = 28$。IoU 是 $4 / 28 = 0.143$。包住两者的最小框面积 36，其中 8 是空的：GIoU $= 0.143 - 8/36 = -0.079$。
# 两个中心相距 $\sqrt 8$，外接框的对角线是 $\sqrt{72}$：DIoU $= 0.143 - 8/72 = 0.032$。两个都是正方形，所以 CIoU 等于 DIoU。
#
# *平均精度*：实际有四个细胞。检测器按得分从高到低给出五个框：对、错、对、对、错。
# 取前 1、2、……个框时，精确率（框中对的比例）是 1、1/2、2/3、3/4、3/5；召回率（细胞中被找到的比例）是 1/4、1/4、2/4、3/4、3/4。
# 然后把每个精确率换成召回率不低于它的最好的那个，因为想要召回率 2/4 的人不妨取召回率 3/4、精确率 3/4 的那一点。
# 于是召回率到 1/4 为止是 1，到 3/4 为止是 3/4，再往后是 0。阶梯下的面积：$1/4 \cdot 1 + 2/4 \cdot 3/4 = 0.625$。
# 用 11 个点（召回率 0、0.1、……、1）：三个点看到 1，五个看到 3/4，三个看到 0：$(3 + 3.75) / 11 = 0.614$。

# %%
a, b = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[2.0, 2.0, 6.0, 6.0]])
LOSSES = {"IoU": iou_loss, "GIoU": giou_loss, "DIoU": diou_loss, "CIoU": ciou_loss}
by_hand = {name: 1 - loss(a, b).item() for name, loss in LOSSES.items()}
table(list(by_hand), [list(by_hand.values())])
right = np.array([True, False, True, True, False])
precision, recall = precision_recall(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), right, objects=4)
areas_by_hand = {rule: average_precision(precision, recall, rule) for rule in ("voc-11", "all-points", "coco-101")}
table(["boxes taken", "precision", "recall"], list(zip(range(1, 6), precision.tolist(), recall.tolist(), strict=True)))
table(list(areas_by_hand), [list(areas_by_hand.values())])

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
axes[0].add_patch(Rectangle((0, 0), 6, 6, fill=False, linestyle="--", edgecolor="grey", label="enclosing box: 36"))
axes[0].add_patch(Rectangle((0, 0), 4, 4, alpha=0.4, facecolor="tab:blue", label="A: 16"))
axes[0].add_patch(Rectangle((2, 2), 4, 4, alpha=0.4, facecolor="tab:orange", label="B: 16"))
axes[0].plot([2, 4], [2, 4], "k.-", label="between the centers: √8")
axes[0].set(xlim=(-0.5, 6.5), ylim=(6.5, -0.5), aspect="equal", title="IoU 4/28, GIoU 4/28 − 8/36, DIoU 4/28 − 8/72")
axes[0].legend(fontsize=8, loc="lower left")
axes[1].plot(recall, precision, "o", color="black", label="after 1 to 5 boxes")
axes[1].step([0, 0.25, 0.75, 0.75, 1], [1, 1, 0.75, 0, 0], where="pre", label="best precision at this recall or more")
axes[1].fill_between([0, 0.25, 0.25, 0.75], [1, 1, 0.75, 0.75], alpha=0.2)
axes[1].set(xlabel="recall", ylabel="precision", title="Area 0.625", ylim=(-0.03, 1.08))
axes[1].legend(fontsize=8, loc="lower left")
show(figure, "by-hand")

# %% [markdown]
# ## Formula · 公式
#
# $$\mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}, \qquad \mathrm{GIoU} = \mathrm{IoU} - \frac{|C| - |A \cup B|}{|C|}$$
#
# $$\mathrm{DIoU} = \mathrm{IoU} - \frac{\rho^2}{c^2}, \qquad \mathrm{CIoU} = \mathrm{DIoU} - \alpha v$$
#
# $$v = \frac{4}{\pi^2} \left( \arctan \frac{w_B}{h_B} - \arctan \frac{w_A}{h_A} \right)^2, \qquad \alpha = \frac{v}{1 - \mathrm{IoU} + v}$$
#
# $$s_i \leftarrow s_i \, e^{-\mathrm{IoU}(M, b_i)^2 / \sigma}$$
#
# $$P_n = \frac{T_n}{n}, \qquad R_n = \frac{T_n}{N}, \qquad \tilde P(r) = \max_{n:\, R_n \ge r} P_n$$
#
# $$\mathrm{AP} = \frac{1}{|S|} \sum_{r \in S} \tilde P(r), \qquad \mathrm{mAP} = \frac{1}{|\Theta| \, K} \sum_{\theta \in \Theta} \sum_{k=1}^{K} \mathrm{AP}_{k,\theta}$$

# %% [markdown] lang="en"
# - $A, B$: two boxes; $|\cdot|$: an area in pixels; $C$: the smallest box that encloses both.
# - $\rho$: the distance of the two centers; $c$: the diagonal of $C$.
# - $w, h$: width and height of a box; $v$: how much the aspect ratios differ, from 0 to 1; $\alpha$: its weight, which is
#   not differentiated.
# - $s_i, b_i$: score and box of a detection; $M$: the detection that was just picked; $\sigma$: the width of the decay of
#   soft-NMS (Bodla et al. 2017). Plain NMS sets $s_i$ to 0 where the IoU exceeds a threshold.
# - $T_n$: how many of the $n$ best-scored detections are right; $N$: how many objects there are.
# - $P_n, R_n$: precision and recall; $\tilde P(r)$: the best precision at recall $r$ or more; 0 where $r$ is not reached.
# - $S$: the recalls at which it is read: 11 of them (VOC until 2009), 101 (COCO), or all steps, which is the area itself
#   (VOC from 2010).
# - $\Theta$: the IoU thresholds from which on a detection is right: 0.5 alone (VOC), or 0.50, 0.55, …, 0.95 (COCO);
#   $K$: the number of classes.
#
# The losses are one minus these measures. A detection is right if it is matched with an object of its class, and each
# object can be matched once: a second detection of the same cell is wrong.

# %% [markdown] lang="zh"
# - $A, B$：两个框；$|\cdot|$：面积，单位是像素；$C$：包住两者的最小框。
# - $\rho$：两个中心的距离；$c$：$C$ 的对角线。
# - $w, h$：框的宽和高；$v$：宽高比的差异，在 0 到 1 之间；$\alpha$：它的权重，不参与求导。
# - $s_i, b_i$：一个检测的得分和框；$M$：刚选出的检测；$\sigma$：soft-NMS 衰减的宽度（Bodla 等 2017）。
#   普通 NMS 在 IoU 超过阈值时把 $s_i$ 设为 0。
# - $T_n$：得分最高的 $n$ 个检测中对的个数；$N$：实际的物体数。
# - $P_n, R_n$：精确率和召回率；$\tilde P(r)$：召回率不低于 $r$ 时最好的精确率；达不到 $r$ 时为 0。
# - $S$：读取精确率的那些召回率：11 个（2009 年以前的 VOC）、101 个（COCO），或全部台阶，也就是面积本身（2010 年起的 VOC）。
# - $\Theta$：检测算对所需的 IoU 阈值：只有 0.5（VOC），或 0.50、0.55、……、0.95（COCO）；$K$：类别数。
#
# 损失就是一减去这些度量。一个检测与同类的一个物体匹配上才算对，而每个物体只能匹配一次：同一个细胞的第二个检测是错的。

# %% [markdown]
# ## Code · 代码

# %%
source(intersection_union)
source(nms)
source(match_detections)
source(precision_recall)
source(average_precision)

# %% [markdown] lang="en"
# The intersection of two boxes is a box again: its left edge is the greater of the two left edges, its right edge the
# smaller of the two right ones. If they do not meet, a side comes out negative; `clamp` makes it 0. (Without the clamp, two
# boxes that are apart in both directions would have a *positive* product of sides.) The shapes `[n, 1, 4]` and
# `[1, m, 4]` give all pairs, `[n, m]`.
#
# `nms` is greedy: the best box stays, whatever overlaps it too much goes, and so on (in blocks of 128, so that Python's loop
# is short and the table of overlaps small). `match_detections` is greedy as well,
# in the order of the scores: so a confident bad box can take an object away from a modest good one. `average_precision`
# runs the maximum from the right, which is $\tilde P$, and `searchsorted` finds the first detection that reaches a
# recall; the appended 0 answers for those that are never reached.

# %% [markdown] lang="zh"
# 两个框的交集还是一个框：左边取两个左边中较大的，右边取两个右边中较小的。不相交时边长会是负的，`clamp` 把它变成 0。
# （没有 `clamp`，两个方向都分开的框，边长之积会是*正的*。）形状 `[n, 1, 4]` 和 `[1, m, 4]` 给出所有的对，`[n, m]`。
#
# `nms` 是贪心的：最好的框留下，与它重叠太多的去掉，如此反复（按 128 个一块进行，使 Python 循环短、重叠表小）。`match_detections` 也是贪心的，按得分的顺序进行：
# 所以一个自信的坏框可能从一个谦虚的好框手里抢走物体。`average_precision` 从右边开始取最大值，这就是 $\tilde P$；
# `searchsorted` 找到第一个达到某个召回率的检测，末尾补上的 0 对应永远达不到的召回率。

# %% [markdown]
# ## Experiment: which loss moves a box? · 实验：哪个损失能移动框？

# %% [markdown] lang="en"
# 300 boxes of random place, size and shape are to become 300 others, by gradient descent on nothing but their four edges.
# Half of the pairs do not touch at the start. The four losses get the same optimizer (Adam, learning rate 2 pixels, falling
# to 0) and 150 steps.

# %% [markdown] lang="zh"
# 300 个位置、大小、形状都随机的框，要通过对四条边做梯度下降，变成另外 300 个框。一开始约有一半的对互不接触。
# 四种损失用同样的优化器（Adam，学习率 2 像素，逐渐降到 0），各 150 步。

# %%
quiz(
    "apart",
    en="Pairs that do not touch at the start: what is their mean IoU after 150 steps with the IoU loss?",
    zh="一开始不接触的那些对：用 IoU 损失走 150 步之后，平均 IoU 是多少？",
)

# %%
random = torch.Generator().manual_seed(0)


def random_boxes(count: int) -> torch.Tensor:
    """Boxes [count, 4] in 100 × 100 pixels, with sides from 10 to 50."""
    corner = 60 * torch.rand(count, 2, generator=random)
    return torch.cat((corner, corner + 10 + 40 * torch.rand(count, 2, generator=random)), dim=1)


starts, goals = random_boxes(300), random_boxes(300)
touching = intersection_union(starts, goals)[0] > 0
paths = {}
for name, loss in LOSSES.items():
    boxes = starts.clone().requires_grad_()
    optimizer = torch.optim.Adam([boxes], lr=2.0)
    overlap = []
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 2.0 * (1 - step / 150)
        optimizer.zero_grad()
        loss(boxes, goals).sum().backward()
        optimizer.step()
        overlap.append(1 - iou_loss(boxes.detach(), goals))
    paths[name] = torch.stack(overlap)  # [steps, pairs]
table(
    ["loss", "IoU after 30 steps", "after 150", "after 150: apart at first"],
    [
        (name, path[29].mean().item(), path[-1].mean().item(), path[-1][~touching].mean().item())
        for name, path in paths.items()
    ],
)
settle("apart", paths["IoU"][-1][~touching].mean().item(), tolerance=0.02)
figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained", sharey=True)
for axis, chosen, title in ((axes[0], touching, "touching at first"), (axes[1], ~touching, "apart at first")):
    for name, path in paths.items():
        axis.plot(path[:, chosen].mean(dim=1), label=name)
    axis.set(title=f"{title} ({int(chosen.sum())} pairs)", xlabel="step", ylabel="mean IoU", ylim=(-0.03, 1.03))
    axis.legend()
show(figure, "losses")

# %% [markdown] lang="en"
# Where boxes are apart, the IoU is 0 and stays 0 however they move a little: no slope, no gradient, no movement. GIoU, DIoU
# and CIoU fall with the distance, and bring nearly all boxes to their goals. DIoU and CIoU are ahead of GIoU after 30
# steps: GIoU first *grows* the box until it touches, since that also fills the empty part of the enclosing box, while the
# distance of the centers is a direct way. (All four have the same minimum. In a real detector the loss is one of several,
# and differences are smaller.)

# %% [markdown] lang="zh"
# 框分开时 IoU 是 0，稍微移动也还是 0：没有坡度，没有梯度，就不动。GIoU、DIoU、CIoU 随距离下降，把几乎所有的框带到目标。
# 30 步之后 DIoU 和 CIoU 领先于 GIoU：GIoU 会先把框*撑大*直到接触，因为这样也能填满外接框里的空白；
# 而中心的距离给出的是直路。（四者的最小值相同。在真正的检测器里，这只是几个损失之一，差别也更小。）

# %% [markdown]
# ## Experiment: a detector without training · 实验：不用训练的检测器

# %% [markdown] lang="en"
# White blood cells have a dark violet nucleus. So here is a detector with no parameter to learn: at every fourth pixel, in
# four sizes, lay a square (these are *anchors*: boxes of fixed sizes at the nodes of a grid), and let its score be how
# much more violet it is inside than in a ring around it. The 150 best squares of each picture are its detections, of 40
# test pictures. They are sure to be many for each cell: a square shifted by four pixels is nearly as good.

# %% [markdown] lang="zh"
# 白细胞有深紫色的细胞核。所以可以做一个没有任何可学参数的检测器：每隔四个像素放四种大小的正方形（这就是*锚框*（anchors），
# 即放在网格结点上的固定大小的框），得分是框内比周围一圈紫多少。
# 在 40 张测试图片上，每张取得分最高的 150 个正方形作为检测。每个细胞必然有很多检测：挪动四个像素的正方形几乎一样好。

# %%
quiz(
    "duplicates",
    en="How much higher is the AP (IoU 0.5) with the best NMS than without any, as a factor?",
    zh="用最好的 NMS 时的 AP（IoU 0.5）是不用 NMS 时的几倍？",
)
quiz(
    "strict",
    en="With the best NMS, what share of the AP at IoU 0.5 is left at IoU 0.75?",
    zh="用最好的 NMS，IoU 取 0.75 时的 AP 还剩 IoU 取 0.5 时的几分之几？",
)

# %%
cells = data("bccd", "cell-scenes")
HEIGHT, WIDTH, WHITE = 120, 160, 1  # the index of white blood cells in both data sets
samples = cells.test[:40]
anchors = grid_anchors(cell_anchors((28, 36, 46, 58), (1.0,)), HEIGHT // 4, WIDTH // 4, 4)  # [4800, 4]


def sum_in(totals: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of a picture's values in boxes, from its running totals [height + 1, width + 1], and the boxes' areas."""
    left, top, right, bottom = clip_boxes(boxes, HEIGHT, WIDTH).long().unbind(1)
    inside = totals[bottom, right] - totals[top, right] - totals[bottom, left] + totals[top, left]
    return inside, ((bottom - top) * (right - left)).clamp(min=1)


def violet_squares(image: np.ndarray, count: int = 150) -> tuple[torch.Tensor, torch.Tensor]:
    """The best squares [count, 4] and their scores [count]."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255  # [1, 3, height, width]
    small = F.interpolate(pixels, (HEIGHT, WIDTH), mode="area")[0]
    totals = F.pad((small[2] - small[1]).cumsum(0).cumsum(1), (1, 0, 1, 0))  # blue less green: violet
    border = 0.2 * (anchors[:, 2] - anchors[:, 0])[:, None] * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    (inside, area), (wider, wider_area) = (sum_in(totals, boxes) for boxes in (anchors, anchors + border))
    scores, best = (inside / area - (wider - inside) / (wider_area - area).clamp(min=1)).topk(count)
    return clip_boxes(anchors[best], HEIGHT, WIDTH), scores.clamp(min=1e-4)


raw = [violet_squares(sample.image) for sample in samples]
truth = [sample.boxes[sample.labels == WHITE] * (HEIGHT / sample.image.shape[0]) for sample in samples]
kept_by = {"none": raw}
for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
    kept = [nms(boxes, scores, threshold) for boxes, scores in raw]
    kept_by[f"NMS {threshold}"] = [(boxes[keep], scores[keep]) for (boxes, scores), keep in zip(raw, kept, strict=True)]
softened = [soft_nms(boxes, scores) for boxes, scores in raw]
kept_by["soft-NMS"] = [(boxes[keep], scores) for (boxes, _), (keep, scores) in zip(raw, softened, strict=True)]


def overlaps(found: list[tuple[torch.Tensor, torch.Tensor]]) -> list:
    """What is found in each picture against what is there, all of one class."""
    return [
        box_overlaps(boxes.numpy(), scores.numpy(), np.zeros(len(boxes), int), there, np.zeros(len(there), int))
        for (boxes, scores), there in zip(found, truth, strict=True)
    ]


measured = {name: overlaps(found) for name, found in kept_by.items()}
precisions = {name: mean_average_precision(images, 1)[:, 0] for name, images in measured.items()}  # [10 thresholds]
table(
    ["suppression", "boxes a picture", "AP at 0.50", "AP at 0.75", "COCO: mean of ten"],
    [
        (name, np.mean([len(image.scores) for image in measured[name]]).item(), ap[0], ap[5], ap.mean())
        for name, ap in precisions.items()
    ],
)
hard = {name: ap[0] for name, ap in precisions.items() if name.startswith("NMS")}
best_name = max(hard, key=hard.get)
settle("duplicates", hard[best_name] / precisions["none"][0], tolerance=1.0)
settle("strict", precisions[best_name][5] / precisions[best_name][0], tolerance=0.05)

shown = next(number for number, there in enumerate(truth) if len(there))
figure, axes = plt.subplots(1, 4, figsize=(17, 3.6), layout="constrained")
for axis, name in zip(axes, ("none", best_name), strict=False):
    axis.imshow(samples[shown].image, extent=(0, WIDTH, HEIGHT, 0))
    boxes, scores = kept_by[name][shown]
    for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
        strong = name == "none" or score > 0.5 * scores.max()
        axis.add_patch(
            Rectangle(box[:2], box[2] - box[0], box[3] - box[1], fill=False, edgecolor="lime" if strong else "0.5")
        )
    for left, top, right_edge, bottom in truth[shown].tolist():
        axis.add_patch(Rectangle((left, top), right_edge - left, bottom - top, fill=False, edgecolor="black", lw=2.5))
    axis.set(title=f"suppression: {name}; black: truth")
    axis.axis("off")
for name in ("none", "NMS 0.1", best_name, "soft-NMS"):
    correct = np.concatenate([match_detections(image.iou, 0.5) >= 0 for image in measured[name]])
    scores = np.concatenate([image.scores for image in measured[name]])
    curve = precision_recall(scores, correct, sum(len(there) for there in truth))
    axes[2].plot(curve[1], curve[0], label=f"{name}: AP {precisions[name][0]:.2f}")
axes[2].set(xlabel="recall", ylabel="precision", title="IoU at least 0.5", ylim=(0, 1.05))
axes[2].legend(fontsize=8)
for name in ("none", best_name, "soft-NMS"):
    axes[3].plot(COCO_THRESHOLDS, precisions[name], "o-", label=name)
axes[3].set(xlabel="IoU threshold", ylabel="AP", title="The stricter, the lower")
axes[3].legend(fontsize=8)
show(figure, "suppression")

# %% [markdown] lang="en"
# Without suppression each cell is found by dozens of squares, of which one counts as right and the others as wrong: the
# recall is high, the precision hopeless. NMS keeps one of them. Its threshold has two sides: at 0.9 the duplicates stay, at
# 0.1 a wrong square with a good score takes its right neighbor along. Soft-NMS needs no such decision: it lowers the
# scores of neighbors, so that they stay in the list, but behind the others.
#
# And all of it is worth little at an IoU of 0.75: our squares stand on a grid of four pixels, in four sizes. They find a
# cell, but do not fit it. That is what COCO's average over thresholds adds to VOC's measure, and it is why the detectors
# of the next lessons *correct* their anchors.

# %% [markdown] lang="zh"
# 不做抑制时，每个细胞被几十个正方形找到，其中一个算对，其余算错：召回率很高，精确率没法看。NMS 只留下一个。
# 它的阈值有两面：取 0.9 时重复的留下来，取 0.1 时一个得分高的错框会把旁边对的框一起去掉。
# soft-NMS 不必做这个决定：它降低邻居的得分，让它们留在名单里，但排到后面。
#
# 而在 IoU 0.75 时这一切都不值多少：我们的正方形站在间隔四像素的网格上，只有四种大小。它们找得到细胞，却套不准。
# 这就是 COCO 对多个阈值取平均比 VOC 的度量多出来的东西，也是后面几课的检测器要*修正*锚框的原因。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torchvision.ops` has the losses and the suppression. Values and gradients must agree. In this repository's tests the
# average precision is held against pycocotools, for every class, threshold and size of object, on random boxes; where
# precision never rises again, the area over all points is scikit-learn's `average_precision_score`.

# %% [markdown] lang="zh"
# `torchvision.ops` 里有这些损失和抑制，数值和梯度都必须一致。
# 本仓库的测试还把平均精度与 pycocotools 比较：随机的框，每个类别、每个阈值、每种大小都比；
# 在精确率不再回升的情形下，取全部点的面积就是 scikit-learn 的 `average_precision_score`。

# %%
references = {
    "GIoU": ops.generalized_box_iou_loss,
    "DIoU": ops.distance_box_iou_loss,
    "CIoU": ops.complete_box_iou_loss,
}
compared = {}
movable = starts.double().requires_grad_()
for name, reference in references.items():
    both = [loss(movable, goals.double()) for loss in (LOSSES[name], reference)]
    compared[name] = (both, [torch.autograd.grad(values.sum(), movable)[0] for values in both])
by_score = torch.rand(300, generator=random)
suppressed = nms(starts, by_score, 0.4), ops.nms(starts, by_score, 0.4)
falling = precision_recall(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, False]), 2)
of_sklearn = average_precision_score([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6])

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: IoU, GIoU, DIoU, CIoU", list(by_hand.values()), [1 / 7, 1 / 7 - 2 / 9, 2 / 63, 2 / 63], 1e-6)
check_close(
    "by hand: AP by 11 points, all points, 101 points",
    list(areas_by_hand.values()),
    [6.75 / 11, 0.625, (26 + 50 * 0.75) / 101],
    1e-12,
)
for name, (values, gradients) in compared.items():
    check_close(f"{name}'s loss equals torchvision's", *values, 1e-10)
    check_close(f"so does its gradient: {name}", *gradients, 1e-10)
check_close("NMS keeps the boxes that torchvision keeps", *suppressed)
check_close("AP over all points is scikit-learn's here", average_precision(*falling, "all-points"), of_sklearn, 1e-12)
check("pairs that are apart do not move by the IoU loss", paths["IoU"][-1][~touching].max() == 0)
check(
    "the other three bring them to their goals",
    min(paths[name][-1][~touching].mean() for name in ("GIoU", "DIoU", "CIoU")) > 0.9,
)
check(
    "after 30 steps DIoU and CIoU are ahead of GIoU",
    min(paths["DIoU"][29].mean(), paths["CIoU"][29].mean()) > paths["GIoU"][29].mean() + 0.02,
)
check("the best NMS makes the AP at least twice as high as none", hard[best_name] > 2 * precisions["none"][0])
check("both extremes are worse", max(hard["NMS 0.1"], hard["NMS 0.9"]) < hard[best_name] - 0.02)
check("soft-NMS is as good as the best threshold", precisions["soft-NMS"][0] > hard[best_name] - 0.02)
check("a grid of squares does not fit: little is left at 0.75", precisions[best_name][5] < 0.2 * hard[best_name])

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# IoU, suppression and mAP are in every detector of this phase: YOLOv8 (10/02) trains with CIoU, Faster R-CNN (10/03)
# suppresses twice, masks (10/06) are graded by the same code with the overlap of masks instead of boxes. The exercise here:
# `uv run lesson exercise 10/01`. The capstone reports these averages by class and size: `uv run --package yolo-detector
# eval`.
#
# Papers: [Everingham et al. 2010](https://doi.org/10.1007/s11263-009-0275-4), PASCAL VOC and its measure;
# [Lin et al. 2014](https://arxiv.org/abs/1405.0312), COCO; [Rezatofighi et al. 2019](https://arxiv.org/abs/1902.09630), GIoU;
# [Zheng et al. 2020](https://arxiv.org/abs/1911.08287), DIoU and CIoU;
# [Bodla et al. 2017](https://arxiv.org/abs/1704.04503), soft-NMS. Next: a detector that corrects its boxes in one pass,
# YOLOv8, 10/02.

# %% [markdown] lang="zh"
# IoU、抑制和 mAP 出现在本阶段的每个检测器里：YOLOv8（10/02）用 CIoU 训练，Faster R-CNN（10/03）做两次抑制，
# 掩码（10/06）用同样的代码打分，只是把框的重叠换成掩码的重叠。本课的练习：`uv run lesson exercise 10/01`。
# 实战项目按类别和大小报告这些平均精度：`uv run --package yolo-detector eval`。
#
# 论文：[Everingham 等 2010](https://doi.org/10.1007/s11263-009-0275-4)，PASCAL VOC 及其度量；
# [Lin 等 2014](https://arxiv.org/abs/1405.0312)，COCO；[Rezatofighi 等 2019](https://arxiv.org/abs/1902.09630)，GIoU；
# [Zheng 等 2020](https://arxiv.org/abs/1911.08287)，DIoU 和 CIoU；
# [Bodla 等 2017](https://arxiv.org/abs/1704.04503)，soft-NMS。下一课：一次前向就修正好框的检测器，YOLOv8，10/02。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `match_detections`, `match_detections_voc`, `precision_recall` and `average_precision` yourself.
# `uv run lesson exercise 10/01` makes a file with their signatures, `uv run lesson check 10/01` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `match_detections`、`match_detections_voc`、`precision_recall` 和 `average_precision`。
# `uv run lesson exercise 10/01` 生成带有签名的文件，`uv run lesson check 10/01` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `match_detections`: keep a bool array of objects that are still free. For each row of `iou`, look among the free objects
#    that reach the threshold. Ignored objects are a second choice: they are looked at only if no other one matches.
# 2. Of several objects with the same IoU, COCO takes the last one.
# 3. `match_detections_voc` looks at one object only, the `argmax` of the row; if it is taken or too far, the detection is
#    wrong. An ignored object never becomes taken.
# 4. `precision_recall`: sort by `-scores` with `kind="stable"`, then `np.cumsum` counts the right ones.
# 5. `average_precision`: `np.maximum.accumulate` on the reversed precisions, reversed again. With all points, weight each
#    by the step of recall before it, the first from 0. With 11 or 101 points, `np.searchsorted(recall, points)`.

# %% [markdown] lang="zh"
# 1. `match_detections`：用一个布尔数组记住仍然空闲的物体。对 `iou` 的每一行，在达到阈值的空闲物体里找。
#    被忽略的物体是第二选择：没有其他物体匹配时才看它们。
# 2. 几个物体的 IoU 相同时，COCO 取最后一个。
# 3. `match_detections_voc` 只看一个物体，即该行的 `argmax`；它已被占用或重叠不够，检测就是错的。被忽略的物体永远不会被占用。
# 4. `precision_recall`：用 `kind="stable"` 按 `-scores` 排序，再用 `np.cumsum` 数对的个数。
# 5. `average_precision`：把精确率倒过来做 `np.maximum.accumulate`，再倒回去。取全部点时，每个值乘以它之前召回率的增量，第一个从 0 算起。
#    取 11 或 101 个点时，用 `np.searchsorted(recall, points)`。


# %%
@exercise(match_detections, match_detections_voc, precision_recall, average_precision)
def judge(yours, reference):
    generator = np.random.default_rng(0)
    iou = np.array([[0.9, 0.6, 0.0], [0.8, 0.7, 0.0], [0.3, 0.2, 0.55]])
    check_close("match_detections: the best object that is free", yours.match_detections(iou, 0.5), [0, 1, 2])
    check_close("match_detections: too little overlap is -1", yours.match_detections(iou, 0.65), [0, 1, -1])
    check_close("match_detections: of equals the last", yours.match_detections(np.full((2, 3), 0.7), 0.5), [2, 1])
    second = np.array([True, False, False])
    check_close("match_detections: ignored objects come second", yours.match_detections(iou, 0.5, second), [1, 0, 2])
    check_close("match_detections_voc: the best object only", yours.match_detections_voc(iou, 0.5), [0, -1, 2])
    check_close(
        "match_detections_voc: an ignored object is never taken",
        yours.match_detections_voc(iou, 0.5, second),
        [0, 0, 2],
    )
    for objects in (0, 1, 6):
        many = generator.random((15, objects))
        ignored = generator.random(objects) < 0.3
        for name in ("match_detections", "match_detections_voc"):
            mine, theirs = (getattr(each, name)(many, 0.6, ignored) for each in (yours, reference))
            check_close(f"{name} of 15 detections and {objects} objects", mine, theirs)
    scores, correct = generator.random(40).round(1), generator.random(40) < 0.5
    mine, theirs = (each.precision_recall(scores, correct, 30) for each in (yours, reference))
    check_close("precision_recall: precision", mine[0], theirs[0])
    check_close("precision_recall: recall", mine[1], theirs[1])
    for rule in ("all-points", "voc-11", "coco-101"):
        mine, expected = (each.average_precision(*theirs, rule) for each in (yours, reference))
        check_close(f"average_precision, {rule}", mine, expected)
        check_close(
            f"average_precision of no detections, {rule}", yours.average_precision(*np.zeros((2, 0)), rule), 0.0
        )


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is IoU alone a poor loss, and what do GIoU, DIoU and CIoU add? · 为什么单用 IoU 当损失不好，GIoU、DIoU、CIoU 各加了什么？

# %% [markdown] lang="en"
# Where the boxes are apart, the IoU is constant 0 and has no gradient. GIoU subtracts the empty share of the enclosing box,
# which grows with the distance. DIoU subtracts the squared distance of the centers over the squared diagonal: a direct
# pull, also where one box lies inside the other, where GIoU falls back to IoU. CIoU adds a term for the aspect ratio.
# All are scale-invariant, unlike L1 or L2 on coordinates.

# %% [markdown] lang="zh"
# 框分开时 IoU 恒为 0，没有梯度。GIoU 减去外接框里空白的比例，它随距离增大。
# DIoU 减去中心距离的平方与对角线平方之比：是直接的拉力，而且在一个框位于另一个框内部时也有效，那时 GIoU 退化为 IoU。
# CIoU 再加上宽高比的一项。它们都与尺度无关，不像坐标上的 L1 或 L2。

# %%
inner, outer = torch.tensor([[4.0, 4.0, 8.0, 8.0]], requires_grad=True), torch.tensor([[0.0, 0.0, 20.0, 20.0]])
for name, loss in LOSSES.items():
    (gradient,) = torch.autograd.grad(loss(inner, outer).sum(), inner)
    print(
        f"  {name}: loss {loss(inner, outer).item():.3f}, pull on the center {-(gradient[0, 0] + gradient[0, 2]):.4f}"
    )

# %% [markdown]
# ### How does NMS work, and when does it fail? · NMS 怎样工作，什么时候会失败？

# %% [markdown] lang="en"
# Sort by score; keep the best; drop all of its class that overlap it by more than a threshold; repeat. It costs $O(n^2)$
# overlaps in the worst case. It fails in crowds: two people in front of each other have a high IoU, and the lower score
# is dropped although it is right. Soft-NMS lowers scores instead; detectors such as DETR learn one-to-one assignment and
# need none.

# %% [markdown] lang="zh"
# 按得分排序；留下最好的；去掉同类中与它重叠超过阈值的；重复。最坏情况下要算 $O(n^2)$ 个重叠。
# 它在拥挤的场景里失败：一前一后的两个人 IoU 很高，得分低的那个虽然是对的也被去掉。
# soft-NMS 改为降低得分；DETR 这样的检测器学习一对一的分配，不需要 NMS。

# %%
crowd = torch.tensor([[0.0, 0.0, 10.0, 20.0], [3.0, 0.0, 13.0, 20.0]])
confident = torch.tensor([0.9, 0.8])
print(
    f"  two people with IoU {box_iou(crowd, crowd)[0, 1]:.2f}: NMS 0.5 keeps {len(nms(crowd, confident, 0.5))},", end=""
)
print(f" soft-NMS keeps both with scores {[round(score, 2) for score in soft_nms(crowd, confident)[1].tolist()]}")

# %% [markdown]
# ### Why does a second detection of the same object count as wrong? · 为什么同一物体的第二个检测算错？

# %% [markdown] lang="en"
# Because whoever counts or acts on the boxes would count twice. If duplicates were free, a detector could print every box it
# can think of. So each object is matched once, in the order of the scores, and every further detection lowers the
# precision. That is why AP without suppression is so low although everything is found.

# %% [markdown] lang="zh"
# 因为用这些框计数或行动的人会数两遍。如果重复不扣分，检测器可以把想得到的框全部输出。
# 所以每个物体只匹配一次，按得分的顺序；其余的检测都会拉低精确率。这就是不做抑制时虽然都找到了，AP 却很低的原因。

# %%
for name in ("none", best_name):
    at_half = [match_detections(image.iou, 0.5) >= 0 for image in measured[name]]
    share = sum(found.sum() for found in at_half) / sum(len(there) for there in truth)
    print(f"  {name}: recall {share:.2f}, precision of all boxes {np.concatenate(at_half).mean():.3f}")

# %% [markdown]
# ### What is the difference between VOC's mAP and COCO's? · VOC 的 mAP 和 COCO 的 mAP 有什么不同？

# %% [markdown] lang="en"
# VOC: one IoU threshold, 0.5; the area by 11 points until 2009, by all points since 2010; a detection is compared with the
# object that it overlaps most, and is wrong if that is taken. COCO: 101 points, averaged over ten thresholds 0.50 to 0.95,
# at most 100 detections a picture; a detection may take the next best free object. So "mAP 60" means nothing until the
# rule is named; COCO's figure is much lower.

# %% [markdown] lang="zh"
# VOC：一个 IoU 阈值 0.5；2009 年以前用 11 个点，2010 年起用全部点求面积；检测只与它重叠最多的物体比较，那个物体已被占用就算错。
# COCO：101 个点，对 0.50 到 0.95 的十个阈值取平均，每张图最多 100 个检测；检测可以取次好的空闲物体。
# 所以不说明规则，“mAP 60”没有意义；COCO 的数字要低得多。

# %%
for rule in ("voc-11", "all-points", "coco-101"):
    print(f"  {rule}, IoU 0.5: {class_average_precision(measured[best_name], 0, 0.5, rule):.3f}")
print(f"  COCO, ten thresholds: {precisions[best_name].mean():.3f}")

# %% [markdown]
# ### A detector has a high mAP but fails in production. What did mAP not say? · mAP 很高的检测器上线后失败，mAP 没说的是什么？

# %% [markdown] lang="en"
# AP depends on the order of the scores only: any monotonic change of them, such as halving, leaves it as it is, so it says
# nothing about calibration or about the one threshold that production uses. It averages over classes and sizes, so a rare
# class or small objects may be bad. Report precision and recall at the working point as well, by class and size.

# %% [markdown] lang="zh"
# AP 只取决于得分的次序：任何单调的变化，比如全部减半，都不影响它，所以它对校准、对上线时所用的那一个阈值什么也没说。
# 它对类别和大小取平均，所以稀有类别或小物体可能很差。还要按类别和大小报告工作点上的精确率和召回率。

# %%
halved = overlaps([(boxes, scores / 2) for boxes, scores in kept_by[best_name]])
print(f"  scores halved: AP {class_average_precision(halved, 0, 0.5):.4f}, before {precisions[best_name][0]:.4f}")
best_scores = np.concatenate([image.scores for image in measured[best_name]])
print(f"  boxes above half of the best score: {(best_scores > best_scores.max() / 2).sum()}, with all halved the")
print(f"  same threshold lets {(best_scores / 2 > best_scores.max() / 2).sum()} pass")

# %% [markdown]
# ### How are anchors assigned to objects? · 锚框怎样分配给物体？

# %% [markdown] lang="en"
# By IoU: an anchor with at least, say, 0.7 stands for the object it overlaps most; below 0.3 it is background; between, it
# takes no part in the loss, since it would teach neither. So that no object is left without, its best anchor is assigned
# whatever the overlap. Most anchors are background: hence balanced sampling (Faster R-CNN) or focal loss (RetinaNet).

# %% [markdown] lang="zh"
# 按 IoU：比如至少 0.7 的锚框代表与它重叠最多的物体；低于 0.3 的是背景；介于其间的不参与损失，因为两边都教不好。
# 为了不让任何物体落空，与它重叠最多的锚框无论重叠多少都分给它。
# 绝大多数锚框是背景：所以要均衡采样（Faster R-CNN）或 focal loss（RetinaNet）。

# %%
for force in (False, True):
    matches = match_anchors(box_iou(torch.from_numpy(truth[shown]), anchors), 0.7, 0.3, force)
    counted = [(matches >= 0).sum(), (matches == BETWEEN).sum(), (matches == BELOW).sum()]
    print(f"  best anchor forced: {force}; object, between, background: {[int(number) for number in counted]}")
print(f"  largest IoU of a square with one of twice its side in the same place: {1 / math.pow(2, 2):.2f}")
