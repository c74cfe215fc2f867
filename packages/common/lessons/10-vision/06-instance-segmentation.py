# %% [markdown]
# # Instance segmentation · 实例分割

# %% [markdown] lang="en"
# After this lesson you can add a mask to every box that a detector finds, as Mask R-CNN does, say why its features must not be
# rounded to the grid, paste masks back into the picture, and score them by mask AP and by panoptic quality. You need
# average precision (10/01), RoI pooling and alignment (10/03), and FCNs (10/04).

# %% [markdown] lang="zh"
# 学完本课，你能像 Mask R-CNN 那样给检测到的每个框加上掩码，能说出为什么不能把特征取整到网格上，
# 能把掩码贴回图中，并用掩码 AP 和全景质量打分。
# 先修：平均精度（10/01）、RoI 池化与对齐（10/03）、FCN（10/04）。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.vision.average_precision import mean_average_precision
from dlcommon.vision.blood_scenes import draw_blood_scenes
from dlcommon.vision.boxes import box_iou
from dlcommon.vision.fully_convolutional import conv_norm_relu
from dlcommon.vision.mask_head import MaskHead, mask_loss, mask_targets, paste_masks
from dlcommon.vision.mask_metrics import mask_iou, mask_overlaps, panoptic_quality
from dlcommon.vision.suppression import batched_nms
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss, paste_masks_in_image
from torchvision.ops import masks_to_boxes, roi_align, roi_pool

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Semantic segmentation paints all red cells in one color. Where two touch, nobody can say any more how many there are, or how
# large each one is. A detector counts them, but a box of a round cell is one fifth background, and a box of a thin,
# slanted thing is nearly all background. A robot that grasps, a surgeon, a cell counter want both: each object by
# itself, and its outline.
#
# The U-Net of 10/05 drew gaps between the cells, and one missed pixel merged two of them. Mask R-CNN goes the other way:
# find the boxes first, then ask within each box only, which of these pixels belong to *this* object?

# %% [markdown] lang="zh"
# 语义分割把所有红细胞涂成一种颜色。两个细胞相接的地方，谁也说不清有几个、各有多大。检测网络能数清它们，
# 但圆形细胞的框里有五分之一是背景，细长斜放的物体，框里几乎全是背景。
# 抓取的机器人、外科医生、细胞计数者两样都要：每个物体分开，并有轮廓。
#
# 10/05 的 U-Net 在细胞之间画缝，漏掉一个像素就会把两个连成一个。Mask R-CNN 反过来：先找框，再只在每个框内问：
# 这些像素中，哪些属于*这个*物体？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Rounding.* A cell from 10 to 30 pixels, features at stride 8: 1.25 to 3.75 on the feature map. RoI pooling rounds to 1
# and 4, that is pixels 8 to 32, and later rounds again for each bin. The edges moved by 2 pixels, a tenth of the cell; the
# most that one rounding can move an edge is half a stride, 4 pixels. For the question "which class?" that does not
# matter. For "which pixel?" it does.
#
# *Two triangles.* In a box of 4 × 4, object A has the pixels on and below the diagonal, object B those on and above it, 10
# each. Their boxes are the same: IoU 1. The masks share the 4 pixels of the diagonal out of 16: IoU 0.25.
#
# *Panoptic quality.* Five masks are true, four are found; two pairs match, with IoU 0.8 and 0.7. Segmentation quality: their
# mean, 0.75. Recognition quality: $2 \cdot 2 / (5 + 4) = 0.444$. Panoptic quality: the product, 0.333.

# %% [markdown] lang="zh"
# *取整。* 一个细胞从像素 10 到 30，特征步幅为 8：在特征图上是 1.25 到 3.75。RoI 池化取整为 1 和 4，即像素 8 到 32，
# 之后每个小格还要再取整一次。边缘移动了 2 个像素，是细胞的十分之一；一次取整最多移动半个步幅，即 4 个像素。
# 对“是哪一类”没有关系，对“是哪个像素”就有关系。
#
# *两个三角形。* 4 × 4 的框里，物体 A 占对角线及其下方，物体 B 占对角线及其上方，各 10 个像素。
# 它们的框相同：IoU 为 1。掩码只共有对角线的 4 个像素，并集 16 个：IoU 为 0.25。
#
# *全景质量。* 真实掩码五个，找到四个；两对匹配，IoU 为 0.8 和 0.7。分割质量：平均值 0.75。
# 识别质量：$2 \cdot 2 / (5 + 4) = 0.444$。全景质量：两者之积 0.333。

