# %% [markdown]
# # U-Net · U-Net

# %% [markdown] lang="en"
# After this lesson you can write a U-Net, say what its skips are for, keep touching cells apart by a weight map, segment a
# picture of any size in tiles without a seam, and train on real photographs that nobody has outlined, from masks made by a
# stated rule. You need semantic segmentation (10/04) and transposed convolution (08/02).

# %% [markdown] lang="zh"
# 学完本课，你能写出 U-Net，能说出跳跃连接的用处，能用权重图把相接的细胞分开，能把任意大小的图片分块分割而没有接缝，
# 还能在没有人勾画过轮廓的真实照片上，用按明确规则生成的掩码来训练。
# 先修：语义分割（10/04）、转置卷积（08/02）。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.runtime.data import find
from dlcommon.vision.blood_scenes import draw_blood_scenes
from dlcommon.vision.mask_metrics import mask_iou, panoptic_quality
from dlcommon.vision.otsu import dark_objects, otsu_threshold
from dlcommon.vision.unet import UNet, border_weights, predict_tiles, separate_instances
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# In 2015 a group in Freiburg had thirty annotated pictures of neurons, and wanted the outline of every cell in large
# microscope images. Three things stood in the way. A network that sees enough context has lost the detail, and adding
# *scores* of finer layers, as an FCN does, brings back little of it: a few numbers at each pixel cannot tell what an
# edge looks like. Cells touch, and if a single pixel of the gap is missed, two cells become one. And the pictures were
# larger than the memory.
#
# Anyone who counts cells, measures organs or finds cracks has the same three problems, and usually a fourth: nobody has
# time to outline thousands of objects.

# %% [markdown] lang="zh"
# 2015 年，弗赖堡的一个研究组只有三十张标注过的神经元图像，却想得到大幅显微图像中每个细胞的轮廓。有三个障碍。
# 看得到足够上下文的网络已经丢失了细节，而像 FCN 那样把较细层的*分数*加回来，能恢复的不多：
# 每个像素几个数，说不清边缘是什么样子。细胞彼此相接，缝隙只要漏掉一个像素，两个细胞就成了一个。图像还比内存大。
#
# 凡是数细胞、量器官、找裂缝的人，都有这三个问题，通常还有第四个：没有人有时间去勾画几千个物体。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *The weight of a gap*, with $w_0 = 10$ and $\sigma = 5$ pixels. A pixel one step from two cells: $d_1 + d_2 = 2$, weight
# $10\, e^{-4/50} = 9.23$. Five steps from both: $10\, e^{-100/50} = 1.35$. One step from a cell, with the next one 20
# away: $10\, e^{-441/50} = 0.0015$. Only narrow gaps are heavy.
#
# *Otsu's threshold* of the gray values 1, 2, 2, 8, 9, 9. Cut after 2: both classes have half of the pixels, their means are
# $5/3$ and $26/3$, and the variance between them is $\frac12 \cdot \frac12 \cdot 7^2 = 12.25$. Cut after 1: $\frac16 \cdot
# \frac56 \cdot (6 - 1)^2 = 3.47$. The first is better.
#
# *A margin.* A U-Net with two halvings and two 3×3 convolutions at each level: on the way down and at the bottom these see
# $2 (1 + 2 + 4) = 14$ pixels to each side, on the way up $2 (1 + 2) = 6$ more, and where a pixel lies in its 2 × 2 or
# 4 × 4 block matters by up to $2 (1 + 3) = 8$: 28 pixels.

# %% [markdown] lang="zh"
# *缝隙的权重*，取 $w_0 = 10$，$\sigma = 5$ 像素。离两个细胞各一步的像素：$d_1 + d_2 = 2$，权重 $10\, e^{-4/50} = 9.23$。
# 离两者各五步：$10\, e^{-100/50} = 1.35$。离一个细胞一步、离另一个 20 步：$10\, e^{-441/50} = 0.0015$。
# 只有窄缝才重。
#
# 灰度值 1、2、2、8、9、9 的*大津阈值*。在 2 之后切开：两类各占一半，均值为 $5/3$ 和 $26/3$，
# 类间方差 $\frac12 \cdot \frac12 \cdot 7^2 = 12.25$。
# 在 1 之后切开：$\frac16 \cdot \frac56 \cdot (6 - 1)^2 = 3.47$。前者更好。
#
# *边距。* 减半两次、每级两个 3×3 卷积的 U-Net：向下和底部的卷积向每一侧看 $2 (1 + 2 + 4) = 14$ 个像素，
# 向上再看 $2 (1 + 2) = 6$ 个，像素在 2 × 2 或 4 × 4 块中的位置最多再影响 $2 (1 + 3) = 8$ 个：共 28 个像素。

