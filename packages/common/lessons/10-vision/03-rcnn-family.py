# %% [markdown]
# # The R-CNN family · R-CNN 系列

# %% [markdown] lang="en"
# After this lesson you can explain how detection went from one network pass for each of 2,000 boxes (R-CNN) to one pass for
# all (Fast R-CNN) to a network that proposes its boxes itself (Faster R-CNN); you can write RoI pooling, RoI align, anchors
# and box codes; and you have trained a small Faster R-CNN on blood cells. You need IoU, NMS and mAP (10/01) and
# convolutional networks (05/07).

# %% [markdown] lang="zh"
# 学完本课，你能讲清检测怎样从 2,000 个框各跑一遍网络（R-CNN），到所有框只跑一遍（Fast R-CNN），再到由网络自己提出候选框（Faster R-CNN）；
# 能写出 RoI 池化、RoI align、锚框和框的编码；并在血细胞上训练了一个小的 Faster R-CNN。
# 先修：IoU、NMS 和 mAP（10/01），卷积网络（05/07）。

# %%
import math
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.vision.anchors import (
    BELOW,
    cell_anchors,
    decode_boxes,
    encode_boxes,
    grid_anchors,
    match_anchors,
    sample_matches,
)
from dlcommon.vision.average_precision import box_overlaps, mean_average_precision
from dlcommon.vision.boxes import box_iou
from dlcommon.vision.faster_rcnn import CODE_WEIGHTS, FasterRCNN, RoIHeads
from dlcommon.vision.roi import roi_align, roi_pool
from dlcommon.vision.rpn import RegionProposalNetwork
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn import functional as F
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# The detector of 10/01 laid squares over the picture and asked of each: is there a cell? It found the cells, but its
# squares did not fit, and its question, "how violet?", was made for one kind of cell. A convolutional network answers
# better. But asking it 4,800 times a picture is slow, and even then the boxes are only as good as the grid. What is needed:
# (1) few boxes that are worth a question; (2) an answer for each of them without computing everything anew; (3) an answer
# that also says how the box must be moved.

# %% [markdown] lang="zh"
# 10/01 的检测器把正方形铺满图片，对每个都问：这里有细胞吗？它找到了细胞，但正方形套不准；而且“有多紫”这个问题只为一种细胞而设。
# 卷积网络答得更好。可是每张图问它 4,800 次很慢，而且框最多也只有网格那么准。我们需要：
# （1）少量值得一问的框；（2）回答每个框时不必全部重算；（3）回答里还要说明框该怎样移动。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Codes.* An anchor has the corners $(0, 0)$ and $(20, 20)$; the cell's box is $(5, 0)$, $(35, 20)$. The center must move by
# 10 to the right, half an anchor width: $t_x = 0.5$, $t_y = 0$. The width must grow from 20 to 30: $t_w = \ln 1.5 = 0.405$,
# $t_h = 0$. So the network predicts numbers around 0, whatever the size of the anchor.
#
# *RoI pooling.* A feature map has one cell for 16 pixels; the value of each cell is the number of its column, 0 to 7. A box
# reaches from pixel 24 to pixel 88, in cells from 1.5 to 5.5. RoI pooling rounds to cells 2 to 6, cuts these five into two
# bins (2–4 and 4–6, they share one) and takes the maxima: 4 and 6. Moved by 4 pixels, to 28–92, the box rounds to the same
# cells: again 4 and 6.
#
# *RoI align* rounds nothing. The value of a cell stands at its center, so that in the coordinates of the centers the box
# reaches from 1 to 5; each of two bins is 2 wide, with two points each, at 1.5, 2.5 and 3.5, 4.5. Interpolated and
# averaged: 2 and 4, which is where the bins are. Moved by 4 pixels, a quarter of a cell: 2.25 and 4.25.

# %% [markdown] lang="zh"
# *编码*：锚框的两角是 $(0, 0)$ 和 $(20, 20)$，细胞的框是 $(5, 0)$ 和 $(35, 20)$。中心要向右移 10，是锚框宽度的一半：
# $t_x = 0.5$，$t_y = 0$。宽度要从 20 变成 30：$t_w = \ln 1.5 = 0.405$，$t_h = 0$。这样无论锚框多大，网络预测的都是 0 附近的数。
#
# *RoI 池化*：特征图上 16 个像素对应一个单元，每个单元的值是它的列号，0 到 7。一个框从第 24 像素到第 88 像素，按单元算是 1.5 到 5.5。
# RoI 池化取整成单元 2 到 6，把这五个单元切成两格（2–4 和 4–6，共用一个），取最大值：4 和 6。
# 框移动 4 个像素，变成 28–92，取整后还是同样的单元：仍是 4 和 6。
#
# *RoI align* 什么也不取整。单元的值位于单元中心，所以以中心为坐标，框从 1 到 5；两格各宽 2，每格取两个点：1.5、2.5 和 3.5、4.5。
# 插值再平均：2 和 4，正是两格所在的位置。移动 4 个像素，即四分之一个单元：2.25 和 4.25。