# %%
lower = torch.ones(4, 4, dtype=torch.bool).tril()
triangles = mask_iou(lower[None], lower.T[None]).item()
example = torch.zeros(4, 5)
example[0, 0], example[1, 1] = 0.8, 0.7
panoptic = panoptic_quality([example])
edges = torch.arange(8, 40, 0.25)  # where an edge can lie, in pixels
moved = ((edges / 8).round() * 8 - edges).abs()
table(
    ["quantity", "value"],
    [
        ("mask IoU of the two triangles", triangles),
        ("segmentation quality", panoptic.segmentation_quality),
        ("recognition quality", panoptic.recognition_quality),
        ("panoptic quality", panoptic.quality),
    ],
)

drawing = Schematic(13.0, 3.8, "Mask R-CNN: two heads on the features of each box")
for name, x, y, text, kind in (
    ("picture", 0.9, 1.9, "picture", "data"),
    ("backbone", 2.9, 1.9, "backbone\nstride 8", "operation"),
    ("boxes", 2.9, 0.5, "proposals", "data"),
    ("align", 5.2, 1.9, "RoI align\n7 × 7 a box", "operation"),
    ("class", 7.7, 3.0, "box head:\nclass (and box)", "operation"),
    ("mask", 7.7, 0.9, "mask head: FCN\n14 × 14, a mask a class", "operation"),
    ("choose", 10.2, 0.9, "the mask of\nthat class", "operation"),
    ("paste", 12.1, 0.9, "paste into\nthe picture", "data"),
):
    drawing.box(name, x, y, text, kind, 2.3 if name == "mask" else 1.6, 0.9 if "\n" in text else 0.6)