# %%
gaps = [(d1, d2, 10 * np.exp(-((d1 + d2) ** 2) / 50)) for d1, d2 in ((1, 1), (5, 5), (1, 20))]
table(["to the nearest", "to the second", "weight"], gaps)
values = np.array([1, 2, 2, 8, 9, 9], np.uint8)
between = {t: float((values <= t).mean() * (values > t).mean() * (values[values > t].mean() - values[values <= t].mean()) ** 2) for t in (1, 2, 8)}  # fmt: skip
table(["cut after", "variance between the classes"], between.items())
print(f"  Otsu's threshold: {otsu_threshold(values)}; margin of a U-Net with two halvings: {UNet(3, 1).margin}")

drawing = Schematic(13.2, 5.0, "A U-Net: dashed, enlarged; across, what is joined")
for name, x, y, text, kind in (
    ("in", 0.9, 4.2, "picture\n3, H × W", "data"),
    ("d1", 3.2, 4.2, "conv, conv\n8, H × W", "operation"),
    ("d2", 4.6, 2.6, "conv, conv\n16, H/2 × W/2", "operation"),
    ("d3", 6.3, 0.9, "conv, conv\n32, H/4 × W/4", "operation"),
    ("j2", 8.0, 2.6, "join, conv, conv\n16, H/2 × W/2", "operation"),
    ("j1", 9.4, 4.2, "join, conv, conv\n8, H × W", "operation"),
    ("out", 11.7, 4.2, "1×1 conv\nlogits, H × W", "data"),
):
    drawing.box(name, x, y, text, kind, 2.1 if name[0] != "i" else 1.5, 0.9)
for start, end, label, dashed in (
    ("in", "d1", "", False),
    ("d1", "d2", "max pool", False),
    ("d2", "d3", "max pool", False),
    ("d3", "j2", "transposed", True),
    ("j2", "j1", "transposed", True),
    ("d2", "j2", "skip", False),
    ("d1", "j1", "skip", False),
    ("j1", "out", "", False),
):
    drawing.arrow(start, end, label, dashed=dashed)
show(drawing.figure, "unet")

# %% [markdown]
# ## Formula · 公式
#
# $$u_l = \mathrm{conv}\big( [\, e_l \,;\; T(u_{l+1}) \,] \big), \qquad e_l = \mathrm{conv}(\mathrm{pool}(e_{l-1})), \qquad u_L = e_L$$
#
# $$w(x) = w_c(x) + w_0 \exp\left( -\frac{(d_1(x) + d_2(x))^2}{2 \sigma^2} \right), \qquad L = \frac{1}{N} \sum_x w(x)\, \ell\big( z(x), y(x) \big)$$
#
# $$t^* = \arg\max_t \; q_t\, (1 - q_t)\, (\mu_{>t} - \mu_{\le t})^2$$

# %% [markdown] lang="en"
# - $e_l$: features of level $l$ on the way down, `[batch, widths[l], height / 2^l, width / 2^l]`.
# - $u_l$: features on the way up, of the same shape; $L$: the lowest level.
# - $T$: transposed convolution with a kernel of 2 and a stride of 2; $[\,\cdot\,;\,\cdot\,]$: channels side by side.
# - $w(x)$: weight of pixel $x$, `[batch, height, width]` (Ronneberger et al. 2015, equation 2). We take the second term
#   in the background only.
# - $w_c(x)$: balances the classes; here 2 in cells and 1 outside.
# - $d_1, d_2$: distances to the border of the nearest and of the second nearest cell, in pixels.
# - $\ell$: cross-entropy of the logit $z(x)$ for the class $y(x)$; $N$: number of pixels.
# - $q_t$: share of the pixels with values ≤ $t$; $\mu_{\le t}, \mu_{>t}$: means of both classes (Otsu 1979).

# %% [markdown] lang="zh"
# - $e_l$：向下路径第 $l$ 级的特征，`[batch, widths[l], height / 2^l, width / 2^l]`。
# - $u_l$：向上路径的特征，形状相同；$L$：最低一级。
# - $T$：核为 2、步幅为 2 的转置卷积；$[\,\cdot\,;\,\cdot\,]$：通道并排拼接。
# - $w(x)$：像素 $x$ 的权重，`[batch, height, width]`（Ronneberger 等 2015，式 2）。第二项我们只用在背景上。
# - $w_c(x)$：平衡类别；这里细胞内取 2，细胞外取 1。
# - $d_1, d_2$：到最近和第二近的细胞边界的距离，单位像素。
# - $\ell$：logit $z(x)$ 对类别 $y(x)$ 的交叉熵；$N$：像素数。
# - $q_t$：值 ≤ $t$ 的像素占比；$\mu_{\le t}, \mu_{>t}$：两类的均值（Otsu 1979）。

# %% [markdown]
# ## Code · 代码

# %%
source(UNet.forward)
source(border_weights)
source(predict_tiles)
source(otsu_threshold)

# %% [markdown] lang="en"
# `UNet.forward` keeps what each level has computed. On the way up a transposed convolution doubles the sides, and the kept
# features of that level stand beside the result: `torch.cat` over channels, not a sum, so that the convolutions after it
# decide what to take from where. The paper's convolutions are unpadded: 572 pixels a side go in, 388 come out, and what is
# kept is cropped. Padded ones, as here, keep the size.
#
# `border_weights` computes the distance to every cell, `[cells, height, width]`, and adds the two smallest. `predict_tiles`
# mirrors the picture at its border, predicts each tile with a margin, and keeps the middle. `otsu_threshold` tries all 256
# cuts at once from cumulated counts and sums.