# %%
anchor, goal = torch.tensor([[0.0, 0.0, 20.0, 20.0]]), torch.tensor([[5.0, 0.0, 35.0, 20.0]])
code_by_hand = encode_boxes(goal, anchor)[0]
columns = torch.arange(8.0).expand(1, 1, 8, 8)  # [1 image, 1 channel, 8 rows, 8 columns]
rows = []
for left in (24.0, 28.0):
    box = [torch.tensor([[left, 24.0, left + 64, 88.0]])]
    pooled, aligned = (pool(columns, box, 2, 1 / 16)[0, 0, 0].tolist() for pool in (roi_pool, roi_align))
    rows.append((f"{left:g}–{left + 64:g}", pooled, aligned))
print(f"  codes: {[round(value, 3) for value in code_by_hand.tolist()]}")
table(["box, pixels", "RoI pooling", "RoI align"], rows)

drawing = Schematic(14.8, 6.4, "Three detectors: what is computed once a picture, and what once a box")
for height, name, parts in (
    (5.4, "R-CNN 2014", (("search", "selective search\n2,000 boxes", "operation"), ("crop", "crop and warp\neach box", "operation"),
                         ("net", "network, 2,000 times", "parameter"), ("out", "classes (SVM),\ncodes", "data"))),
    (3.3, "Fast 2015", (("search", "selective search\n2,000 boxes", "operation"), ("net", "network, once", "parameter"),
                        ("crop", "RoI pooling\nof each box", "operation"), ("out", "classes, codes", "data"))),
    (1.2, "Faster 2015", (("net", "network, once", "parameter"), ("search", "RPN: anchors to\n300 boxes", "parameter"),
                          ("crop", "RoI pooling\nof each box", "operation"), ("out", "classes, codes", "data"))),
):  # fmt: skip
    drawing.text(0.9, height, name)
    drawing.box(f"{name} picture", 2.7, height, "picture", "data", 1.3)
    for place, (part, text, kind) in enumerate(parts):
        drawing.box(f"{name} {part}", 5.0 + 2.8 * place, height, text, kind, 2.2, 0.9)
    names = [f"{name} picture", *(f"{name} {part}" for part, _, _ in parts)]
    for start, end in pairwise(names):
        drawing.arrow(start, end)
drawing.arrow("Faster 2015 net", "Faster 2015 crop", "the same features", bend=-0.35)
show(drawing.figure, "family")

# %% [markdown]
# ## Formula · 公式
#
# $$t_x = \frac{x - x_a}{w_a}, \quad t_y = \frac{y - y_a}{h_a}, \quad t_w = \ln \frac{w}{w_a}, \quad t_h = \ln \frac{h}{h_a}$$
#
# $$\mathrm{pool}_{uv} = \max_{(i,j) \in \mathrm{bin}(u,v)} F_{ij}, \qquad \mathrm{align}_{uv} = \frac{1}{m^2} \sum_{p,q=1}^{m} \sum_{i,j} \Lambda(y_{up} - i) \, \Lambda(x_{vq} - j) \, F_{ij}$$
#
# $$\Lambda(d) = \max(0, 1 - |d|)$$
#
# $$L = \underbrace{\mathrm{BCE}(o, o^*) + \mathrm{smooth}_{L_1}(t - t^*)}_{\mathrm{RPN}} + \underbrace{\mathrm{CE}(c, c^*) + [c^* > 0] \, \mathrm{smooth}_{L_1}(t_{c^*} - t^*)}_{\mathrm{second\ stage}}$$

# %% [markdown] lang="en"
# - $x, y, w, h$: center, width and height of a box; with the index $a$: those of its anchor or proposal.
# - $t$: the code, 4 numbers; $t^*$: the code of the object's own box, which is to be learned (Girshick et al. 2014,
#   appendix C).
# - $F$: the feature map, `[height, width]` for each channel; $i, j$: its cells.
# - $u, v$: the bins of the pooled grid, such as 7 × 7; $m$: points a side of a bin; $y_{up}, x_{vq}$: where they are, in
#   cells (He et al. 2017, section 3).
# - $\Lambda$: the tent of linear interpolation. It is a product of one for rows and one for columns, so that all of RoI
#   align is two matrices, one from each side.
# - $o$: the logit of an anchor that it holds an object, $o^*$: whether it does, by its IoU with the objects.
# - $c$: the logits of the classes of a proposal, with 0 for background; $c^*$: the right one; $t_{c^*}$: the code that is
#   predicted for that class.
#
# Smooth L1 is quadratic near 0 and linear beyond, so that one bad box does not dominate (Girshick 2015, equation 3).
# Losses of codes count only where there is an object.