for start, end in (
    ("picture", "backbone"), ("backbone", "align"), ("boxes", "align"), ("align", "class"), ("align", "mask"),
    ("mask", "choose"), ("class", "choose"), ("choose", "paste"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "mask-rcnn")

# %% [markdown]
# ## Formula · 公式
#
# $$L = L_{\mathrm{class}} + L_{\mathrm{box}} + L_{\mathrm{mask}}, \qquad L_{\mathrm{mask}} = \frac{1}{K m^2} \sum_k \sum_{i} \mathrm{BCE}\big( z_{k c_k i},\; y_{ki} \big)$$
#
# $$\mathrm{IoU}(A, B) = \frac{|A \cap B|}{|A \cup B|}$$
#
# $$\mathrm{PQ} = \underbrace{\frac{\sum_{(p, g) \in TP} \mathrm{IoU}(p, g)}{|TP|}}_{\mathrm{SQ}} \cdot \underbrace{\frac{|TP|}{|TP| + \frac12 |FP| + \frac12 |FN|}}_{\mathrm{RQ}}$$

# %% [markdown] lang="en"
# - $K$: number of boxes that are matched to an object; $m$: side of the mask, 14 here, 28 in the paper.
# - $z_{kci}$: logit of pixel $i$ in the mask of class $c$ of box $k$, `[boxes, num_classes, m, m]`; $c_k$: the box's true class.
# - $y_{ki}$: the true mask, cut out by the box and sampled on the grid of $m \times m$, `[boxes, m, m]`.
# - $\mathrm{BCE}$: binary cross-entropy, a sigmoid at each pixel (He et al. 2017, section 3).
# - $A, B$: sets of pixels. *Mask AP* is average precision with this IoU instead of that of the boxes.
# - $TP$: pairs of a found mask $p$ and a true one $g$ with an IoU above ½; $FP, FN$: masks without a partner (Kirillov et al.
#   2019, equations 1 and 2). $\mathrm{SQ}$: segmentation quality; $\mathrm{RQ}$: recognition quality.
#
# Only the mask of the box's own class is in the loss. Classes do not compete for a pixel, as they do under a softmax: the
# box head has decided what it is, the mask head says where. Average precision takes scored masks, which may overlap;
# panoptic quality takes a partition of the picture, in which every pixel has one owner, and needs no scores.

# %% [markdown] lang="zh"
# - $K$：与物体匹配的框数；$m$：掩码边长，这里是 14，论文中是 28。
# - $z_{kci}$：第 $k$ 个框、类别 $c$ 的掩码中像素 $i$ 的 logit，`[boxes, num_classes, m, m]`；$c_k$：该框的真实类别。
# - $y_{ki}$：真实掩码，按框裁出并在 $m \times m$ 网格上采样，`[boxes, m, m]`。
# - $\mathrm{BCE}$：二元交叉熵，每个像素一个 sigmoid（He 等 2017，第 3 节）。
# - $A, B$：像素集合。*掩码 AP* 就是用这个 IoU 代替框的 IoU 的平均精度。
# - $TP$：IoU 大于 ½ 的（预测掩码 $p$，真实掩码 $g$）对；$FP, FN$：没有配对的掩码（Kirillov 等 2019，式 1、2）。
#   $\mathrm{SQ}$：分割质量；$\mathrm{RQ}$：识别质量。
#
# 损失里只有框自己类别的掩码。类别之间不像 softmax 那样争夺像素：是什么由框头决定，在哪里由掩码头回答。
# 平均精度用的是带分数、可以重叠的掩码；全景质量用的是图的划分，每个像素只有一个主人，不需要分数。

# %% [markdown]
# ## Code · 代码

# %%
source(MaskHead.forward)
source(mask_targets)
source(mask_loss)
source(paste_masks)

# %% [markdown] lang="en"
# The head is a small FCN: convolutions on `[boxes, channels, 7, 7]`, a transposed convolution to 14 × 14, and a 1×1
# convolution with a channel for each class. `mask_targets` cuts the true mask out *with the same RoI align* as the features, so
# that a target pixel lies where its feature lies. `mask_loss` picks for each box the mask of its class by two index
# tensors.
#
# `paste_masks` goes the other way. It surrounds each mask with a border of zeros and lets the box grow by as much, so that the
# outermost values are interpolated towards 0 too; then it enlarges to the box's size and cuts off what lies beyond the
# picture.

# %% [markdown] lang="zh"
# 掩码头是一个小 FCN：在 `[boxes, channels, 7, 7]` 上做卷积，用转置卷积放大到 14 × 14，再用 1×1 卷积给每个类别一个通道。
# `mask_targets` 用*与特征相同的 RoI align* 裁出真实掩码，使目标像素与它的特征位置一致。
# `mask_loss` 用两个下标张量为每个框取出自己类别的掩码。
#
# `paste_masks` 反过来做。它在每个掩码外围补一圈零，框也相应变大，使最外面的值也向 0 插值；
# 然后放大到框的大小，并去掉图外的部分。

# %% [markdown]
# ## Experiment: to round or not to round · 实验：取整还是不取整

# %% [markdown] lang="en"
# A small Mask R-CNN on drawn blood: a backbone of stride 8, a class head, a mask head. The region proposal network of 10/03 is
# replaced by proposals made from the true boxes, each edge moved at random, and by boxes on background. Two versions, equal
# in all but one line: features from `roi_pool`, or from `roi_align` (torchvision's compiled ones, which 10/03 holds ours
# against). Three seeds each.

# %% [markdown] lang="zh"
# 在画出来的血液图上训练一个小 Mask R-CNN：步幅为 8 的主干、类别头、掩码头。10/03 的区域提议网络用这样的提议代替：
# 真实的框，每条边随机移动，再加上背景上的框。两个版本只差一行：特征来自 `roi_pool` 或 `roi_align`
# （用 torchvision 编译好的，10/03 已把我们的与它比较过）。每种三个种子。

# %%
quiz(
    "edge",
    en="At stride 8, by how many pixels can a single rounding move the edge of a box at most?",
    zh="步幅为 8 时，一次取整最多能把框的边缘移动多少像素？",
)
quiz(
    "loss",
    en="RoI pooling in place of alignment: what does it cost in mean mask IoU, for cells 10 to 20 pixels wide?",
    zh="用 RoI 池化代替对齐：对 10 到 20 像素宽的细胞，平均掩码 IoU 损失多少？",
    choices={
        "nothing": "less than 0.01 · 不到 0.01",
        "some": "0.01 to 0.05 · 0.01 到 0.05",
        "much": "more than 0.05 · 超过 0.05",
    },
)

# %%
settle("edge", moved.max().item(), tolerance=0.1)
SIZE, STRIDE, MASK, SEEDS = 48, 8, 14, (0, 1, 2)  # pixels of a picture, of a feature, of a mask


def move(boxes, share, generator):
    """Moves each edge by up to that share of the box's side, within the picture."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return (boxes + share * sides * (2 * torch.rand(boxes.shape, generator=generator) - 1)).clamp(0, SIZE)


def with_proposals(count, seed, share):
    """Pictures, their objects (masks, labels, boxes), and for each picture proposals, labels (0: none) and objects."""
    scenes, generator = draw_blood_scenes(count, SIZE, seed), torch.Generator().manual_seed(seed)
    objects, proposals = [], []
    for picture in range(count):
        masks, labels = scenes.masks(picture), scenes.labels(picture)
        kept = (labels < 3) & (
            masks.flatten(1).sum(dim=1) > 20
        )  # red and white cells, more than a rim of which is seen
        masks, labels = masks[kept], labels[kept]
        boxes = masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1])  # the right edge of the last pixel
        objects.append((masks, labels, boxes))
        corners = (SIZE - 12) * torch.rand(4, 2, generator=generator)
        elsewhere = torch.cat((corners, corners + 12), dim=1)
        elsewhere = elsewhere[(box_iou(elsewhere, boxes) < 0.3).all(dim=1)]
        around = torch.cat([move(boxes, share, generator) for _ in range(2)])
        matched = torch.arange(len(boxes)).repeat(2)
        all_labels = torch.cat((labels[matched], torch.zeros(len(elsewhere), dtype=torch.long)))
        proposals.append((torch.cat((around, elsewhere)), all_labels, matched))
    return scenes.images - 0.75, objects, proposals


images, objects, proposals = with_proposals(80, 0, 0.12)
test_images, test_objects, test_proposals = with_proposals(40, 1, 0.06)
# The proposals are fixed, so that their targets are computed once.
targets = [
    mask_targets([masks[matched]], [boxes[: len(matched)]], MASK)
    for (masks, _, _), (boxes, _, matched) in zip(objects, proposals, strict=True)
]
print(f"  {sum(len(o[1]) for o in objects)} cells to train on, {sum(len(o[1]) for o in test_objects)} to test on")


class SmallMaskRCNN(nn.Module):
    """A backbone of stride 8 and two heads on each box: classes (0 for none) and masks."""

    def __init__(self, pooling):
        super().__init__()
        self.pooling = pooling
        self.backbone = nn.Sequential(
            *(
                nn.Sequential(conv_norm_relu(before, width), conv_norm_relu(width, width), nn.MaxPool2d(2))
                for before, width in ((3, 8), (8, 16), (16, 24))
            )
        )
        self.classes = nn.Sequential(nn.Flatten(), nn.Linear(24 * 7 * 7, 3))
        self.masks = MaskHead(24, 3, width=16, depth=1)

    def forward(self, x, boxes):
        """Logits of the classes [boxes, 3] and of the masks [boxes, 3, 14, 14]."""
        features = self.backbone(x)  # [batch, 24, 6, 6]
        if self.pooling == "align":
            pooled = roi_align(features, boxes, 7, 1 / STRIDE, sampling_ratio=2, aligned=True)
        else:
            pooled = roi_pool(features, boxes, 7, 1 / STRIDE)
        return self.classes(pooled), self.masks(pooled)


def fit(pooling, seed, updates=90):
    torch.manual_seed(seed)
    network, generator = SmallMaskRCNN(pooling), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=updates)
    for _ in range(updates):
        rows = torch.randint(0, len(images), (5,), generator=generator).tolist()
        labels = torch.cat([proposals[row][1] for row in rows])
        class_logits, mask_logits = network(images[rows], [proposals[row][0] for row in rows])
        found = labels > 0  # in the order of the targets: background comes last in each picture
        loss = F.cross_entropy(class_logits, labels)
        loss = loss + mask_loss(mask_logits[found], labels[found], torch.cat([targets[row] for row in rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def detect(network):
    """For each test picture masks [found, height, width], scores and labels, after suppression."""
    boxes = [proposal[0] for proposal in test_proposals]
    counts = [len(each) for each in boxes]
    results = []
    for box, class_logits, mask_logits in zip(
        boxes, *(each.split(counts) for each in network(test_images, boxes)), strict=True
    ):
        probability, label = class_logits.softmax(dim=1).max(dim=1)
        kept = batched_nms(box, probability, label, 0.5)
        kept = kept[label[kept] > 0]
        own = mask_logits[kept, label[kept]].sigmoid()
        results.append((paste_masks(own, box[kept], SIZE, SIZE) > 0.5, probability[kept], label[kept]))
    return results


@torch.no_grad()
def outline_quality(network):
    """Mean mask IoU for true boxes and classes: what the mask head alone is good for."""
    _, mask_logits = network(test_images, [boxes for _, _, boxes in test_objects])
    total, split = [], mask_logits.sigmoid().split([len(labels) for _, labels, _ in test_objects])
    for (masks, labels, boxes), own in zip(test_objects, split, strict=True):
        pasted = paste_masks(own[torch.arange(len(labels)), labels], boxes, SIZE, SIZE) > 0.5
        total.append(mask_iou(pasted, masks).diagonal())
    return torch.cat(total).mean().item()


def partition(masks, scores):
    """Gives each pixel to the best-scored mask that claims it, so that masks do not overlap."""
    taken, owned = torch.zeros(SIZE, SIZE, dtype=torch.bool), []
    for index in scores.argsort(descending=True).tolist():
        owned.append(masks[index] & ~taken)
        taken |= masks[index]
    return torch.stack(owned) if owned else masks


def score(network):
    results = detect(network)
    overlaps = [
        mask_overlaps(masks, scores, labels, truth, truth_labels)
        for (masks, scores, labels), (truth, truth_labels, _) in zip(results, test_objects, strict=True)
    ]
    precision = mean_average_precision(overlaps, 3)  # [10 thresholds, 3 classes]; of class 0 there are no objects
    quality = panoptic_quality(
        mask_iou(partition(masks, scores), truth)
        for (masks, scores, _), (truth, _, _) in zip(results, test_objects, strict=True)
    )
    return outline_quality(network), np.nanmean(precision), np.nanmean(precision[0]), np.nanmean(precision[5]), quality


networks = {(pooling, seed): fit(pooling, seed) for pooling in ("pool", "align") for seed in SEEDS}
reached = {key: score(network) for key, network in networks.items()}
table(
    ["features", "seed", "mask IoU, true boxes", "mask mAP", "AP50", "AP75", "SQ", "RQ", "PQ"],
    [
        (*key, *(float(v) for v in values), pq.segmentation_quality, pq.recognition_quality, pq.quality)
        for key, (*values, pq) in reached.items()
    ],
)
cost = float(np.mean([reached["align", seed][0] - reached["pool", seed][0] for seed in SEEDS]))
settle("loss", "nothing" if cost < 0.01 else "some" if cost < 0.05 else "much")

busiest = sorted(range(40), key=lambda picture: -len(test_objects[picture][1]))[:2]
figure, axes = plt.subplots(2, 4, figsize=(12, 6), layout="constrained")
for row, picture in enumerate(busiest):
    for axis, name in zip(axes[row], ("picture", "truth", "pool", "align"), strict=True):
        axis.imshow((test_images[picture] + 0.75).permute(1, 2, 0).numpy())
        axis.set_title(name if row == 0 else "")
        axis.axis("off")
        if name == "truth":
            drawn = test_objects[picture][0]
        elif name == "picture":
            continue
        else:
            drawn = detect(networks[name, 0])[picture][0]
        for number, mask in enumerate(drawn):
            axis.contour(mask.numpy().astype(float), [0.5], colors=[plt.get_cmap("tab10")(number % 10)], linewidths=1.5)
show(figure, "outlines")

# %% [markdown] lang="en"
# Aligned features give better outlines with every seed, and the stricter the threshold, the more it shows. At an IoU of ½
# both find nearly everything: which cell it is, rounded features tell as well. The paper found the same on COCO: with the
# stride of 32 mask AP75 rose by half when alignment replaced pooling (table 2d). The cells overlap in their boxes, yet do
# not merge, since every mask was asked for by a box of its own.

# %% [markdown] lang="zh"
# 对齐的特征在每个种子上都给出更好的轮廓，阈值越严格，差别越明显。IoU 取 ½ 时两者几乎都能找全：是哪个细胞，取整的特征也分得清。
# 论文在 COCO 上看到同样的结果：步幅为 32 时，用对齐代替池化，掩码 AP75 提高了一半（表 2d）。
# 细胞的框彼此重叠，却没有连成一片，因为每个掩码都由自己的框来提问。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torchvision's Mask R-CNN is the reference: its heads with our parameters, its loss, its pasting, values and gradients. The
# mask IoU and the average precision of masks are held against pycocotools in this repository's tests.

# %% [markdown] lang="zh"
# 参照是 torchvision 的 Mask R-CNN：用我们的参数的它的头、它的损失、它的粘贴，比较数值和梯度。
# 掩码 IoU 和掩码的平均精度在本仓库的测试中与 pycocotools 比较。

# %%
random = torch.Generator().manual_seed(0)
ours, heads, predictor = MaskHead(5, 3, 8, 2), MaskRCNNHeads(5, (8, 8), 1), MaskRCNNPredictor(8, 8, 3)
heads.load_state_dict(ours.convs.state_dict())
predictor.load_state_dict(ours.predictor.state_dict())
features = torch.randn(4, 5, 7, 7, generator=random).requires_grad_()
corners = 30 * torch.rand(4, 2, generator=random)
boxes = torch.cat((corners, corners + 6 + 12 * torch.rand(4, 2, generator=random)), dim=1)
masks, labels = torch.rand(4, 48, 48, generator=random) > 0.5, torch.tensor([1, 2, 0, 1])
logits = ours(features)
both = {
    "ours": mask_loss(logits, labels, mask_targets([masks], [boxes], MASK)),
    "torchvision's": maskrcnn_loss(predictor(heads(features)), [boxes], [masks], [labels], [torch.arange(4)]),
}
slopes = {name: torch.autograd.grad(loss, features)[0] for name, loss in both.items()}
pasted = paste_masks(logits[:, 0].detach().sigmoid(), boxes, 48, 48)
expected = paste_masks_in_image(logits[:, :1].detach().sigmoid(), boxes, (48, 48))[:, 0]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the triangles' masks have an IoU of 0.25", triangles, 0.25)
check_close(
    "by hand: SQ 0.75, RQ 4/9, PQ 1/3",
    [panoptic.segmentation_quality, panoptic.recognition_quality, panoptic.quality],
    [0.75, 4 / 9, 1 / 3],
)
check_close("rounding moves an edge by half a stride at most", moved.max(), 4.0)
check_close("targets and loss equal torchvision's", both["ours"].detach(), both["torchvision's"].detach())
check_close("so do the gradients", slopes["ours"], slopes["torchvision's"])
check_close("pasting equals torchvision's", pasted, expected)
check(
    "aligned features give a better mask IoU, with every seed",
    min(reached["align", seed][0] - reached["pool", seed][0] for seed in SEEDS) > 0.01,
)
check("and a better mask mAP", min(reached["align", seed][1] - reached["pool", seed][1] for seed in SEEDS) > 0)
check(
    "and a better segmentation quality",
    all(reached["align", s][4].segmentation_quality > reached["pool", s][4].segmentation_quality for s in SEEDS),
)
check("AP50 hardly differs: both find the cells", min(values[2] for values in reached.values()) > 0.85)
check(
    "PQ is SQ times RQ",
    all(abs(pq.quality - pq.segmentation_quality * pq.recognition_quality) < 1e-9 for *_, pq in reached.values()),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Mask R-CNN with a joint-wise head finds poses: one mask of one pixel for each joint, which is where 10/07 begins:
# `uv run lesson run 10/07`. Papers: [He et al. 2017](https://arxiv.org/abs/1703.06870), Mask R-CNN and RoI align; [Kirillov et
# al. 2019](https://arxiv.org/abs/1801.00868), panoptic segmentation; [Kirillov et al.
# 2020](https://arxiv.org/abs/1912.08193), PointRend, sharp masks of large objects; [Cheng et al.
# 2022](https://arxiv.org/abs/2112.01527), Mask2Former, masks from queries instead of boxes.

# %% [markdown] lang="zh"
# 给 Mask R-CNN 换上关节头就能找姿态：每个关节一个只有一个像素的掩码，10/07 由此开始：`uv run lesson run 10/07`。
# 论文：[He 等 2017](https://arxiv.org/abs/1703.06870)，Mask R-CNN 与 RoI align；
# [Kirillov 等 2019](https://arxiv.org/abs/1801.00868)，全景分割；
# [Kirillov 等 2020](https://arxiv.org/abs/1912.08193)，PointRend，大物体的清晰掩码；
# [Cheng 等 2022](https://arxiv.org/abs/2112.01527)，Mask2Former，由查询而不是由框得到掩码。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `mask_targets`, `mask_loss` and `paste_masks` yourself. `uv run lesson exercise 10/06` makes a file with their
# signatures, `uv run lesson check 10/06` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `mask_targets`、`mask_loss` 和 `paste_masks`。
# `uv run lesson exercise 10/06` 生成带有签名的文件，`uv run lesson check 10/06` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `roi_align` takes features `[images, channels, …]` and one tensor of boxes for each image. Let every mask be an image with
#    one channel and one box. Scale 1, `sampling_ratio=-1`, `aligned=False`.
# 2. `logits[torch.arange(len(labels)), labels]` picks one mask for each box: `[boxes, size, size]`. The mean is over all
#    of its pixels. Without boxes, `logits.sum() * 0` keeps a gradient.
# 3. Pasting: a border of one zero on each side, and boxes that grow around their centers by (size + 2) / size. Corners become
#    whole pixels by `.long()`, and a box from `left` to `right` is `right − left + 1` wide, at least 1.
# 4. Cut in picture coordinates first: from `max(left, 0)` to `min(right + 1, width)`; less `left` this is the part of the mask.

# %% [markdown] lang="zh"
# 1. `roi_align`接收特征 `[images, channels, …]` 和每张图的一组框。让每个掩码作为一张单通道、只有一个框的图。
#    比例为 1，`sampling_ratio=-1`，`aligned=False`。
# 2. `logits[torch.arange(len(labels)), labels]` 为每个框取出一个掩码：`[boxes, size, size]`。对它的全部像素取平均。
#    没有框时，`logits.sum() * 0` 保留梯度。
# 3. 粘贴：四周各补一个零，框绕中心扩大 (size + 2) / size 倍。用 `.long()` 把角变为整数像素，
#    从 `left` 到 `right` 的框宽 `right − left + 1`，至少为 1。
# 4. 先在图像坐标里裁剪：从 `max(left, 0)` 到 `min(right + 1, width)`；减去 `left` 就是掩码中的部分。


# %%
@exercise(mask_targets, mask_loss, paste_masks)
def judge(yours, reference):
    random = torch.Generator().manual_seed(5)
    masks = [torch.rand(count, 30, 34, generator=random) > 0.5 for count in (2, 0, 3)]
    boxes = [30 * torch.rand(count, 2, 2, generator=random) for count in (2, 0, 3)]
    boxes = [torch.cat((each.amin(dim=1), each.amax(dim=1) + 2), dim=1) for each in boxes]
    mine, theirs = (each.mask_targets(masks, boxes, 7) for each in (yours, reference))
    check("mask_targets gives [boxes of all pictures, size, size]", mine.shape == (5, 7, 7))
    check_close("mask_targets", mine, theirs)

    logits = torch.randn(5, 4, 7, 7, generator=random, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([3, 0, 1, 1, 2])
    losses = [each.mask_loss(logits, labels, theirs.double()) for each in (yours, reference)]
    check_close("mask_loss", *losses, 1e-8)
    check_close("its gradient", *(torch.autograd.grad(loss, logits)[0] for loss in losses), 1e-8)
    empty = yours.mask_loss(logits[:0], labels[:0], theirs[:0].double())
    check("mask_loss without boxes is 0 and has a gradient", empty.item() == 0 and empty.requires_grad)

    probabilities = torch.rand(4, 7, 7, generator=random)
    inside = torch.tensor([[3.0, 4, 17, 20], [8.4, 2.7, 15.2, 11.9], [5, 5, 5.5, 5.5], [0, 0, 24, 22]])
    beyond = torch.tensor([[-6.0, -3, 9, 8], [15, 12, 40, 31], [-20, -20, -5, -5], [4, -8, 12, 40]])
    for name, where in (("inside the picture", inside), ("that reach beyond it", beyond)):
        mine, theirs = (each.paste_masks(probabilities, where, 22, 24) for each in (yours, reference))
        check(f"paste_masks gives [boxes, height, width], boxes {name}", mine.shape == (4, 22, 24))
        check_close(f"paste_masks, boxes {name}", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does RoI align matter more for masks than for boxes? · 为什么 RoI align 对掩码比对框更重要？

# %% [markdown] lang="en"
# A class does not change if the features are shifted by half a stride, and a box head can learn to correct an average shift. A
# mask head answers pixel by pixel; the shift is different for every box and was rounded away, so that nothing can correct
# it. RoI align samples at exact places by interpolation.

# %% [markdown] lang="zh"
# 特征平移半个步幅，类别不会变，框头也能学会修正平均的偏移。掩码头逐像素作答；每个框的偏移都不同，而且已被取整丢掉，无从修正。
# RoI align 用插值在准确的位置采样。

# %%
for column, name in ((2, "AP50"), (3, "AP75")):
    means = {pooling: np.mean([reached[pooling, seed][column] for seed in SEEDS]) for pooling in ("pool", "align")}
    print(f"  {name}: pool {means['pool']:.2f}, align {means['align']:.2f}")

# %% [markdown]
# ### Why one sigmoid mask for each class, and not a softmax over classes? · 为什么每类一个 sigmoid 掩码，而不是对类别做 softmax？

# %% [markdown] lang="en"
# The box head has already decided the class. With a softmax every pixel would have to decide it again, and masks would compete;
# with a sigmoid for each class only the true class's mask is trained, and "where" is separated from "what". The paper
# measures 5.5 points of mask AP for it (table 2b).

# %% [markdown] lang="zh"
# 框头已经决定了类别。用 softmax，每个像素都要再决定一次，掩码之间互相竞争；每类一个 sigmoid，只训练真实类别的掩码，
# “在哪里”与“是什么”分开。论文测得这带来 5.5 个点的掩码 AP（表 2b）。

# %%
trial = torch.zeros(1, 3, 2, 2, requires_grad=True)
mask_loss(trial, torch.tensor([1]), torch.ones(1, 2, 2)).backward()
print(f"  sum of |gradient| for the masks of classes 0, 1, 2: {trial.grad.abs().sum(dim=(0, 2, 3)).tolist()}")

# %% [markdown]
# ### Semantic, instance, panoptic: what is the difference? · 语义、实例、全景分割有什么区别？

# %% [markdown] lang="en"
# Semantic: a class for every pixel; objects of a class are not told apart. Instance: a mask with a score for every countable
# object, which may overlap, and nothing for sky or road. Panoptic: every pixel gets a class and, if the class is
# countable, the number of its object; nothing overlaps. They are scored by mIoU, mask AP and PQ.

# %% [markdown] lang="zh"
# 语义分割：每个像素一个类别，同类物体不加区分。实例分割：每个可数物体一个带分数的掩码，可以重叠，天空、道路之类没有。
# 全景分割：每个像素有类别，可数的类别还有物体编号，互不重叠。分别用 mIoU、掩码 AP 和 PQ 评分。

# %%
scene = draw_blood_scenes(1, SIZE, seed=11)
print(f"  one picture: classes {scene.classes.unique().tolist()}, {len(scene.masks(0))} cells, every pixel owned once")

# %% [markdown]
# ### How is mask AP computed? · 掩码 AP 怎样计算？

# %% [markdown] lang="en"
# As box AP, but with the IoU of masks: detections in order of their scores, each matched to the free object of its class
# that it overlaps most, if the IoU reaches the threshold; then the area under the precision–recall curve, and the mean over
# classes and thresholds 0.50 to 0.95. The score is usually the box's class score, which does not know how good the mask is
# (Mask Scoring R-CNN predicts that as well).

# %% [markdown] lang="zh"
# 与框 AP 相同，只是用掩码的 IoU：检测按分数排序，每个匹配同类中重叠最大的未匹配物体，IoU 达到阈值才算；
# 再求精确率–召回率曲线下的面积，对类别和 0.50 到 0.95 的阈值取平均。
# 分数通常是框的类别分数，它并不知道掩码有多好（Mask Scoring R-CNN 会另外预测这一点）。

# %%
results = detect(networks["align", 0])
overlaps = [mask_overlaps(*found, *there[:2]) for found, there in zip(results, test_objects, strict=True)]
for threshold, row in zip((0.5, 0.75, 0.9), mean_average_precision(overlaps, 3, (0.5, 0.75, 0.9)), strict=True):
    print(f"  IoU ≥ {threshold}: AP of red cells {row[1]:.2f}, of white cells {row[2]:.2f}")

# %% [markdown]
# ### What limits the sharpness of Mask R-CNN's masks? · 什么限制了 Mask R-CNN 掩码的清晰度？

# %% [markdown] lang="en"
# Their resolution: 28 × 28 for every box, 14 × 14 here. For a small object that is more than its pixels; for one of 500 pixels
# a mask pixel is 18 wide, and thin parts are lost. The remedies are larger masks, refinement at uncertain points
# (PointRend), or masks from full-resolution features.

# %% [markdown] lang="zh"
# 分辨率：每个框都是 28 × 28，这里是 14 × 14。对小物体这比它的像素还多；对 500 像素的物体，一个掩码像素宽 18，细的部分会丢失。
# 办法有：更大的掩码、在不确定的点上细化（PointRend）、或用全分辨率特征生成掩码。

# %%
truth, _, tight = test_objects[busiest[0]]
for side in (7, 14, 28):
    back = paste_masks(mask_targets([truth], [tight], side), tight, SIZE, SIZE) > 0.5
    print(f"  true masks, cut out at {side} × {side} and pasted: IoU {mask_iou(back, truth).diagonal().mean():.3f}")

# %% [markdown]
# ### When would you take a U-Net, and when Mask R-CNN? · 什么时候用 U-Net，什么时候用 Mask R-CNN？

# %% [markdown] lang="en"
# A U-Net where objects rarely touch, shapes are irregular or endless (vessels, roads), or pictures are few; it is one network
# with one loss. Mask R-CNN where objects overlap, are of many classes and must be counted; it needs boxes that cover them,
# and one object for each box. For crowded round things there are specialists, such as StarDist and Cellpose.

# %% [markdown] lang="zh"
# 物体很少相接、形状不规则或没有尽头（血管、道路）、图片很少时用 U-Net：一个网络，一个损失。
# 物体重叠、类别多、需要计数时用 Mask R-CNN：它需要能罩住物体的框，每个框一个物体。
# 拥挤的圆形物体有专门的方法，如 StarDist 和 Cellpose。

# %%
pairs = [(boxes, masks) for masks, _, boxes in test_objects]
box_pairs = sum(int((box_iou(boxes, boxes).triu(1) > 0).sum()) for boxes, _ in pairs)
mask_pairs = sum(int((mask_iou(masks, masks).triu(1) > 0).sum()) for _, masks in pairs)
print(f"  pairs of cells whose boxes overlap: {box_pairs}; whose masks overlap: {mask_pairs}")