# %% [markdown] lang="zh"
# `UNet.forward` 保留每一级算出的特征。向上时，转置卷积把边长加倍，再把该级保留的特征放在旁边：
# 是沿通道的 `torch.cat`，不是相加，由后面的卷积决定从哪里取什么。论文的卷积不填充：输入边长 572，输出 388，保留的特征要裁剪。
# 像这里一样填充，就保持尺寸不变。
#
# `border_weights` 算出到每个细胞的距离 `[cells, height, width]`，取最小的两个相加。
# `predict_tiles` 在图片边界做镜像，带着边距预测每一块，只留中间。`otsu_threshold` 用累积的计数与和，一次试完 256 种切法。

# %% [markdown]
# ## Experiment: skips, and cells that touch · 实验：跳跃连接，以及相接的细胞

# %% [markdown] lang="en"
# Drawn blood, in which nearly all red cells touch another. The target is foreground, with a gap one pixel wide wherever two
# cells touch. Every connected part of a prediction then counts as a cell, and is compared with the true cells: a pair with
# an IoU above ½ is a match. The *recognition quality* is the F1 score of these matches (more on it in 10/06).
#
# Three networks with three seeds each, 60 updates: without skips, with skips, and with skips and the weight map
# ($\sigma = 2.5$ pixels, since these cells are small). Heavy gaps alone would tip the balance towards background, so that some
# networks find nothing at all; $w_c$ holds against it.

# %% [markdown] lang="zh"
# 画出来的血液图，几乎所有红细胞都与别的相接。目标是前景，凡是两个细胞相接处都留一个像素宽的缝。
# 于是预测中每个连通的部分算一个细胞，与真实细胞比较：IoU 大于 ½ 的一对算匹配。*识别质量*是这些匹配的 F1 分数（详见 10/06）。
#
# 三种网络，各三个种子，60 次更新：没有跳跃连接、有跳跃连接、有跳跃连接并加权重图（$\sigma = 2.5$ 像素，因为这些细胞小）。
# 只加重缝隙会使天平倒向背景，有的网络会什么都找不到；$w_c$ 与之抗衡。

# %%
quiz(
    "parts",
    en="There are 390 cells. How many connected parts does the network without skips find, about?",
    zh="共有 390 个细胞。没有跳跃连接的网络大约找到多少个连通部分？",
    choices={
        "fewer": "far fewer than 390 · 远少于 390",
        "about": "about 390 · 大约 390",
        "more": "far more · 远多于 390",
    },
)
quiz(
    "seam",
    en="Tiles of 16 pixels without a margin: how far are logits off at worst, as a share of their standard deviation?",
    zh="16 像素的块、没有边距：logits 最多偏离多少？以它们的标准差为单位。",
    choices={
        "little": "less than 10 % · 不到 10 %",
        "much": "more than 50 % · 超过 50 %",
        "middle": "in between · 两者之间",
    },
)

# %%
SEEDS = (0, 1, 2)
train, test = (draw_blood_scenes(120, 32, 0, clustered=0.95), draw_blood_scenes(60, 48, 1, clustered=0.95))
target, test_target = separate_instances(train.instances), separate_instances(test.instances)
gap_weights = border_weights(train.instances, sigma=2.5)