# %% [markdown] lang="zh"
# - $x, y, w, h$：框的中心、宽和高；带下标 $a$ 的属于它的锚框或候选框。
# - $t$：编码，4 个数；$t^*$：物体自己的框的编码，是学习的目标（Girshick 等 2014，附录 C）。
# - $F$：特征图，每个通道 `[height, width]`；$i, j$：它的单元。
# - $u, v$：池化后网格的格子，比如 7 × 7；$m$：一格每边取的点数；$y_{up}, x_{vq}$：这些点的位置，单位是单元（He 等 2017，第 3 节）。
# - $\Lambda$：线性插值的帐篷函数。行和列各一个，相乘即可，所以整个 RoI align 就是左右各乘一个矩阵。
# - $o$：锚框含有物体的 logit；$o^*$：它是否含有，由它与物体的 IoU 决定。
# - $c$：候选框各类别的 logits，0 是背景；$c^*$：正确的类别；$t_{c^*}$：为这个类别预测的编码。
#
# smooth L1 在 0 附近是二次的，远处是线性的，所以一个坏框不会左右全局（Girshick 2015，式 3）。编码的损失只在有物体的地方计算。

# %% [markdown]
# ## Code · 代码

# %%
source(roi_pool)
source(roi_align)
source(match_anchors)
source(encode_boxes)
source(RegionProposalNetwork.propose)
source(RoIHeads.losses)

# %% [markdown] lang="en"
# `roi_pool` cuts slices and takes maxima; the gradient goes to the cell that was the largest. `roi_align` computes for
# each box the weights of all rows, `[boxes, bins, height]`, and of all columns, and one `einsum` does the rest. No gradient
# flows to the boxes in either.
#
# `match_anchors` gives each anchor the object it overlaps most, if by enough. `propose` takes the best anchors after they
# were moved by their codes, cuts them off at the border, and suppresses duplicates. `RoIHeads.losses` adds the true boxes to
# the proposals, so that there is something to learn from before proposals are good, and samples one part objects, three
# parts background.

# %% [markdown] lang="zh"
# `roi_pool` 切出小块取最大值，梯度流向最大的那个单元。`roi_align` 为每个框算出所有行的权重 `[boxes, bins, height]` 和所有列的权重，
# 其余由一个 `einsum` 完成。两者都没有梯度流向框。
#
# `match_anchors` 把每个锚框分给与它重叠最多的物体，只要重叠足够。`propose` 取经编码移动后得分最高的锚框，在边界处截断，去掉重复。
# `RoIHeads.losses` 把真实的框也加入候选框，这样在候选框还不好时也有东西可学；采样时物体占一份，背景占三份。

# %% [markdown]
# ## Experiment: what rounding costs · 实验：取整的代价

# %% [markdown] lang="en"
# Two channels tell where a cell is: its center in pixels, and the negative of it. Pooled by maximum, the first gives the
# right edge of a bin's cells and the second the left one; half their difference is where RoI pooling believes the bin to be.
# For RoI align the value is the place itself. 300 random boxes, 7 × 7 bins, 16 pixels a cell.

# %% [markdown] lang="zh"
# 用两个通道说明单元在哪里：它的中心（像素），以及它的相反数。取最大值池化后，第一个给出一格中最右的单元，第二个给出最左的；
# 两者之差的一半就是 RoI 池化所认为的格子位置。RoI align 的值就是位置本身。300 个随机框，7 × 7 格，每个单元 16 像素。

# %%
quiz(
    "rounding",
    en="By how many pixels is RoI pooling wrong about the place of its bins, on average?",
    zh="RoI 池化对格子的位置平均错多少个像素？",
)

# %%
random = torch.Generator().manual_seed(0)
centers = (torch.arange(40.0) + 0.5) * 16  # of the cells, in pixels
places = torch.stack((centers, -centers))[None, :, None, :].expand(1, 2, 40, 40)
corner = 60 + 200 * torch.rand(300, 2, generator=random)
boxes = torch.cat((corner, corner + 40 + 260 * torch.rand(300, 2, generator=random)), dim=1)
bins = boxes[:, 0, None] + (boxes[:, 2] - boxes[:, 0])[:, None] * (torch.arange(7) + 0.5) / 7  # [300, 7], true centers
by_pooling = roi_pool(places, [boxes], 7, 1 / 16)[:, :, 0]  # [300, 2, 7]
errors = {
    "RoI pooling": ((by_pooling[:, 0] - by_pooling[:, 1]) / 2 - bins).abs(),
    "RoI align": (roi_align(places, [boxes], 7, 1 / 16)[:, 0, 0] - bins).abs(),
}
table(
    ["", "mean error, pixels", "largest"],
    [(name, each.mean().item(), each.max().item()) for name, each in errors.items()],
)
settle("rounding", errors["RoI pooling"].mean().item(), tolerance=1.5)

# %% [markdown] lang="en"
# Half a cell on average, since the cells at both ends of the rounded box belong to it. A class does not depend on a few pixels, so Fast and Faster R-CNN did well with rounding. For the edges of small objects, and
# for masks, it matters: replacing it by RoI align is one of the two changes that made Mask R-CNN (10/06).

# %% [markdown] lang="zh"
# 平均错半个单元，因为取整后两端的单元都算在框内。类别不取决于几个像素，所以 Fast 和 Faster R-CNN 用取整也不错。对小物体的边缘和对掩码来说就要紧了：
# 把它换成 RoI align，是造就 Mask R-CNN（10/06）的两处改动之一。