def fit(network, images, masks, weights, seed, updates=60, augment=None):
    """Trains in place on batches of 8, with Adam and a one-cycle schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=updates)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        rows = torch.randint(0, len(images), (8,), generator=generator)
        batch = images[rows] if augment is None else augment(images[rows], generator)
        logits = network(batch - 0.75)[:, 0]  # [8, height, width]
        loss = F.binary_cross_entropy_with_logits(logits, masks[rows].float(), weight=weights[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def foreground(network, images):
    return network(images - 0.75)[:, 0] > 0


def connected_parts(mask):
    """The masks of all connected parts, bool [parts, height, width]."""
    numbered, count = ndimage.label(mask.numpy())
    return torch.from_numpy(numbered) == torch.arange(1, count + 1)[:, None, None]


def instance_scores(masks):
    """IoU of the foreground, the number of parts, and the panoptic quality of the parts against the true cells."""
    parts = [connected_parts(mask) for mask in masks]
    quality = panoptic_quality(mask_iou(found, test.masks(picture)) for picture, found in enumerate(parts))
    iou = ((masks & (test_target > 0)).sum() / (masks | (test_target > 0)).sum()).item()
    return iou, sum(len(found) for found in parts), quality.segmentation_quality, quality.recognition_quality


VARIANTS = {"no skips": (False, 0.0), "skips": (True, 0.0), "skips and weight map": (True, 1.0)}
networks, reached = {}, {}
for name, (skips, share) in VARIANTS.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        network = UNet(3, 1, skips=skips)
        networks[name, seed] = fit(network, train.images, target, 1 + share * (target + gap_weights), seed)
        reached[name, seed] = instance_scores(foreground(networks[name, seed], test.images))
perfect = instance_scores(test_target > 0)
cells = sum(len(test.masks(picture)) for picture in range(60))
table(
    ["network", "seed", "IoU of foreground", "parts", "segmentation quality", "recognition quality"],
    [(*key, *scores) for key, scores in reached.items()] + [("the target itself", "", *perfect)],
)
parts_found = sum(reached["no skips", seed][1] for seed in SEEDS) / len(SEEDS)
settle("parts", "fewer" if parts_found < 300 else "about" if parts_found < 480 else "more")

figure, axes = plt.subplots(2, 6, figsize=(15, 5.2), layout="constrained")
weight_map = border_weights(test.instances[:2], sigma=2.5)
for row in range(2):
    columns = [
        ("picture", test.images[row].permute(1, 2, 0)),
        ("target", test_target[row]),
        ("weight of the gaps", weight_map[row]),
        *((name, foreground(networks[name, 0], test.images[row : row + 1])[0]) for name in VARIANTS),
    ]
    for axis, (name, image) in zip(axes[row], columns, strict=True):
        axis.imshow(image.numpy(), cmap="magma" if "weight of" in name else "gray")
        axis.set_title(name if row == 0 else "", fontsize=10)
        axis.axis("off")
show(figure, "skips")

# %% [markdown] lang="en"
# Without skips everything has to pass through 8 × 8 positions; outlines are guessed, gaps are lost, and neighboring cells
# become one part. With skips the outlines are better and the recognition is about twice as good, with every seed. The
# weight map makes narrow gaps count up to eleven times: more parts, and a better recognition with every seed, while the IoU of
# the foreground moves by two points at most. A few pixels decide whether two cells are two, and IoU hardly sees them. (After
# 60 updates most cells that touch are still merged, with an IoU of 0.9: that is how little this score says about counting.)

# %% [markdown] lang="zh"
# 没有跳跃连接，一切都要挤过 8 × 8 个位置；轮廓靠猜，缝隙丢失，相邻的细胞连成一片。有了跳跃连接，每个种子的轮廓都更好，
# 识别质量大约提高一倍。权重图让窄缝最多算十一倍：部分更多，每个种子的识别质量都更好，而前景的 IoU 最多变动两个百分点。
# 两个细胞是不是两个，由少数几个像素决定，而 IoU 几乎看不见它们。
# （60 次更新之后，大多数相接的细胞仍连在一起，而 IoU 是 0.9：这个分数对计数说明得多么少。）

# %% [markdown]
# ## Experiment: tiles without a seam · 实验：没有接缝的分块

# %% [markdown] lang="en"
# A network that was trained on 32 × 32 pixels can take a picture of any size, if there is memory for it. If not: tiles. How
# wide must their margin be?

# %% [markdown] lang="zh"
# 用 32 × 32 像素训练的网络可以处理任意大小的图片，只要内存够。不够就分块。边距要多宽？

# %%
network = networks["skips", 0]
large = draw_blood_scenes(1, 80, seed=2).images[0] - 0.75
with torch.no_grad():
    at_once = predict_tiles(network, large, 80, network.margin)
    seams = {
        margin: (predict_tiles(network, large, 16, margin) - at_once).abs().max().item() / at_once.std().item()
        for margin in (0, 4, 8, 16, network.margin)
    }
table(["margin of 16-pixel tiles", "largest error / standard deviation of the logits"], seams.items())
settle("seam", "little" if seams[0] < 0.1 else "much" if seams[0] > 0.5 else "middle")

# %% [markdown] lang="en"
# Without a margin the zeros that pad each tile are taken for picture, and logits at the seam are far off. From the margin on that
# was computed by hand, nothing is left but rounding: the tiles are the whole.

# %% [markdown] lang="zh"
# 没有边距时，每块周围填充的零被当成图像，接缝处的 logits 偏差很大。从手算的边距起，只剩舍入误差：分块就等于整图。

# %% [markdown]
# ## Experiment: real photographs, masks by a rule · 实验：真实照片，按规则生成的掩码

# %% [markdown] lang="en"
# BCCD holds photographs of blood with boxes, but nobody has outlined the cells. The rule: Otsu's threshold of the green
# channel, holes filled. On drawn pictures the truth is known, so that the rule itself can be measured first. Then a U-Net
# learns from the rule's masks. Can a pupil be better than its teacher? The rule takes one threshold for the whole picture,
# and fails where the light is uneven; so the network is trained on pictures whose light is made uneven at random, with the
# masks that the rule gave under even light. (Without BCCD on this machine, drawn pictures take its place.)

# %% [markdown] lang="zh"
# BCCD 是带框的血液照片，但没有人勾画过细胞轮廓。规则：绿色通道的大津阈值，再填补空洞。画出来的图知道真值，所以先衡量规则本身。
# 然后 U-Net 从规则生成的掩码学习。学生能超过老师吗？规则对整张图只用一个阈值，光照不均时就会失败；
# 于是训练时随机使图片光照不均，掩码则用规则在均匀光照下给出的。（本机没有 BCCD 时，用画出来的图代替。）

# %%
drawn = draw_blood_scenes(40, 96, seed=3)


def as_bytes(images):
    """uint8 [n, height, width, 3] of float pictures [n, 3, height, width]."""
    return (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()


by_rule = np.stack([dark_objects(picture) for picture in as_bytes(drawn.images)])
rule_iou = float((by_rule & (drawn.instances.numpy() > 0)).sum() / (by_rule | (drawn.instances.numpy() > 0)).sum())
print(f"  on drawn pictures the rule's masks have an IoU of {rule_iou:.3f} with the truth")
if find("bccd") is not None:
    blood = data("bccd")
    taken = [sample.image for sample in (*blood.train[:40], *blood.test[:20]) if sample.image.shape == (480, 640, 3)]
    photos = np.stack([image.reshape(96, 5, 128, 5, 3).mean(axis=(1, 3)) for image in taken])  # a fifth of the size
else:
    print("  data: drawn pictures in place of BCCD, which is not on this machine (`uv run data fetch bccd`)")
    photos = as_bytes(draw_blood_scenes(60, 96, seed=4).images)
photos = torch.from_numpy(photos / 255).float().permute(0, 3, 1, 2)  # [60, 3, height, width]
masks = torch.from_numpy(np.stack([dark_objects(picture) for picture in as_bytes(photos)]))


def shade(images, generator, strength=0.35):
    """Multiplies each picture by a plane from 1 − strength at one side to 1 + strength at the other, at random angles."""
    height, width = images.shape[2:]
    angle = 2 * torch.pi * torch.rand(len(images), 1, 1, 1, generator=generator)
    down, right = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return images * (1 + strength * (angle.sin() * down + angle.cos() * right) / 2**0.5)


held_out, learned = slice(len(photos) - 20, None), slice(0, len(photos) - 20)


def cut(maps):
    """All squares of 32 pixels, side by side: [n · squares, …, 32, 32]."""
    height, width = maps.shape[-2:]
    corners = [(top, left) for top in range(0, height - 31, 32) for left in range(0, width - 31, 32)]
    return torch.cat([maps[..., top : top + 32, left : left + 32] for top, left in corners])


crops, crop_masks = cut(photos[learned]), cut(masks[learned])
uneven = shade(photos[held_out], torch.Generator().manual_seed(9))


def iou(found, truth):
    return ((found & truth).sum() / (found | truth).sum()).item()


rule_uneven = iou(torch.from_numpy(np.stack([dark_objects(p) for p in as_bytes(uneven.clamp(0, 1))])), masks[held_out])
pupils, photo_rows = {}, [("the rule itself", "", 1.0, rule_uneven)]
for seed in SEEDS:
    torch.manual_seed(seed)
    pupils[seed] = fit(UNet(3, 1), crops, crop_masks, torch.ones(len(crops), 32, 32), seed, 75, shade)
    scores = [iou(foreground(pupils[seed], images), masks[held_out]) for images in (photos[held_out], uneven)]
    photo_rows.append(("U-Net", seed, *scores))
table(["who", "seed", "IoU with the rule, even light", "IoU with it, uneven light"], photo_rows)

figure, axes = plt.subplots(2, 5, figsize=(15, 5), layout="constrained")
for row in range(2):
    picture = uneven[row].clamp(0, 1)
    columns = [
        ("even light", photos[held_out][row].permute(1, 2, 0)),
        ("the rule's mask", masks[held_out][row]),
        ("uneven light", picture.permute(1, 2, 0)),
        ("the rule's mask", torch.from_numpy(dark_objects(as_bytes(picture[None])[0]))),
        ("the U-Net's mask", foreground(pupils[0], uneven[row : row + 1])[0]),
    ]
    for axis, (name, image) in zip(axes[row], columns, strict=True):
        axis.imshow(image.numpy(), cmap="gray")
        axis.set_title(name if row == 0 else "", fontsize=10)
        axis.axis("off")
show(figure, "photographs")

# %% [markdown] lang="en"
# Under even light the network repeats its teacher, faults and all: it cannot know better, and its score against the rule is
# no score against the truth. Under uneven light it is better than the rule with every seed, since it was shown that
# light does not change the answer. That is what learning from generated labels can give: not better labels, but the same
# answers under conditions in which the rule fails.

# %% [markdown] lang="zh"
# 光照均匀时，网络重复老师的答案，连错误一起：它无从知道更好的，而且与规则比的分数不是与真值比的分数。
# 光照不均时，每个种子都比规则好，因为训练告诉它光照不改变答案。这就是从生成的标签学习能得到的：
# 不是更好的标签，而是在规则失效的条件下给出同样的答案。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Otsu's classes are those with the least variance within them; that is k-means with two clusters, so scikit-learn's must
# cut at the same value. The distances in the weight map are held against all pairs of pixels by `scipy`'s `cdist`. A U-Net is
# written out in torch's functions with the same parameters: values and gradients must agree.

# %% [markdown] lang="zh"
# 大津法的两类是类内方差最小的两类，也就是两个簇的 k-means，所以 scikit-learn 必须切在同一个值上。
# 权重图里的距离与 `scipy` 的 `cdist` 对所有像素对算出的比较。
# 再用 torch 的函数和同样的参数写出一个 U-Net：数值和梯度必须一致。

# %%
green = as_bytes(photos[:1])[0, ..., 1]
clusters = KMeans(2, n_init=1, init=np.array([[60.0], [230.0]]), tol=0).fit(green.reshape(-1, 1).astype(float))
dark = green.ravel()[clusters.labels_ == clusters.cluster_centers_[:, 0].argmin()]
numbers = test.instances[:1]
points = np.argwhere(np.ones((48, 48)))
to_cells = np.stack(
    [cdist(points, np.argwhere(numbers[0].numpy() == cell)).min(axis=1) for cell in numbers.unique()[1:].tolist()]
)
by_pairs = (
    10 * np.exp(-(np.sort(to_cells, axis=0)[:2].sum(axis=0) ** 2) / 12.5).reshape(48, 48) * (numbers[0].numpy() == 0)
)

torch.manual_seed(0)
small = UNet(2, 3, (4, 6)).double().eval()
weights = dict(small.named_parameters())
x = torch.randn(1, 2, 8, 12, dtype=torch.float64)


def twice(x, block):
    """Two convolutions; untouched batch norms in evaluation only divide by √(1 + 1e-5)."""
    for layer in (0, 1):
        x = (F.conv2d(x, weights[f"{block}.{layer}.0.weight"], padding=1) / (1 + 1e-5) ** 0.5).relu()
    return x


top = twice(x, "down.0")
lowest = twice(F.max_pool2d(top, 2), "down.1")
raised = F.conv_transpose2d(lowest, weights["up.0.weight"], weights["up.0.bias"], stride=2)
written_out = F.conv2d(twice(torch.cat((top, raised), dim=1), "join.0"), weights["score.weight"], weights["score.bias"])
slopes = [
    torch.autograd.grad(
        output.square().sum(), [weights["down.0.0.0.weight"], weights["up.0.weight"]], retain_graph=True
    )
    for output in (small(x), written_out)
]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: weights 9.23, 1.35 and 0.0015", [weight for *_, weight in gaps], [9.2312, 1.3534, 0.0015], 1e-3)
check_close("by hand: 12.25 after 2, 3.47 after 1", [between[2], between[1]], [12.25, 3.4722], 1e-4)
check("by hand: Otsu cuts after 2", otsu_threshold(values) == 2)
check("by hand: a margin of 28", UNet(3, 1).margin == 28)
check(
    "Otsu's threshold is where k-means with two clusters cuts, to one gray value",
    abs(int(dark.max()) - int(green[green <= otsu_threshold(green)].max())) <= 1,
)
check_close("the weight map is that of all pairs of pixels", weight_map[0], by_pairs, 1e-4)
check_close("the U-Net equals torch's functions", small(x), written_out, 1e-10)
check_close(
    "so do its gradients",
    torch.cat([s.flatten() for s in slopes[0]]),
    torch.cat([s.flatten() for s in slopes[1]]),
    1e-9,
)
check("the target keeps nearly all cells apart", perfect[3] > 0.98)
check(
    "skips raise the IoU of the foreground, with every seed",
    min(reached["skips", seed][0] - reached["no skips", seed][0] for seed in SEEDS) > 0.02,
)
check(
    "and the recognition quality",
    min(reached["skips", seed][3] - reached["no skips", seed][3] for seed in SEEDS) > 0.1,
)
check(
    "the weight map raises the recognition quality, with every seed",
    min(reached["skips and weight map", seed][3] - reached["skips", seed][3] for seed in SEEDS) > 0,
)
check("tiles with the full margin fit without a seam", seams[network.margin] < 1e-4)
check("without one they do not", seams[0] > 0.1)
check("on drawn pictures the rule is nearly right", rule_iou > 0.9)
check(
    "under uneven light the U-Net is better than its rule, with every seed",
    min(row[3] for row in photo_rows[1:]) > rule_uneven,
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The same shape denoises in diffusion (08/07), with residual blocks that are told how noisy the picture is, and is how
# latent diffusion paints. Next: cells one by one, from boxes: `uv run lesson run 10/06`. Papers: [Ronneberger et al.
# 2015](https://arxiv.org/abs/1505.04597), U-Net; [Otsu 1979](https://doi.org/10.1109/TSMC.1979.4310076), the threshold;
# [Isensee et al. 2021](https://doi.org/10.1038/s41592-020-01008-z), nnU-Net, which wins with a plain U-Net and careful settings.

# %% [markdown] lang="zh"
# 同样的形状在扩散模型里去噪（08/07），用的是知道噪声大小的残差块；潜在扩散也靠它作画。
# 下一课从框出发逐个分割细胞：`uv run lesson run 10/06`。论文：[Ronneberger 等 2015](https://arxiv.org/abs/1505.04597)，U-Net；
# [Otsu 1979](https://doi.org/10.1109/TSMC.1979.4310076)，阈值；
# [Isensee 等 2021](https://doi.org/10.1038/s41592-020-01008-z)，nnU-Net，靠普通的 U-Net 和细心的设置取胜。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `UNet.forward`, `predict_tiles`, `separate_instances` and `border_weights` yourself. `uv run lesson exercise 10/05`
# makes a file with their signatures, `uv run lesson check 10/05` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `UNet.forward`、`predict_tiles`、`separate_instances` 和 `border_weights`。
# `uv run lesson exercise 10/05` 生成带有签名的文件，`uv run lesson check 10/05` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. On the way down pool before each level but the first, and keep every result. The lowest is not joined with itself.
# 2. Join `(kept, enlarged)` in this order over channels; without skips the enlarged features go on alone.
# 3. `F.pad(…, mode="reflect")` by the margin first; then, to the right and below only, up to whole tiles.
# 4. A touching pixel has one of its eight neighbors in another cell; of two such pixels, take away the one of the higher
#    number. Pad with zeros, and shift.
# 5. `ndimage.distance_transform_edt(numbers != cell)` is the distance to that cell; `np.partition(…, 1, axis=0)[:2]` gives
#    the two smallest.

# %% [markdown] lang="zh"
# 1. 向下时，除第一级外先池化，并保留每一级的结果。最低一级不与自己拼接。
# 2. 按 `(保留的, 放大的)` 的次序沿通道拼接；没有跳跃连接时只用放大的特征。
# 3. 先用 `F.pad(…, mode="reflect")` 补上边距；再只向右、向下补到整块。
# 4. 相接的像素在八个邻居中有一个属于别的细胞；两个这样的像素中去掉编号较大的。用零填充，再平移。
# 5. `ndimage.distance_transform_edt(numbers != cell)` 是到该细胞的距离；`np.partition(…, 1, axis=0)[:2]` 给出最小的两个。


# %%
@exercise(UNet.forward, predict_tiles, separate_instances, border_weights)
def judge(yours, reference):
    for skips in (True, False):
        torch.manual_seed(3)
        mine = yours.UNet(2, 3, (4, 6, 8), skips=skips).double().eval()
        theirs = reference.UNet(2, 3, (4, 6, 8), skips=skips).double().eval()
        theirs.load_state_dict(mine.state_dict())
        x = torch.randn(2, 2, 16, 24, dtype=torch.float64)
        check(f"UNet.forward gives [batch, num_classes, height, width], skips={skips}", mine(x).shape == (2, 3, 16, 24))
        check_close(f"UNet.forward, skips={skips}", mine(x), theirs(x), 1e-8)
        gradients = [
            torch.autograd.grad(network(x).square().sum(), network.down[0][0][0].weight)[0]
            for network in (mine, theirs)
        ]
        check_close(f"the gradient of its first weight, skips={skips}", *gradients, 1e-8)
    try:
        mine(x[:, :, :15])
        refused = False
    except ValueError:
        refused = True
    check("sides that are no multiple of the stride raise ValueError", refused)

    def blur(window):
        return F.avg_pool2d(window, 5, 1, 2)  # sees two pixels to each side

    picture = torch.randn(2, 22, 17, generator=torch.Generator().manual_seed(1))
    for tile, margin in ((8, 0), (8, 4), (16, 8)):
        mine, theirs = (each.predict_tiles(blur, picture, tile, margin) for each in (yours, reference))
        check("predict_tiles keeps the picture's size", mine.shape == (2, 22, 17))
        check_close(f"predict_tiles, tile={tile}, margin={margin}", mine, theirs)

    numbers = torch.zeros(2, 9, 10, dtype=torch.long)
    numbers[0, 1:4, 1:4], numbers[0, 4:8, 2:5], numbers[0, 2:6, 7:9] = 1, 2, 3
    numbers[1, 2:5, 2:5] = 4
    mine, theirs = (each.separate_instances(numbers) for each in (yours, reference))
    check_close("separate_instances", mine, theirs)
    mine, theirs = (each.border_weights(numbers, sigma=2.0) for each in (yours, reference))
    check_close("border_weights where there is one cell", mine[1], theirs[1])
    check_close("border_weights inside of cells", mine[0][numbers[0] > 0], theirs[0][numbers[0] > 0])
    check_close("border_weights", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What are U-Net's skips for? · U-Net 的跳跃连接有什么用？

# %% [markdown] lang="en"
# What and where are known in different places: the lowest level has seen the whole object but stands for blocks of pixels,
# the first level knows every edge but not what it belongs to. A skip hands the edges over at full resolution, so that they
# need not be squeezed through the lowest level. They also give the first layers a short path for their gradients.

# %% [markdown] lang="zh"
# “是什么”和“在哪里”在不同的地方：最低一级看见了整个物体，但一个位置代表一块像素；第一级知道每条边缘，却不知道属于什么。
# 跳跃连接以全分辨率把边缘交过去，不必挤过最低一级；也给前几层的梯度一条短路。

# %%
for name in ("no skips", "skips"):
    print(f"  {name}: IoU of the foreground {np.mean([reached[name, seed][0] for seed in SEEDS]):.3f}")

# %% [markdown]
# ### How does it differ from an FCN with skips? · 它与带跳跃连接的 FCN 有何不同？

# %% [markdown] lang="en"
# An FCN adds *scores*, a few numbers for each pixel, that were decided at each level by itself. A U-Net joins *features* and
# convolves them afterwards, with as many channels on the way up as on the way down, so that the decision is made from both
# together. Joining instead of adding leaves the choice to the weights.

# %% [markdown] lang="zh"
# FCN 相加的是*分数*，每个像素只有几个数，而且是各级各自决定的。U-Net 拼接*特征*再做卷积，向上的通道与向下的一样多，
# 因此决定是两者一起做出的。拼接而不是相加，让权重来选择。

# %%
network = UNet(3, 1)
for name, part in (("down", network.down), ("up", network.join)):
    print(f"  parameters {name}: {sum(p.numel() for p in part.parameters()):,}")

# %% [markdown]
# ### How are touching objects kept apart? · 怎样把相接的物体分开？

# %% [markdown] lang="en"
# By a target with a gap between them, and weights that make this gap expensive to miss; or a third class "border"; or by
# predicting distances and flooding from their peaks (watershed); or by instance segmentation from boxes. Whatever the way,
# measure objects, not pixels: the IoU of the foreground hardly notices.

# %% [markdown] lang="zh"
# 让目标在它们之间留一条缝，并用权重使漏掉这条缝的代价变高；或者增加第三类“边界”；
# 或者预测距离，再从峰值做分水岭；或者从框出发做实例分割。无论哪种，都要衡量物体而不是像素：前景的 IoU 几乎看不出差别。

# %%
for name in ("skips", "skips and weight map"):
    means = np.mean([reached[name, seed] for seed in SEEDS], axis=0)
    print(f"  {name}: IoU {means[0]:.3f}, {means[1]:.0f} parts of {cells} cells, recognition {means[3]:.3f}")

# %% [markdown]
# ### How does one segment a picture that is larger than the memory? · 图片比内存还大，怎样分割？

# %% [markdown] lang="en"
# In overlapping tiles of which only the middle is kept; the margin is at least as wide as the network can see, and offsets
# are multiples of its stride. At the picture's border the margin is mirrored. Global operations, such as
# attention over the picture or normalization by the tile's own statistics, break the equality: then overlaps are blended.

# %% [markdown] lang="zh"
# 用有重叠的块，只留中间；边距至少与网络看得到的一样宽，偏移是步幅的整数倍。在图片边界处用镜像补边距。
# 全局运算（整图注意力，或按本块统计量做的归一化）会破坏这种相等，那时就对重叠处做混合。

# %%
print("  " + ", ".join(f"margin {margin}: error {error:.1e}" for margin, error in seams.items()))

# %% [markdown]
# ### There are no masks. What can you train on? · 没有掩码，能用什么训练？

# %% [markdown] lang="en"
# Masks by a rule (threshold, color, watershed), from boxes, by a large pretrained model, or drawn pictures. Say how they were
# made, and outline a few dozen by hand to *test* on, since a score against the rule measures imitation. The gain comes from
# augmentation: the network can learn to give the rule's answer where the rule fails.

# %% [markdown] lang="zh"
# 按规则生成的掩码（阈值、颜色、分水岭）、由框得到的掩码、大型预训练模型给出的掩码，或画出来的图。要说明掩码是怎么来的，
# 并手工勾画几十张用来*测试*，因为与规则比的分数衡量的是模仿。收益来自数据增强：网络能学会在规则失效处给出规则的答案。

# %%
print(f"  uneven light: rule {rule_uneven:.3f}, U-Nets {[round(row[3], 3) for row in photo_rows[1:]]}")

# %% [markdown]
# ### Padded or unpadded convolutions? · 卷积要不要填充？

# %% [markdown] lang="en"
# Unpadded ones never invent anything: every output rests on real pixels, at the price of a smaller output and cropping.
# Padded ones keep sizes simple, but near the border the zeros are taken for picture, which the tiles have shown. With
# padding, mirror the picture or discard a margin where the border matters.

# %% [markdown] lang="zh"
# 不填充就不会凭空捏造：每个输出都基于真实像素，代价是输出变小、需要裁剪。填充使尺寸简单，但在边界附近零被当成图像，分块实验已经显示。
# 用填充时，如果边界重要，就做镜像或丢弃一圈边距。

# %%
with torch.no_grad():
    mirrored = predict_tiles(networks["skips", 0], large, 80, 28)
    padded = networks["skips", 0](large[None])[0]
difference = (mirrored - padded).abs()[0]
print(
    f"  zeros instead of a mirror: off by {difference[:4].mean():.2f} at the edge, {difference[36:44, 36:44].mean():.1e} inside"
)