# %% [markdown]
# ## Experiment: a small Faster R-CNN learns · 实验：训练小的 Faster R-CNN

# %% [markdown] lang="en"
# Generated pictures of blood cells at 96 × 128 pixels (the real ones of 10/01 need minutes of training), a backbone of four convolutions (stride 8, so 192 places with three anchors each), at
# most 24 proposals a picture. Three seeds, each a few seconds of training from scratch on batches of 8 pictures. (Real detectors begin
# with a backbone pretrained on ImageNet and train for hours.) A picture has about ten red cells,
# one white one, and two platelets, which are about 6 pixels wide here, less than one cell of the feature map.

# %% [markdown] lang="zh"
# 生成的血细胞图片，96 × 128 像素（10/01 的真实图片需要训练几分钟），四个卷积层的主干（步长 8，所以有 192 个位置，各三个锚框），每张图最多 24 个候选框。
# 三个种子，各用几秒钟从零训练，每批 8 张图。（真正的检测器从 ImageNet 预训练的主干出发，训练数小时。）
# 一张图有大约十个红细胞、一个白细胞、两个血小板；血小板在这里只有约 6 像素宽，还不到特征图的一个单元。

# %%
quiz(
    "corrected",
    en="The second stage moves each proposal. What is the mean IoU with the object afterwards, if it was 0.70 before?",
    zh="第二阶段会移动每个候选框。如果移动前与物体的平均 IoU 是 0.70，移动后是多少？",
)
quiz(
    "smallest",
    en="Which kind of cell ends with the lowest AP, in every seed?",
    zh="每个种子下，哪种细胞最后的 AP 最低？",
    choices={"RBC": "red · 红细胞", "WBC": "white · 白细胞", "Platelets": "platelets · 血小板"},
)

# %%
cells = data("cell-scenes")
SIZE, STRIDE, CHANNELS, UPDATES, SEEDS = (96, 128), 8, 48, 40, (0, 1, 2)


def prepare(samples) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Pictures [images, 3, 96, 128] from 0 to 1, and the boxes and classes of each."""
    pictures = [torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255 for sample in samples]
    small = torch.cat([F.interpolate(picture, SIZE, mode="area") for picture in pictures])
    scales = [SIZE[0] / sample.image.shape[0] for sample in samples]
    boxes = [torch.from_numpy(sample.boxes * scale) for sample, scale in zip(samples, scales, strict=True)]
    return small, list(zip(boxes, [torch.from_numpy(sample.labels) for sample in samples], strict=True))


train_images, train_targets = prepare(cells.train[:120])
test_images, test_targets = prepare(cells.test[:30])
mean, std = train_images.mean((0, 2, 3), keepdim=True), train_images.std((0, 2, 3), keepdim=True)
train_inputs, test_inputs = (train_images - mean) / std, (test_images - mean) / std


def conv(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def make_detector() -> FasterRCNN:
    backbone = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2), conv(32, CHANNELS, 2), conv(CHANNELS, CHANNELS, 1))
    cell = cell_anchors((8, 20, 36), (1.0,))
    rpn = RegionProposalNetwork(
        CHANNELS, cell, STRIDE, before_nms=60, after_nms=24, high=0.6, sample=64
    )  # fewer and smaller than in the paper
    return FasterRCNN(backbone, rpn, RoIHeads(CHANNELS, 3, STRIDE, pooled_size=4, hidden=64, sample=32))


def learn(seed: int) -> tuple[FasterRCNN, list[dict[str, float]]]:
    torch.manual_seed(seed)
    detector, history = make_detector(), []
    optimizer = torch.optim.AdamW(detector.parameters(), lr=4e-3, fused=True)
    for update in range(UPDATES):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1.0, (update + 1) / 10, 2 - 2 * update / UPDATES)
        chosen = torch.randperm(len(train_inputs))[:8]
        losses = detector.losses(train_inputs[chosen], [train_targets[number] for number in chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return detector.eval(), history


def average_precisions(found) -> np.ndarray:
    """AP at IoU 0.5 of each class on the test pictures, [3]."""
    overlaps = [
        box_overlaps(each.boxes.numpy(), each.scores.numpy(), each.labels.numpy(), boxes.numpy(), labels.numpy())
        for each, (boxes, labels) in zip(found, test_targets, strict=True)
    ]
    return mean_average_precision(overlaps, 3, (0.5,))[0]


@torch.no_grad()
def before_and_after(detector: FasterRCNN) -> tuple[float, float]:
    """Mean IoU with the nearest object, before and after the second stage, of proposals that score over 0.3."""
    features = detector.backbone(test_inputs)
    proposals, _ = detector.rpn(features, SIZE)
    logits, codes = detector.roi_heads(features, proposals)
    scores, label = logits.softmax(1)[:, 1:].max(1)  # [all proposals], of the best class
    label, counts = torch.where(scores > 0.3, label + 1, 0), [len(each) for each in proposals]
    moved = decode_boxes(codes[torch.arange(len(label)), label], torch.cat(proposals), CODE_WEIGHTS).split(counts)
    overlaps = []
    for old, new, labels, (boxes, _) in zip(proposals, moved, label.split(counts), test_targets, strict=True):
        for each in (old, new):
            overlaps.append(box_iou(each[labels > 0], boxes).max(1).values if len(boxes) else old.new_zeros(0))
    return torch.cat(overlaps[::2]).mean().item(), torch.cat(overlaps[1::2]).mean().item()


detectors, histories, reached, corrected = {}, {}, {}, {}
for seed in SEEDS:
    detectors[seed], histories[seed] = learn(seed)
    reached[seed] = average_precisions(detectors[seed](test_inputs))
    corrected[seed] = before_and_after(detectors[seed])
table(
    ["seed", *(f"AP50 {name}" for name in cells.classes), "IoU of proposals", "IoU corrected"],
    [(seed, *reached[seed].tolist(), *corrected[seed]) for seed in SEEDS],
)
settle("corrected", 0.70 + sum(after - before for before, after in corrected.values()) / len(SEEDS), tolerance=0.05)
settle("smallest", cells.classes[int(sum(reached.values()).argmin())])

figure, axes = plt.subplots(1, 4, figsize=(17, 3.6), layout="constrained")
for name in histories[0][0]:
    curve = np.mean([[step[name] for step in histories[seed]] for seed in SEEDS], axis=0)
    axes[0].plot(curve, label=name.removeprefix("loss_"))
axes[0].set(xlabel="update", title="The four losses, mean of three seeds", yscale="log")
axes[0].legend(fontsize=8)
shown = 1
with torch.no_grad():
    features = detectors[0].backbone(test_inputs[[shown]])
    objectness = detectors[0].rpn.head(features)[0].sigmoid().view(SIZE[0] // STRIDE, SIZE[1] // STRIDE, 3)
    (proposals,), _ = detectors[0].rpn(features, SIZE)
(final,) = detectors[0](test_inputs[[shown]])
axes[1].imshow(objectness.max(2).values.numpy(), cmap="gray", vmin=0, vmax=1, extent=(0, SIZE[1], SIZE[0], 0))
axes[1].set(title="RPN: best objectness of each cell")
axes[2].set(title=f"{len(proposals)} proposals")
axes[3].set(title="Seed 0: score over 0.5; dotted: truth")
strong = final.scores > 0.5
for axis, drawn, colors in (
    (axes[2], proposals, ["yellow"] * len(proposals)),
    (axes[3], final.boxes[strong], [("red", "blue", "lime")[label] for label in final.labels[strong].tolist()]),
):
    axis.imshow(test_images[shown].permute(1, 2, 0).numpy(), extent=(0, SIZE[1], SIZE[0], 0))
    for (left, top, right, bottom), color in zip(drawn.tolist(), colors, strict=True):
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, lw=1.5))
for left, top, right, bottom in test_targets[shown][0].tolist():
    axes[3].add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="black", linestyle=":", lw=1)
    )
for axis in axes[1:]:
    axis.axis("off")
show(figure, "training")

# %% [markdown] lang="en"
# In some seconds the network has learned to find red cells, with every seed. White ones, ten times as rare, are found well by
# one seed and badly by another: it has hardly seen any yet. The second stage brings the boxes
# closer to the cells with every seed: it sees the features *inside* the proposal, while the RPN saw a fixed
# neighborhood of an anchor. (Its own loss of codes grows at first, since ever more proposals
# stand for an object and count.) Platelets come off worst: an object smaller than a cell of the feature map has hardly a
# feature of its own, and few anchors that fit. Larger pictures and feature pyramids (Lin et al. 2017) are the remedy.

# %% [markdown] lang="zh"
# 几秒之内，网络在每个种子下都学会了找红细胞。白细胞只有十分之一那么多，有的种子找得好，有的找得差：它还没见过几个。
# 每个种子下，第二阶段都使框更贴近细胞：它看到的是候选框*里面*的特征，
# 而 RPN 看到的是锚框周围固定的邻域。（它自己的编码损失起初会上升，因为代表物体、计入损失的候选框越来越多。）血小板最差：比特征图的一个单元还小的物体几乎没有自己的特征，合适的锚框也少。
# 解决办法是更大的图片和特征金字塔（Lin 等 2017）。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torchvision has all parts: `ops.roi_pool`, `ops.roi_align`, and the coder inside its detectors. Values and gradients must
# agree. In this repository's tests the whole model is compared: `torchvision.models.detection.FasterRCNN` with the same
# weights gives the same detections, the same four losses and the same gradients.

# %% [markdown] lang="zh"
# torchvision 有全部零件：`ops.roi_pool`、`ops.roi_align`，以及检测器内部的编码器。数值和梯度都必须一致。
# 本仓库的测试比较了整个模型：`torchvision.models.detection.FasterRCNN` 用同样的权重，给出同样的检测、同样的四个损失和同样的梯度。

# %%
features = torch.randn(2, 4, 12, 16, generator=random, dtype=torch.float64, requires_grad=True)
some = [torch.cat((start, start + 90 * torch.rand(9, 2, generator=random) + 4), 1).double()
        for start in (120 * torch.rand(2, 9, 2, generator=random))]  # fmt: skip
weight = torch.randn(18, 4, 5, 5, generator=random, dtype=torch.float64)
compared = {}
for name, pair in {
    "RoI pooling": (roi_pool, ops.roi_pool),
    "RoI align": (partial(roi_align, sampling_ratio=2), partial(ops.roi_align, sampling_ratio=2, aligned=True)),
}.items():
    values = [pool(features, some, output_size=5, spatial_scale=1 / 16) for pool in pair]
    compared[name] = (values, [torch.autograd.grad((each * weight).sum(), features)[0] for each in values])
codes = torch.randn(9, 4, generator=random, dtype=torch.float64)
coder = BoxCoder(CODE_WEIGHTS)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the codes 0.5, 0, ln 1.5, 0", code_by_hand, [0.5, 0.0, math.log(1.5), 0.0], 1e-6)
check_close("by hand: RoI pooling gives 4 and 6 at both places", [rows[0][1], rows[1][1]], [[4, 6], [4, 6]])
check_close("by hand: RoI align gives 2 and 4, then 2.25 and 4.25", [rows[0][2], rows[1][2]], [[2, 4], [2.25, 4.25]])
for name, (values, gradients) in compared.items():
    check_close(f"{name} equals torchvision's", *values, 1e-10)
    check_close(f"so does its gradient: {name}", *gradients, 1e-10)
check_close(
    "encoded boxes equal torchvision's", encode_boxes(some[0], some[1], CODE_WEIGHTS), coder.encode_single(*some)
)
check_close(
    "decoded boxes equal torchvision's", decode_boxes(codes, some[0], CODE_WEIGHTS), coder.decode_single(codes, some[0])
)
check_close("decoding undoes encoding", decode_boxes(encode_boxes(some[0], some[1]), some[1]), some[0], 1e-9)
check("RoI align knows where its bins are", errors["RoI align"].max() < 1e-3)
check("RoI pooling is wrong by about half a cell", 4 < errors["RoI pooling"].mean() < 12)
check("red cells are found, with every seed", min(reached[seed][0] for seed in SEEDS) > 0.85)
check("platelets are found worst, with every seed", all(reached[seed].argmin() == 2 for seed in SEEDS))
check(
    "the second stage brings boxes closer, with every seed", all(after > before for before, after in corrected.values())
)
check(
    "the RPN's loss of objectness falls to less than half, with every seed",
    all(
        np.mean([step["loss_objectness"] for step in histories[seed][-5:]]) < histories[seed][0]["loss_objectness"] / 2
        for seed in SEEDS
    ),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Mask R-CNN (10/06) is this detector with RoI align and one more head. Two stages are the choice where accuracy counts more
# than speed; one-stage detectors such as YOLOv8 (10/02) do without proposals. Write the anchors yourself:
# `uv run lesson exercise 10/03`.
#
# Papers: [Girshick et al. 2014](https://arxiv.org/abs/1311.2524), R-CNN;
# [Girshick 2015](https://arxiv.org/abs/1504.08083), Fast R-CNN; [Ren et al. 2015](https://arxiv.org/abs/1506.01497), Faster
# R-CNN; [He et al. 2017](https://arxiv.org/abs/1703.06870), RoI align and Mask R-CNN;
# [Lin et al. 2017](https://arxiv.org/abs/1612.03144), feature pyramids. Next: a class for every pixel, 10/04.

# %% [markdown] lang="zh"
# Mask R-CNN（10/06）就是这个检测器加上 RoI align 和另一个头。准确比速度重要时选两阶段；YOLOv8（10/02）这样的单阶段检测器不用候选框。
# 自己写锚框：`uv run lesson exercise 10/03`。
#
# 论文：[Girshick 等 2014](https://arxiv.org/abs/1311.2524)，R-CNN；
# [Girshick 2015](https://arxiv.org/abs/1504.08083)，Fast R-CNN；[Ren 等 2015](https://arxiv.org/abs/1506.01497)，Faster R-CNN；
# [He 等 2017](https://arxiv.org/abs/1703.06870)，RoI align 和 Mask R-CNN；
# [Lin 等 2017](https://arxiv.org/abs/1612.03144)，特征金字塔。下一课：给每个像素一个类别，10/04。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `cell_anchors`, `grid_anchors`, `match_anchors`, `encode_boxes` and `decode_boxes` yourself.
# `uv run lesson exercise 10/03` makes a file with their signatures, `uv run lesson check 10/03` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `cell_anchors`、`grid_anchors`、`match_anchors`、`encode_boxes` 和 `decode_boxes`。
# `uv run lesson exercise 10/03` 生成带有签名的文件，`uv run lesson check 10/03` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. An anchor of size $s$ and ratio $r$ (height over width) has the area $s^2$: its width is $s / \sqrt r$, its height
#    $s \sqrt r$. Round the corners, not the sides.
# 2. `grid_anchors`: shifts `[height · width, 1, 4]`, twice (x, y), plus the cell's anchors `[anchors, 4]`.
# 3. `match_anchors`: the maximum over the objects, dimension 0. For `force`, compare the table with its maximum over the
#    anchors, `keepdim=True`: an anchor that is the best of any object gets the object that *it* overlaps most.
# 4. Without any object, all anchors are `BELOW`.
# 5. `decode_boxes` divides by the weights first, limits the logarithms of the scales, and takes codes with a dimension of
#    classes too: anchors then need `[:, None]`.

# %% [markdown] lang="zh"
# 1. 大小为 $s$、比例为 $r$（高除以宽）的锚框面积是 $s^2$：宽 $s / \sqrt r$，高 $s \sqrt r$。取整的是角，不是边长。
# 2. `grid_anchors`：平移量 `[height · width, 1, 4]`，即 (x, y) 重复两次，加上一个单元的锚框 `[anchors, 4]`。
# 3. `match_anchors`：沿物体（第 0 维）取最大值。`force` 时把表与它沿锚框的最大值（`keepdim=True`）比较：
#    只要一个锚框是某个物体的最佳，就把*它自己*重叠最多的物体分给它。
# 4. 一个物体也没有时，所有锚框都是 `BELOW`。
# 5. `decode_boxes` 先除以权重，限制尺度的对数；编码可能多一维类别，这时锚框要用 `[:, None]`。


# %%
@exercise(cell_anchors, grid_anchors, match_anchors, encode_boxes, decode_boxes)
def judge(yours, reference):
    mine, theirs = (each.cell_anchors((16, 30), (0.5, 1.0, 2.0)) for each in (yours, reference))
    check("cell_anchors gives [ratios · sizes, 4]", mine.shape == (6, 4))
    check_close("cell_anchors: squares", mine[2:4], theirs[2:4])
    check_close("cell_anchors: all ratios", mine, theirs)
    mine, theirs = (each.grid_anchors(theirs, 3, 5, 8) for each in (yours, reference))
    check("grid_anchors gives [height · width · anchors, 4]", mine.shape == (90, 4))
    check_close("grid_anchors: row by row, all anchors of a cell together", mine, theirs)

    generator = torch.Generator().manual_seed(0)
    iou = torch.rand(4, 50, generator=generator)
    for force in (False, True):
        table_of = iou * torch.tensor([1.0, 1.0, 0.5, 0.2])[:, None]  # two objects that no anchor overlaps much
        mine, theirs = (each.match_anchors(table_of, 0.7, 0.3, force) for each in (yours, reference))
        check_close(f"match_anchors, force={force}", mine, theirs)
    check_close("match_anchors without objects", yours.match_anchors(iou[:0], 0.7, 0.3, True), [-1] * 50)

    corner = 50 * torch.rand(2, 20, 2, generator=generator, dtype=torch.float64)
    boxes, anchors = torch.cat((corner, corner + 3 + 40 * torch.rand(2, 20, 2, generator=generator)), 2)
    for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
        mine, theirs = (each.encode_boxes(boxes, anchors, weights) for each in (yours, reference))
        check_close(f"encode_boxes: shifts of the center, weights {weights}", mine[:, :2], theirs[:, :2])
        check_close(f"encode_boxes: scales, weights {weights}", mine[:, 2:], theirs[:, 2:])
        check_close("decode_boxes undoes it", yours.decode_boxes(theirs, anchors, weights), boxes)
    codes = 6 * torch.randn(20, 3, 4, generator=generator, dtype=torch.float64)
    mine, theirs = (each.decode_boxes(codes, anchors) for each in (yours, reference))
    check_close("decode_boxes with classes, large scales limited", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### How do R-CNN, Fast R-CNN and Faster R-CNN differ? · R-CNN、Fast R-CNN 和 Faster R-CNN 有什么区别？

# %% [markdown] lang="en"
# R-CNN: 2,000 boxes from selective search, each cropped, warped and sent through the network; SVMs for the classes, a
# regression for the boxes, trained apart. Fast R-CNN: one pass for the picture, RoI pooling for each box, classes and
# codes trained together. Faster R-CNN: the boxes come from the RPN on the same features, so that all of it is one network.

# %% [markdown] lang="zh"
# R-CNN：选择性搜索给出 2,000 个框，每个裁剪、缩放后送进网络；类别用 SVM，框用回归，分开训练。
# Fast R-CNN：整张图只跑一遍，每个框做 RoI 池化，类别和编码一起训练。
# Faster R-CNN：框来自同一特征上的 RPN，整体是一个网络。

# %%
picture, crop, count = 600 * 1000, 227 * 227, 2000
print(
    f"  pixels through the network: R-CNN {count * crop:,}, Fast R-CNN {picture:,}: {count * crop / picture:.0f} times"
)

# %% [markdown]
# ### What does RoI align change, and why does it matter? · RoI align 改了什么，为什么重要？

# %% [markdown] lang="en"
# RoI pooling rounds twice: the box to cells, and the bins to cells. RoI align rounds nothing and interpolates at points
# inside each bin. Boxes and masks then move with the object by less than a cell; at stride 16 a rounding is up to 8
# pixels, which a mask cannot afford.

# %% [markdown] lang="zh"
# RoI 池化取整两次：框取整到单元，格子取整到单元。RoI align 什么也不取整，在每格内的点上插值。
# 这样框和掩码能以小于一个单元的幅度跟随物体；步长 16 时取整的误差可达 8 像素，掩码承受不起。

# %%
for name, each in errors.items():
    print(f"  {name}: bins misplaced by {each.mean():.3g} pixels on average")

# %% [markdown]
# ### Why does the network predict codes and not coordinates? · 为什么网络预测编码而不是坐标？

# %% [markdown] lang="en"
# A convolution sees the same pattern everywhere and cannot know where it is, nor how large; relative to the anchor it
# need not. Codes are scale-invariant: an error of 0.1 is a tenth of the anchor's width for small and large alike. The
# logarithm keeps widths positive. They are near 0 with similar variances, which suits smooth L1.

# %% [markdown] lang="zh"
# 卷积在哪里看到的都是同样的图案，不知道自己在哪里、物体有多大；相对于锚框就不需要知道。
# 编码与尺度无关：0.1 的误差无论大小都是锚框宽度的十分之一。对数保证宽度为正。编码在 0 附近，方差相近，适合 smooth L1。

# %%
for scale in (1, 10):
    print(f"  everything {scale} times as large: {encode_boxes(scale * goal, scale * anchor)[0].tolist()}")

# %% [markdown]
# ### Why are anchors sampled for the loss? · 为什么要对锚框采样来算损失？

# %% [markdown] lang="en"
# Because nearly all are background: their easy losses would drown the few that matter. The RPN takes at most half objects of
# 256, the second stage a quarter of 512 (in the paper: 128). One-stage detectors take all of them and weight by focal loss
# instead, or assign in another way.

# %% [markdown] lang="zh"
# 因为几乎全是背景：它们容易的损失会淹没少数要紧的。RPN 取 256 个，其中物体最多一半；第二阶段取 512 个（论文中是 128 个），物体占四分之一。
# 单阶段检测器则全部使用，用 focal loss 加权，或换一种分配方法。

# %%
all_anchors = grid_anchors(cell_anchors((8, 20, 36), (1.0,)), SIZE[0] // STRIDE, SIZE[1] // STRIDE, STRIDE)
matches = match_anchors(box_iou(train_targets[0][0], all_anchors), 0.6, 0.3, force=True)
sampled = sample_matches(matches, 64, 0.5)
print(
    f"  of {len(matches)} anchors {(matches >= 0).sum()} stand for an object, {(matches == BELOW).sum()} are background;"
)
print(f"  sampled: {len(sampled[0])} and {len(sampled[1])}")

# %% [markdown]
# ### Why does no gradient flow from the second stage into the proposals? · 为什么第二阶段的梯度不传到候选框？

# %% [markdown] lang="en"
# Suppression and the choice of the best are not differentiable, and RoI pooling has no derivative with respect to its
# rounded box. So proposals count as constants ("approximate joint training" in the paper). Both stages still train the
# same backbone, through the features.

# %% [markdown] lang="zh"
# 抑制和选取最佳都不可导，RoI 池化对取整后的框也没有导数。所以候选框当作常数（论文中的“近似联合训练”）。
# 两个阶段仍然通过特征训练同一个主干。

# %%
losses = detectors[0].losses(train_inputs[:2], train_targets[:2])
second = losses["loss_classifier"] + losses["loss_box_reg"]
for part in ("backbone", "rpn"):
    gradients = torch.autograd.grad(
        second, list(getattr(detectors[0], part).parameters()), retain_graph=True, allow_unused=True
    )
    reach = sum(gradient is not None for gradient in gradients)
    print(f"  the second stage's loss reaches {reach} of {len(gradients)} parameters of the {part}")

# %% [markdown]
# ### When would you choose two stages, when one? · 什么时候选两阶段，什么时候选单阶段？

# %% [markdown] lang="en"
# One stage: a fixed cost for each picture, simple to export, fast. Two stages: the second looks at each proposal with its
# own features, which helps with precise boxes, with few training pictures, and where more heads (masks, keypoints) are to
# follow; the cost grows with the number of proposals. Modern one-stage detectors have closed most of the gap in accuracy.

# %% [markdown] lang="zh"
# 单阶段：每张图成本固定，易于导出，快。两阶段：第二阶段用候选框自己的特征再看一遍，有利于精确的框、训练图片少的情形，
# 以及还要接其他头（掩码、关键点）的情形；成本随候选框数增长。现代单阶段检测器已经追回了大部分准确率差距。

# %%
for proposals_count in (24, 300, 2000):
    cost = proposals_count * (CHANNELS * 16 * 64 + 64 * 64)
    print(
        f"  {proposals_count} proposals: {cost / 1e6:.1f} million multiplications in our second stage's linear layers"
    )
