# %% [markdown]
# # Face recognition · 人脸识别

# %% [markdown] lang="en"
# After this lesson you can train embeddings whose distance means identity (contrastive and triplet loss, SphereFace, CosFace,
# ArcFace), say what a margin does, judge verification by ROC, equal error rate and TAR at a given FAR, choose a threshold,
# and say what such a system must not be used for. You need convolutional networks (05/01), the softmax and cross-entropy
# (03/05).

# %% [markdown] lang="zh"
# 学完本课，你能训练以距离表示身份的嵌入（对比损失、三元组损失、SphereFace、CosFace、ArcFace），能说出间隔起什么作用，
# 能用 ROC、等错误率和给定 FAR 下的 TAR 评判人脸验证，能选择阈值，并能说出这样的系统绝不能用来做什么。
# 先修：卷积网络（05/01）、softmax 与交叉熵（03/05）。

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.vision.margin_losses import (
    MarginSoftmaxLoss,
    arcface_margin,
    cosface_margin,
    cosines,
    margin_logits,
    sphereface_margin,
)
from dlcommon.vision.metric_losses import (
    all_triplets,
    contrastive_loss,
    pairwise_distances,
    semi_hard_triplets,
    triplet_loss,
)
from dlcommon.vision.verification import (
    equal_error_rate,
    false_alarm_rate,
    tar_at_far,
    threshold_at_far,
    verification_curve,
)
from sklearn.metrics import roc_curve
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A phone is to open for its owner. A classifier with one output for each person cannot do that: the owner was not in the
# training data, and neither was the thief. What is asked is not "who of these?" but "are these two pictures of one
# person?", for people whom the network has never seen: *verification*.
#
# So the network has to give each picture a point in a space in which pictures of one person lie close together and those
# of different people far apart. How is such a space trained? And since no space is perfect: how close is close enough?

# %% [markdown] lang="zh"
# 手机要为主人解锁。每人一个输出的分类器做不到：主人不在训练数据里，小偷也不在。
# 要问的不是“是这些人中的哪一个”，而是“这两张图是不是同一个人”，而且是网络从未见过的人：这叫*验证*（verification）。
#
# 所以网络要为每张图给出空间中的一个点，同一个人的图靠在一起，不同人的图离得远。
# 这样的空间怎样训练？而且没有哪个空间是完美的：多近才算够近？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Triplet.* Points on the unit circle; the distance of two at an angle $\theta$ is $2 \sin(\theta / 2)$. Anchor at 0°, another
# picture of the person at 20°: 0.347. With the margin 0.2, a stranger at 35° (0.601) costs nothing, since
# $0.347 - 0.601 + 0.2 < 0$; one at 25° (0.433) costs 0.114 though it is farther than the positive: *semi-hard*; one at 15°
# (0.261) costs 0.286: *hard*.
#
# *Margins.* A picture is at 40° to its own prototype and at 60° to another: cosines 0.766 and 0.5, scale 16. Plain: logits
# 12.26 and 8, loss $\log(1 + e^{-4.26}) = 0.014$; nothing left to learn. ArcFace adds 0.5 radians (28.6°) to the 40°:
# $\cos 68.6° = 0.364$, logits 5.83 and 8, loss 2.28. CosFace takes 0.35 off the cosine: loss 1.57. The picture has to move on.
#
# *Error rates.* Six pairs with the scores 0.9, 0.8, 0.7, 0.6, 0.4, 0.2, of which the first, second and fourth are of one
# person. Accept from 0.8 on: two of three right ones (TAR 2/3), no wrong one (FAR 0). Accept from 0.7 on: one of three
# wrong ones, one of three right ones rejected: both error rates are 1/3, the *equal error rate*.
#
# *One against many.* A threshold with FAR 1 in 10,000. A stranger is compared with a gallery of 10,000 people. The chance
# that nobody matches is $0.9999^{10{,}000} = 0.368$: in 63 % of cases somebody innocent is found.

# %% [markdown] lang="zh"
# *三元组*。点在单位圆上，夹角为 $\theta$ 的两点距离是 $2 \sin(\theta / 2)$。锚点在 0°，同一个人的另一张在 20°：0.347。
# 间隔取 0.2，35° 的陌生人（0.601）没有损失，因为 $0.347 - 0.601 + 0.2 < 0$；
# 25° 的（0.433）虽然比正样本远，仍有损失 0.114：*半难*；15° 的（0.261）损失 0.286：*难*。
#
# *间隔*。一张图与自己的原型夹角 40°，与另一个原型 60°：余弦为 0.766 和 0.5，缩放 16。
# 普通 softmax：logits 为 12.26 和 8，损失 $\log(1 + e^{-4.26}) = 0.014$，没什么可学的了。
# ArcFace 给 40° 加上 0.5 弧度（28.6°）：$\cos 68.6° = 0.364$，logits 为 5.83 和 8，损失 2.28。
# CosFace 从余弦减去 0.35：损失 1.57。这张图还得继续移动。
#
# *错误率*。六对图，得分 0.9、0.8、0.7、0.6、0.4、0.2，其中第一、二、四对是同一个人。
# 从 0.8 起接受：三对正确的接受了两对（TAR 2/3），没有接受错误的（FAR 0）。
# 从 0.7 起接受：三对错误的接受了一对，三对正确的拒绝了一对：两个错误率都是 1/3，即*等错误率*。
#
# *一对多*。阈值的 FAR 是万分之一。把一个陌生人与 10,000 人的库比较。
# 谁都不匹配的概率是 $0.9999^{10{,}000} = 0.368$：63 % 的情况下会“找到”某个无辜的人。

# %%
circle = torch.tensor([0.0, 20.0, 35.0, 25.0, 15.0]).deg2rad()
on_circle = torch.stack((circle.cos(), circle.sin()), dim=1)
gaps = pairwise_distances(on_circle)[0]  # of the anchor
triplets = {angle: triplet_loss(gaps[1:2], gaps[i : i + 1], 0.2).item() for i, angle in ((2, 35), (3, 25), (4, 15))}
table(
    ["stranger at", "distance", "triplet loss"],
    [(f"{a}°", gaps[i].item(), triplets[a]) for i, a in enumerate(triplets, 2)],
)

two = torch.tensor([[40.0, 60.0]]).deg2rad().cos()  # [1 picture, 2 prototypes]
by_hand = {
    kind: F.cross_entropy(margin_logits(two, torch.tensor([0]), kind, margin, 16.0), torch.tensor([0])).item()
    for kind, margin in (("none", 0.0), ("arcface", 0.5), ("cosface", 0.35), ("sphereface", 2))
}
table(["margin", "loss of the picture at 40°"], by_hand.items())
six = verification_curve(np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2]), np.array([1, 1, 0, 1, 0, 0], bool))
table(["accepted from", "FAR", "FRR"], zip(six.thresholds.tolist(), six.far.tolist(), six.frr.tolist(), strict=True))

figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
angles = torch.linspace(0.001, math.pi - 0.001, 300)
for name, curve in (
    ("no margin: cos θ", angles.cos()),
    ("ArcFace, 0.5", arcface_margin(angles.cos(), 0.5)),
    ("CosFace, 0.35", cosface_margin(angles.cos(), 0.35)),
    ("SphereFace, 2", sphereface_margin(angles.cos(), 2)),
):
    axes[0].plot(angles.rad2deg(), curve, label=name)
axes[0].legend()
axes[0].set(xlabel="angle to the own prototype, degrees", ylabel="logit / scale", title="The true identity's logit")
axes[1].plot(six.far, six.tar, "o-", label="six pairs")
axes[1].plot([0, 1], [1, 0], ":", color="gray", label="FAR = FRR")
axes[1].legend()
axes[1].set(xlabel="FAR", ylabel="TAR", title="ROC by hand")
show(figure, "by-hand")

# %% [markdown]
# ## Formula · 公式
#
# $$L_{\text{contrastive}} = y\, d^2 + (1 - y) \max(0, m - d)^2, \qquad L_{\text{triplet}} = \max(0,\; d_{ap} - d_{an} + m)$$
#
# $$L_{\text{margin}} = -\log \frac{e^{s\, \psi(\theta_y)}}{e^{s\, \psi(\theta_y)} + \sum_{j \neq y} e^{s \cos \theta_j}}, \qquad \cos \theta_j = \frac{w_j^\top x}{\lVert w_j \rVert\, \lVert x \rVert}$$
#
# $$\psi_{\text{ArcFace}}(\theta) = \cos(\theta + m), \quad \psi_{\text{CosFace}}(\theta) = \cos \theta - m, \quad \psi_{\text{SphereFace}}(\theta) = (-1)^k \cos(m \theta) - 2k$$
#
# $$\mathrm{FAR}(t) = P(\text{score} \ge t \mid \text{different people}), \qquad \mathrm{TAR}(t) = P(\text{score} \ge t \mid \text{one person})$$

# %% [markdown] lang="en"
# - $x$: the embedding of a picture, `[dim]`; $d$: Euclidean distance of two; $d_{ap}, d_{an}$: of anchor and positive, anchor and
#   negative.
# - $y$: in the contrastive loss 1 for one person, else 0 (Hadsell et al. 2006, without their factor 1/2); below, the
#   identity.
# - $m$: the margin; it means something else in each loss.
# - $w_j$: the prototype of identity $j$, a row of the weights `[identities, dim]`; $\theta_j$: its angle to $x$.
# - $s$: the scale; without it, logits between −1 and 1 could not give a probability near 1.
# - $\psi$: what stands for the cosine of the true identity, in training only (ArcFace: Deng et al. 2019, equation 3; CosFace:
#   Wang et al. 2018; SphereFace: Liu et al. 2017). $k$: the number of the piece, $\theta \in [k\pi/m, (k+1)\pi/m]$.
# - $t$: the threshold. FRR is $1 - \mathrm{TAR}$. The equal error rate is where FAR = FRR.
#
# On the unit sphere $d^2 = 2 - 2\cos\theta$: distances and cosines give one order. A plain softmax is content as soon as
# the true prototype is the *nearest*, wherever between two prototypes that is. With a margin it is not: the picture has to
# be nearer by an angle. At test the prototypes are thrown away, and only embeddings are compared.

# %% [markdown] lang="zh"
# - $x$：一张图的嵌入，`[dim]`；$d$：两个嵌入的欧氏距离；$d_{ap}, d_{an}$：锚点与正样本、锚点与负样本的距离。
# - $y$：在对比损失中，同一个人为 1，否则为 0（Hadsell 等 2006，去掉了他们的系数 1/2）；下面的公式中是身份。
# - $m$：间隔；在每种损失中含义不同。
# - $w_j$：身份 $j$ 的原型，权重 `[identities, dim]` 的一行；$\theta_j$：它与 $x$ 的夹角。
# - $s$：缩放；没有它，介于 −1 和 1 的 logits 给不出接近 1 的概率。
# - $\psi$：训练时代替真实身份余弦的函数（ArcFace：Deng 等 2019，式 3；CosFace：Wang 等 2018；
#   SphereFace：Liu 等 2017）。$k$：第几段，$\theta \in [k\pi/m, (k+1)\pi/m]$。
# - $t$：阈值。FRR 就是 $1 - \mathrm{TAR}$。等错误率是 FAR = FRR 之处。
#
# 在单位球面上 $d^2 = 2 - 2\cos\theta$：距离和余弦给出同样的次序。
# 普通 softmax 只要真实原型*最近*就满足了，不管在两个原型之间的哪里。有间隔就不行：必须近出一个角度。
# 测试时原型全部丢掉，只比较嵌入。

# %% [markdown]
# ## Code · 代码

# %%
source(arcface_margin)
source(sphereface_margin)
source(margin_logits)
source(semi_hard_triplets)
source(verification_curve)

# %% [markdown] lang="en"
# `arcface_margin` takes the cosine, not the angle: $\cos(\theta + m)$ by the addition theorem needs no arccosine, whose slope
# is infinite at ±1. Beyond $\theta = \pi - m$ the cosine would rise again and reward the worst pictures; there a shifted
# cosine takes over. `sphereface_margin` builds $\cos(m\theta)$ by Chebyshev's recurrence.
#
# `margin_logits` gathers the true cosine of each row, `[batch, 1]`, and scatters the lowered one back into
# `[batch, identities]`; all else is a cross-entropy.
#
# `semi_hard_triplets` compares all distances of a batch `[samples, samples]`. `verification_curve` sorts the pairs by score;
# the running sum of right ones, read after the last of equal scores, is the number accepted at that threshold.

# %% [markdown] lang="zh"
# `arcface_margin` 接收余弦而不是角度：用加法定理算 $\cos(\theta + m)$ 不需要反余弦，反余弦在 ±1 处斜率无穷大。
# 超过 $\theta = \pi - m$ 后余弦会重新上升，反而奖励最差的图；那里改用平移过的余弦。
# `sphereface_margin` 用切比雪夫递推得到 $\cos(m\theta)$。
#
# `margin_logits` 取出每行真实身份的余弦 `[batch, 1]`，把降低后的值放回 `[batch, identities]`；其余就是交叉熵。
#
# `semi_hard_triplets` 比较一个批次的全部距离 `[samples, samples]`。
# `verification_curve` 按得分给图对排序；正确对数的累计和，在相同得分的最后一个处读出，就是该阈值下接受的数目。

# %% [markdown]
# ## Experiment: on the sphere · 实验：在球面上

# %% [markdown] lang="en"
# The data: the ORL faces, 400 gray pictures of 40 people, who sat for a laboratory in Cambridge between 1992 and 1994.
# They are real faces, but few, taken in one room, and nearly all of them are of men: what is measured here holds for these
# pictures. 25 people are for training; the other 15 are strangers, whom no network ever sees.
#
# First eight people in three dimensions, so that the sphere can be drawn: without a margin, and with ArcFace's.

# %% [markdown] lang="zh"
# 数据：ORL 人脸，40 个人的 400 张灰度图，是 1992 到 1994 年间在剑桥的一个实验室里拍的。
# 是真实的脸，但很少，在同一个房间拍摄，而且几乎全是男性：这里测得的结果只对这些图成立。
# 25 人用于训练；另外 15 人是陌生人，任何网络都没见过。
#
# 先取八个人，嵌入到三维，这样球面可以画出来：一次没有间隔，一次用 ArcFace 的间隔。

# %%
faces = data("orl-faces")


def prepare(images: np.ndarray) -> torch.Tensor:
    """Pictures uint8 [n, 112, 92, 1] to [n, 1, 28, 23], each with mean 0 and standard deviation 1."""
    small = F.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 4)
    return (small - small.mean((1, 2, 3), keepdim=True)) / small.std((1, 2, 3), keepdim=True)


known, strangers = prepare(faces.train_images), prepare(faces.test_images)
known_labels = torch.from_numpy(faces.train_labels)  # 0 to 24
stranger_labels = torch.from_numpy(faces.test_labels)  # 25 to 39


def face_network(dim: int) -> nn.Sequential:
    layers = []
    for in_channels, out_channels in ((1, 16), (16, 32), (32, 64)):  # 28×23 to 14×12, 7×6, 4×3
        layers += [nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 3, dim), nn.BatchNorm1d(dim))


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirrors half of the pictures, and shifts all of a batch by up to two pixels."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    down, right = torch.randint(0, 5, (2,), generator=generator).tolist()
    return F.pad(images, (2, 2, 2, 2), mode="replicate")[:, :, down : down + 28, right : right + 23]


def learn(
    kind: str, seed: int, people: int = 25, dim: int = 64, epochs: int = 16, spread: float = 1.0
) -> tuple[nn.Sequential, MarginSoftmaxLoss]:
    torch.manual_seed(seed)
    network, generator = face_network(dim), torch.Generator().manual_seed(seed)
    loss_of = MarginSoftmaxLoss(dim, people, "none" if kind == "triplet" else kind, 0.4, scale=16.0)
    nn.init.normal_(loss_of.weight, std=spread)  # the longer the prototypes, the slower they turn
    optimizer = torch.optim.AdamW([*network.parameters(), *loss_of.parameters()], weight_decay=0.05, fused=True)
    steps = epochs * people // 5
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        if kind == "triplet":  # batches of 12 people with 4 pictures each, so that there are triplets
            chosen = torch.randperm(people, generator=generator)[:12, None] * 10
            chosen = (chosen + torch.rand(12, 10, generator=generator).argsort(dim=1)[:, :4]).flatten()
        else:
            chosen = torch.randperm(10 * people, generator=generator)[:50]
        embeddings = network(augmented(known[chosen], generator))
        if kind == "triplet":
            distances = pairwise_distances(F.normalize(embeddings))
            a, p, n = semi_hard_triplets(distances.detach(), known_labels[chosen], 0.3)
            loss = triplet_loss(distances[a, p], distances[a, n], 0.3)
        else:
            loss = loss_of(embeddings, known_labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval(), loss_of


@torch.no_grad()
def embed(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Sums the embeddings of each picture and its mirror image, and scales them to length 1: [n, dim]."""
    return F.normalize(network(images) + network(images.flip(3)))


figure, axes = plt.subplots(1, 2, figsize=(11, 5.4), layout="constrained", subplot_kw={"projection": "3d"})
around, height = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
for axis, (kind, title) in zip(axes, (("none", "no margin"), ("arcface", "ArcFace, 0.4 radians")), strict=True):
    network, loss_of = learn(kind, 0, people=8, dim=3, epochs=50, spread=0.05)
    points, prototypes = embed(network, known[:80]), F.normalize(loss_of.weight.detach())
    axis.plot_wireframe(
        np.sin(height) * np.cos(around), np.sin(height) * np.sin(around), np.cos(height), color="0.85", linewidth=0.5
    )
    for person in range(8):
        color = f"C{person}"
        axis.scatter(*points[10 * person : 10 * person + 10].T.numpy(), color=color, s=14)
        axis.plot(*torch.stack((torch.zeros(3), prototypes[person])).T.numpy(), color=color, linewidth=1)
    own = (points * prototypes[known_labels[:80]]).sum(1).clamp(-1, 1).acos().rad2deg().mean()
    axis.set(title=f"{title}: {own:.0f}° to the own prototype", box_aspect=(1, 1, 1))
    axis.set_axis_off()
show(figure, "sphere")

# %% [markdown]
# ## Experiment: strangers · 实验：陌生人

# %% [markdown] lang="en"
# Now 64 dimensions and all 25 people: no margin, ArcFace, and the triplet loss with semi-hard triplets, 80 updates each,
# three seeds. They are tested on the 15 strangers: 150 pictures make 11,175 pairs, 675 of one person. To compare with:
# the cosine of the pixels themselves. Which is best?

# %% [markdown] lang="zh"
# 现在用 64 维和全部 25 个人：没有间隔、ArcFace、半难三元组的三元组损失，各更新 80 次，三个种子。
# 用 15 个陌生人测试：150 张图组成 11,175 对，其中 675 对是同一个人。作为比较：像素本身的余弦。哪个最好？

# %%
METHODS = ("pixels", "no margin", "ArcFace", "triplet")
quiz(
    "best",
    en="Which has the lowest equal error rate on strangers, on average?",
    zh="对陌生人，平均而言哪一种的等错误率最低？",
    choices={
        "pixels": "pixels · 像素",
        "no margin": "no margin · 无间隔",
        "ArcFace": "ArcFace",
        "triplet": "triplet · 三元组",
    },
)
quiz(
    "innocent",
    en="FAR 1 in 10,000, a gallery of 10,000: in how many percent of searches is a stranger taken for somebody?",
    zh="FAR 为万分之一，库里有 10,000 人：搜索一个陌生人时，百分之几的情况会把他当成某个人？",
)

# %%
SEEDS = (0, 1, 2)
first, second = np.triu_indices(len(strangers), 1)
same = (stranger_labels[first] == stranger_labels[second]).numpy()


def pair_scores(embeddings: torch.Tensor) -> np.ndarray:
    """Cosines of all pairs of embeddings of length 1."""
    return (embeddings @ embeddings.T).numpy()[first, second].astype(np.float64)


scores, trained = {("pixels", 0): pair_scores(F.normalize(strangers.flatten(1)))}, {}
for name, kind in (("no margin", "none"), ("ArcFace", "arcface"), ("triplet", "triplet")):
    for seed in SEEDS:
        trained[name, seed] = learn(kind, seed)
        scores[name, seed] = pair_scores(embed(trained[name, seed][0], strangers))
curves = {key: verification_curve(values, same) for key, values in scores.items()}
eer = {key: equal_error_rate(curve)[0] for key, curve in curves.items()}
tar = {key: tar_at_far(curve, 0.01) for key, curve in curves.items()}


def of_seeds(figures: dict, name: str) -> list[float]:
    return [value for (method, _), value in figures.items() if method == name]


def written(values: list[float]) -> str:
    return " ".join(f"{value:.1%}" for value in values)


table(
    ["strangers", "equal error rate", "TAR at FAR 1 %"],
    [(name, written(of_seeds(eer, name)), written(of_seeds(tar, name))) for name in METHODS],
)
means = {name: float(np.mean(of_seeds(eer, name))) for name in METHODS}
settle("best", min(METHODS, key=means.get))
settle("innocent", 100 * false_alarm_rate(1e-4, 10_000), tolerance=0.1)


def own_angle(name: str, seed: int) -> float:
    """Mean angle of the pictures trained on to their own prototype, in degrees."""
    network, loss_of = trained[name, seed]
    cosine = cosines(embed(network, known), loss_of.weight.detach())
    return cosine.gather(1, known_labels[:, None]).clamp(-1, 1).acos().rad2deg().mean().item()


compact = {name: [own_angle(name, seed) for seed in SEEDS] for name in ("no margin", "ArcFace")}
table(
    ["people trained on", "mean angle to the own prototype, three seeds"],
    [(n, [round(a, 1) for a in v]) for n, v in compact.items()],
)

figure, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
for name in METHODS:
    axes[0].plot(curves[name, 0].far, curves[name, 0].tar, label=name)
axes[0].plot(np.logspace(-4, 0, 50), 1 - np.logspace(-4, 0, 50), ":", color="gray", label="FAR = FRR")
axes[0].set(xscale="log", xlim=(1e-4, 1), xlabel="FAR", ylabel="TAR", title="15 strangers, seed 0")
axes[0].legend()
for axis, name in ((axes[1], "pixels"), (axes[2], "ArcFace")):
    bins = np.linspace(-0.7, 1, 60)
    axis.hist(scores[name, 0][~same], bins, density=True, alpha=0.6, label="different people")
    axis.hist(scores[name, 0][same], bins, density=True, alpha=0.6, label="one person")
    axis.axvline(equal_error_rate(curves[name, 0])[1], color="black", linestyle=":", label="equal error rate")
    axis.set(xlabel="cosine", title=f"{name}: scores of the pairs")
    axis.legend(fontsize=8)
show(figure, "verification")

# %% [markdown] lang="en"
# What is learned from 25 people is of use for strangers: with every seed, both softmax losses accept more right pairs than
# the pixels where 1 % of the wrong ones are accepted. The margin does to the people *trained on* what it says: they lie
# closer to their prototypes. With every seed it also helps the strangers. Part of that is that the loss goes on teaching
# when a plain softmax has nothing left to learn: after 125 updates instead of 80, the gap was smaller (equal error rates
# of 11.3 to 13.2 % without a margin, 10.8 to 12.3 % with one of 0.3 or 0.5). The triplet loss differs more between seeds
# than from the pixels: it needs more pictures and updates than it has here.
#
# An equal error rate above 10 % is far from use. Systems in use are judged at a FAR of 1 in 10,000 and less, which 10,500
# pairs of different people cannot even measure.

# %% [markdown] lang="zh"
# 从 25 个人学到的东西对陌生人有用：对每个种子，在接受 1 % 错误图对的阈值处，两种 softmax 损失接受的正确图对都比像素多。
# 间隔对*训练过的*人起了它该起的作用：他们离自己的原型更近。对每个种子，它对陌生人也有帮助。
# 部分原因是，普通 softmax 没什么可学的时候，它的损失还在教：更新 125 次而不是 80 次时，差距变小了：
# 没有间隔时等错误率为 11.3 到 13.2 %，间隔 0.3 或 0.5 时为 10.8 到 12.3 %。
# 三元组损失在种子之间的差别大于它与像素的差别：它需要的图和更新次数比这里的多。
#
# 超过 10 % 的等错误率离实用还很远。实用系统看的是万分之一以下的 FAR，10,500 对不同的人连测都测不出来。

# %% [markdown]
# ## Experiment: a threshold, and who pays for it · 实验：阈值，以及谁为它付出代价

# %% [markdown] lang="en"
# A threshold is chosen on some people and used on others. Here: on the first 7 strangers, so that the FAR is 1 % there, then
# used on the other 8. And is the FAR the same for everyone? For each person: the share of pairs with others that is
# accepted. Last, *open set*: the 7 are a gallery with one picture each; the pictures of the 8 others are searched
# for. Whoever is found, is found wrongly.

# %% [markdown] lang="zh"
# 阈值在一些人身上选定，用在另一些人身上。这里：在前 7 个陌生人上选，使 FAR 为 1 %，再用到其余 8 个人。
# 而且 FAR 对每个人都一样吗？对每个人计算：与他人的图对中被接受的比例。
# 最后是*开放集*：前 7 人组成库，每人一张图；拿另外 8 人的图去搜索。无论找到谁，都是错的。

# %%
chosen_on, used_on = (stranger_labels < 32).numpy(), (stranger_labels >= 32).numpy()
rows = []
for seed in SEEDS:
    both = {who: inside[first] & inside[second] for who, inside in (("chosen", chosen_on), ("used", used_on))}
    values = scores["ArcFace", seed]
    tuned = verification_curve(values[both["chosen"]], same[both["chosen"]])
    threshold, _ = threshold_at_far(tuned, 0.01)
    accepted = values >= threshold
    used = both["used"]
    persons = []
    for person in range(25, 40):
        involved = (stranger_labels[first] == person).numpy() | (stranger_labels[second] == person).numpy()
        persons.append(accepted[involved & ~same].mean())
    embeddings = embed(trained["ArcFace", seed][0], strangers)
    gallery = embeddings[torch.arange(0, 70, 10)]  # one picture of each of the first 7 strangers
    similarities = embeddings[70:] @ gallery.T  # [80 searches, 7]
    found = (similarities.amax(dim=1) >= threshold).float().mean().item()
    one = (similarities >= threshold).float().mean().item()
    rows.append(
        (
            seed,
            threshold,
            accepted[used & ~same].mean(),
            accepted[used & same].mean(),
            min(persons),
            max(persons),
            one,
            found,
        )
    )
table(
    [
        "seed",
        "threshold",
        "FAR, others",
        "TAR, others",
        "FAR of the luckiest",
        "of the unluckiest",
        "FAR in the gallery",
        "a wrong find",
    ],
    rows,
)
for size in (1, 7, 1000, 10_000, 1_000_000):
    print(
        f"  FAR 1 in 10,000, gallery of {size:,}: a stranger is found in {false_alarm_rate(1e-4, size):.1%} of searches"
    )

# %% [markdown] lang="en"
# The FAR that was asked for is not the one that others get: a threshold has to be chosen on people like those it is used on,
# and on many of them. At one threshold some people are hardly ever taken for someone else, others many times as often:
# an average hides who pays. And in a search the errors of all comparisons add up: with a FAR that is
# harmless for a phone, a search among ten thousand faces finds an innocent one more often than not.

# %% [markdown] lang="zh"
# 要求的 FAR 并不是别人得到的 FAR：阈值必须在与使用对象相似的人身上选，而且要有很多人。
# 在同一个阈值下，有些人几乎从不被认成别人，另一些人则频繁得多：平均值掩盖了谁在付出代价。
# 而在搜索中，所有比较的错误会累加：对手机无害的 FAR，在一万张脸中搜索时，多半会找到一个无辜的人。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The triplet loss must be `torch.nn.TripletMarginLoss` in value and gradient, the error rates `sklearn.metrics.roc_curve`,
# ArcFace the cosine of the enlarged angle by arccosine. In this repository's tests, all three margins, the contrastive loss
# and the mined triplets are also held against pytorch-metric-learning, gradients included.

# %% [markdown] lang="zh"
# 三元组损失必须与 `torch.nn.TripletMarginLoss` 的数值和梯度一致，错误率与 `sklearn.metrics.roc_curve` 一致，
# ArcFace 与用反余弦算出的增大角度的余弦一致。
# 本仓库的测试还把三种间隔、对比损失和挖掘出的三元组与 pytorch-metric-learning 比较，梯度也包括在内。

# %%
random = torch.Generator().manual_seed(0)
some = F.normalize(torch.randn(12, 6, generator=random, dtype=torch.float64)).requires_grad_()
some_labels = torch.arange(12) % 4
a, p, n = all_triplets(some_labels)
pairwise = pairwise_distances(some)
ours = triplet_loss(pairwise[a, p], pairwise[a, n], 0.5)
theirs = nn.TripletMarginLoss(margin=0.5, eps=0.0)(some[a], some[p], some[n])
triplet_gradients = [torch.autograd.grad(loss, some, retain_graph=True)[0] for loss in (ours, theirs)]
theta = torch.linspace(0.05, math.pi - 0.55, 50, dtype=torch.float64).requires_grad_()
arcface = arcface_margin(theta.cos(), 0.5)
arcface_gradients = [
    torch.autograd.grad(each.sum(), theta, retain_graph=True)[0] for each in (arcface, (theta + 0.5).cos())
]
library_far, library_tar, _ = roc_curve(same, scores["ArcFace", 0], drop_intermediate=False)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: triplets cost 0, 0.114, 0.286", list(triplets.values()), [0.0, 0.1145, 0.2862], 1e-3)
check_close("by hand: losses 0.014, 2.28, 1.57", list(by_hand.values())[:3], [0.0141, 2.282, 1.575], 2e-3)
check_close("by hand: the equal error rate of six pairs", equal_error_rate(six)[0], 1 / 3)
check_close("the triplet loss is torch's", ours, theirs, 1e-10)
check_close("so is its gradient", *triplet_gradients, 1e-9)
check_close("ArcFace is cos(θ + m)", arcface, (theta + 0.5).cos(), 1e-10)
check_close("so is its slope", *arcface_gradients, 1e-9)
check_close("false acceptance rates are scikit-learn's", curves["ArcFace", 0].far, library_far, 1e-12)
check_close("true acceptance rates too", curves["ArcFace", 0].tar, library_tar, 1e-12)
check_close("on the sphere d² = 2 − 2 cos θ", pairwise.square(), 2 - 2 * some @ some.T, 1e-9)
check("nobody is in both halves", not set(faces.train_labels) & set(faces.test_labels))
check(
    "at FAR 1 %, both softmax losses accept more right pairs of strangers than pixels do, with every seed",
    min(of_seeds(tar, "no margin") + of_seeds(tar, "ArcFace")) > tar["pixels", 0],
)
check(
    "after 80 updates ArcFace has a lower equal error rate than no margin, with every seed",
    all(eer["ArcFace", seed] < eer["no margin", seed] for seed in SEEDS),
)
check(
    "with a margin, people lie closer to their prototypes, with every seed",
    all(with_margin < plain for with_margin, plain in zip(compact["ArcFace"], compact["no margin"], strict=True)),
)
check(
    "one threshold errs many times as often for some as for others", all(row[5] > max(0.02, 3 * row[4]) for row in rows)
)
check("a search of 7 errs over three times as often as one comparison", all(row[7] > 3 * row[6] > 0 for row in rows))

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# *What it must not be used for.* Faces are biometric data: they cannot be changed like a password. To recognize people without
# their knowledge and consent, to search crowds or to collect faces from the web is an intrusion, and in many places
# illegal: the GDPR (article 9) needs explicit consent or a special legal ground, the EU's AI Act (article 5) prohibits
# untargeted scraping for face databases, China's Personal Information Protection Law (articles 26 and 29) limits cameras in
# public places to public security and demands separate consent. A face says nothing about character, honesty or crime:
# systems that claim so are wrong whatever their accuracy. A match is a hint, never a proof: people have been arrested for
# one. Errors are not equal: NIST found false positive rates that differ by factors of 10 to 100 between demographic
# groups ([Grother et al. 2019](https://doi.org/10.6028/NIST.IR.8280)). Which groups pay can only be found by measuring
# them, and the 15 strangers here do not allow that.
#
# *What it is used for* with consent: unlocking one's own phone (with a test that a living person is there, since a
# picture has an embedding too), sorting one's own photo album. The losses serve wherever classes are many, new and small:
# products, signatures, voices, sentences. The encoder that the capstone `sentiment-bert` starts from
# (`uv run --package sentiment-bert train`) was trained so that the cosine of two sentences says how similar they are.
#
# The phase's project detects: it finds and counts the cells in pictures of blood, and whatever else you have boxes for.
#
# ```bash
# uv run --package yolo-detector train
# uv run --package yolo-detector demo
# ```
#
# Read on: [Schroff et al. 2015](https://arxiv.org/abs/1503.03832), FaceNet; [Liu et al.
# 2017](https://arxiv.org/abs/1704.08063), SphereFace; [Wang et al. 2018](https://arxiv.org/abs/1801.09414), CosFace; [Deng et al.
# 2019](https://arxiv.org/abs/1801.07698), ArcFace. Next phase: words as points in a space, 11/01.

# %% [markdown] lang="zh"
# *绝不能用来做什么*。人脸是生物特征数据，不能像密码那样更换。未经知情同意识别他人、在人群中搜索、从网上收集人脸，
# 都是侵犯，在许多地方也违法：GDPR 第 9 条要求明示同意或特别的法律依据；
# 欧盟《人工智能法》第 5 条禁止为建立人脸库而无差别抓取；
# 中国《个人信息保护法》第 26 条把公共场所的图像采集限于维护公共安全，第 29 条要求单独同意。
# 脸说明不了性格、诚实或犯罪：声称可以的系统，不论准确率多高都是错的。
# 匹配只是线索，绝不是证据：已有人因此被错误逮捕。错误并不均等：
# NIST 发现不同人群之间的误识率相差 10 到 100 倍（[Grother 等 2019](https://doi.org/10.6028/NIST.IR.8280)）。
# 哪些人群在付出代价，只有测量才知道，而这里的 15 个陌生人不足以测量。
#
# 在同意之下*用来做什么*：解锁自己的手机（还要检测是不是活人，因为照片也有嵌入）、整理自己的相册。
# 类别众多、常新、样本少的地方都用得上这些损失：商品、签名、声音、句子。
# 实战项目 `sentiment-bert`（`uv run --package sentiment-bert train`）所用的编码器就是这样训练的：
# 两个句子的余弦表示它们有多相似。
#
# 本阶段的项目做检测：在血液图片中找出细胞并计数，也可以换成任何有框的数据。
#
# ```bash
# uv run --package yolo-detector train
# uv run --package yolo-detector demo
# ```
#
# 继续阅读：[Schroff 等 2015](https://arxiv.org/abs/1503.03832)，FaceNet；
# [Liu 等 2017](https://arxiv.org/abs/1704.08063)，SphereFace；[Wang 等 2018](https://arxiv.org/abs/1801.09414)，CosFace；
# [Deng 等 2019](https://arxiv.org/abs/1801.07698)，ArcFace。下一阶段：把词变成空间中的点，11/01。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `arcface_margin`, `cosface_margin`, `sphereface_margin` and `margin_logits` yourself. `uv run lesson exercise 10/08`
# makes a file with their signatures, `uv run lesson check 10/08` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `arcface_margin`、`cosface_margin`、`sphereface_margin` 和 `margin_logits`。
# `uv run lesson exercise 10/08` 生成带有签名的文件，`uv run lesson check 10/08` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. $\cos(\theta + m) = \cos\theta \cos m - \sin\theta \sin m$, with $\sin\theta = \sqrt{1 - \cos^2\theta}$; bound what is under the
#    root from below, since the slope of the root is infinite at 0.
# 2. $\theta > \pi - m$ is $\cos\theta < \cos(\pi - m)$. There, $\cos\theta - m \sin m$.
# 3. Chebyshev: $\cos(n\theta) = 2 \cos\theta \cos((n-1)\theta) - \cos((n-2)\theta)$. $k = \lfloor m\theta/\pi \rfloor$ needs no
#    gradient; at $\theta = \pi$ it is $m - 1$, not $m$.
# 4. `cosine.gather(1, labels[:, None])` reads the true cosines, `cosine.scatter(1, labels[:, None], lowered)` writes into a
#    copy. The scale multiplies all logits.

# %% [markdown] lang="zh"
# 1. $\cos(\theta + m) = \cos\theta \cos m - \sin\theta \sin m$，其中 $\sin\theta = \sqrt{1 - \cos^2\theta}$；
#    根号下的值要设下限，因为平方根在 0 处斜率无穷大。
# 2. $\theta > \pi - m$ 就是 $\cos\theta < \cos(\pi - m)$，那里用 $\cos\theta - m \sin m$。
# 3. 切比雪夫：$\cos(n\theta) = 2 \cos\theta \cos((n-1)\theta) - \cos((n-2)\theta)$。
#    $k = \lfloor m\theta/\pi \rfloor$ 不需要梯度；$\theta = \pi$ 时取 $m - 1$，不是 $m$。
# 4. `cosine.gather(1, labels[:, None])` 取出真实身份的余弦，`cosine.scatter(1, labels[:, None], lowered)` 写入副本。
#    缩放乘在所有 logits 上。


# %%
@exercise(arcface_margin, cosface_margin, sphereface_margin, margin_logits)
def judge(yours, reference):
    cosine = torch.linspace(-0.99, 0.99, 67, dtype=torch.float64)

    def slope(of, *arguments):
        leaf = cosine.clone().requires_grad_()
        return torch.autograd.grad(of(leaf, *arguments).sum(), leaf)[0]

    for margin in (0.3, 0.5):
        near = cosine >= math.cos(math.pi - margin)
        mine, theirs = (each.arcface_margin(cosine, margin) for each in (yours, reference))
        check_close(f"arcface_margin up to the angle π − {margin}", mine[near], theirs[near])
        check_close(f"arcface_margin beyond the angle π − {margin}", mine[~near], theirs[~near])
        check_close(
            "arcface_margin: the slope", slope(yours.arcface_margin, margin), slope(reference.arcface_margin, margin)
        )
    ends = torch.tensor([1.0, -1.0], requires_grad=True)
    yours.arcface_margin(ends).sum().backward()
    check("arcface_margin: the slope is finite at angles of 0 and π", ends.grad.isfinite().all())

    check_close("cosface_margin", yours.cosface_margin(cosine, 0.2), reference.cosface_margin(cosine, 0.2))

    for margin in (1, 2, 3, 4):
        mine, theirs = (each.sphereface_margin(cosine, margin) for each in (yours, reference))
        check_close(f"sphereface_margin: values with margin {margin}", mine, theirs)
        mine, theirs = (slope(each.sphereface_margin, margin) for each in (yours, reference))
        check_close(f"sphereface_margin: slopes with margin {margin}", mine, theirs)
    check_close(
        "sphereface_margin at the angle π",
        yours.sphereface_margin(torch.tensor([-1.0]), 3),
        reference.sphereface_margin(torch.tensor([-1.0]), 3),
    )

    table_of_cosines = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tanh()
    labels = torch.tensor([0, 3, 1, 2, 2])
    before = table_of_cosines.clone()
    for kind, margin in (("none", 0.0), ("arcface", 0.4), ("cosface", 0.2), ("sphereface", 3)):
        mine, theirs = (each.margin_logits(table_of_cosines, labels, kind, margin, 8.0) for each in (yours, reference))
        true = F.one_hot(labels, 4).bool()
        check(f"margin_logits, {kind}: [batch, identities]", mine.shape == (5, 4))
        check_close(f"margin_logits, {kind}: the other identities' logits", mine[~true], theirs[~true])
        check_close(f"margin_logits, {kind}: the true identities' logits", mine[true], theirs[true])
    check("margin_logits leaves the cosines that it was given as they were", torch.equal(table_of_cosines, before))
    try:
        yours.margin_logits(table_of_cosines, labels, "adaface", 0.4, 8.0)
        refused = False
    except ValueError:
        refused = True
    check("margin_logits of an unknown kind raises ValueError", refused)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why not simply a classifier with one output for each person? · 为什么不直接用每人一个输出的分类器？

# %% [markdown] lang="en"
# Because the people of tomorrow are not in the training data: enrolling somebody would mean training anew, and strangers would
# always be taken for somebody. So the classifier is only a means: its last hidden layer is trained to be an embedding,
# the outputs are thrown away, and new people are enrolled by storing one embedding. It must be tested on people whom it
# has never seen; accuracy on the trained ones says nothing.

# %% [markdown] lang="zh"
# 因为明天的人不在训练数据里：登记一个人就要重新训练，而陌生人总会被当成某个人。
# 所以分类器只是手段：训练它的最后一个隐藏层成为嵌入，输出层丢掉，登记新人只需存一个嵌入。
# 必须用从未见过的人来测试；在训练过的人身上的准确率说明不了什么。

# %%
inside, inside_labels = embed(trained["no margin", 0][0], known), known_labels
i, j = np.triu_indices(len(inside), 1)
trained_on = verification_curve((inside @ inside.T).numpy()[i, j], (inside_labels[i] == inside_labels[j]).numpy())
print(
    f"  equal error rate on the people trained on {equal_error_rate(trained_on)[0]:.1%}, on strangers {eer['no margin', 0]:.1%}"
)

# %% [markdown]
# ### What does the margin of ArcFace do, and why an angle? · ArcFace 的间隔起什么作用，为什么是角度？

# %% [markdown] lang="en"
# In training, the angle to the true prototype is enlarged by $m$ before the softmax, so that the loss is small only where the
# picture is nearer to its prototype than to others *by that angle*: identities become compact and a gap lies between
# them. An angle is the distance on the sphere itself, so the margin is the same everywhere; CosFace's, in the cosine, is
# a larger angle near 0° (where the cosine is flat) than at 90°. At test there is no margin and no prototype.

# %% [markdown] lang="zh"
# 训练时，在 softmax 之前把与真实原型的夹角加大 $m$，所以只有当图像离自己的原型比离别的原型*近出这个角度*时损失才小：
# 每个身份变得紧凑，彼此之间留出空隙。角度就是球面上的距离，所以间隔处处相同；
# CosFace 的间隔在余弦上，在 0° 附近（余弦平坦）对应的角度比在 90° 处更大。测试时没有间隔，也没有原型。

# %%
for degrees in (10.0, 45.0, 60.0):
    cosine = torch.tensor(degrees).deg2rad().cos()
    same_as = [
        (of(cosine, m).acos().rad2deg() - degrees).item() for of, m in ((arcface_margin, 0.35), (cosface_margin, 0.35))
    ]
    print(f"  at {degrees:.0f}°: ArcFace 0.35 asks for {same_as[0]:.1f}° more, CosFace 0.35 for {same_as[1]:.1f}°")

# %% [markdown]
# ### Why mine triplets, and why semi-hard ones? · 为什么要挖掘三元组，为什么要半难的？

# %% [markdown] lang="en"
# Of all triplets, soon most cost nothing: their gradient is 0, and averaging over them makes learning slow. The hardest ones
# are often mislabelled pictures or blurred ones, and early on they can drive all embeddings to one point, where each
# triplet costs just the margin. Semi-hard ones, whose negative is farther than the positive but within the margin, have a
# gradient and a good direction. Batches must hold several pictures of each of several people.

# %% [markdown] lang="zh"
# 在所有三元组中，很快大多数都没有损失：梯度为 0，对它们取平均使学习变慢。
# 最难的往往是标错的或模糊的图，早期还可能把所有嵌入赶到一点，那里每个三元组的损失恰好是间隔。
# 半难的负样本比正样本远，但在间隔之内，有梯度，方向也好。批次中必须有若干人，每人若干张图。

# %%
distances = pairwise_distances(embed(trained["triplet", 0][0], known[:120]))
a, p, n = all_triplets(known_labels[:120])
gap = distances[a, n] - distances[a, p]
shares = [(gap <= 0).float().mean(), ((gap > 0) & (gap <= 0.3)).float().mean(), (gap > 0.3).float().mean()]
print("  after training: hard {:.1%}, semi-hard {:.1%}, no loss {:.1%}".format(*shares))
print(f"  all embeddings at one point: loss {triplet_loss(torch.zeros(9), torch.zeros(9), 0.3):.1f}, the margin")

# %% [markdown]
# ### How do you choose the threshold? · 怎样选择阈值？

# %% [markdown] lang="en"
# From the costs: state the FAR that can be borne, take the lowest threshold that keeps it on pairs of people who were not
# trained on and are like those it will be used on, and report the TAR there. The equal error rate compares methods with
# one number, but nobody operates there. To measure a FAR of 1 in 10,000 takes some hundred thousand pairs of different
# people, and not all from the same few; and check it for each group.

# %% [markdown] lang="zh"
# 从代价出发：说明能承受多大的 FAR，在没有参与训练、且与使用对象相似的人的图对上，取满足它的最低阈值，并报告那里的 TAR。
# 等错误率用一个数比较方法，但没有人在那里运行。要测量万分之一的 FAR，需要几十万对不同的人，
# 而且不能都来自同样的几个人；还要对每个人群检查。

# %%
curve = curves["ArcFace", 0]
for far in (0.1, 0.01, 0.001):
    threshold, reached = threshold_at_far(curve, far)
    print(
        f"  FAR at most {far:.1%}: accept from {threshold:.3f}, TAR {reached:.1%} ({(~same).sum() * far:.0f} pairs decide)"
    )

# %% [markdown]
# ### What is the difference between 1:1 and 1:N, and why does it matter? · 1:1 与 1:N 有什么区别，为什么重要？

# %% [markdown] lang="en"
# Verification (1:1) compares with the one person who is claimed. Identification (1:N) compares with all of a gallery, and a
# false alarm of any comparison is a false alarm: $1 - (1 - \mathrm{FAR})^N$ if they are independent. So the FAR has to
# be smaller by about the gallery's size. In an *open set* the right answer is often "nobody", which a closed-set accuracy
# (rank 1) never tests.

# %% [markdown] lang="zh"
# 验证（1:1）只与声称的那个人比较。识别（1:N）与库里所有人比较，任何一次误报都算误报：
# 若相互独立，就是 $1 - (1 - \mathrm{FAR})^N$。所以 FAR 要小到库的大小分之一左右。
# 在*开放集*中，正确答案常常是“谁也不是”，而闭集准确率（rank 1）从不检验这一点。

# %%
for seed, *_, one, found in rows:
    print(
        f"  seed {seed}: one comparison wrong {one:.1%}, a search of 7 {found:.1%}; if independent {false_alarm_rate(one, 7):.1%}"
    )

# %% [markdown]
# ### Contrastive or triplet loss: what is the difference? · 对比损失与三元组损失有什么区别？

# %% [markdown] lang="en"
# The contrastive loss fixes absolute distances: one person at 0, others beyond the margin, whatever the person. The triplet
# loss is relative: the positive nearer than the negative by the margin, so that people with varied pictures may take up
# more room. Both look at few pictures at a time and depend on which pairs are drawn; softmax losses compare each
# picture with all identities at once, which is why they are mostly used where identities are labelled.

# %% [markdown] lang="zh"
# 对比损失规定绝对距离：同一个人为 0，其他人在间隔之外，对谁都一样。
# 三元组损失是相对的：正样本比负样本近出一个间隔，所以图像多变的人可以占更大的地方。
# 两者一次只看几张图，取决于抽到哪些图对；softmax 类损失把每张图一次与所有身份比较，所以有身份标注时大多用它。

# %%
wide = torch.tensor([0.5]), torch.tensor([0.9])  # a person whose pictures differ; a stranger at 0.9
pair_loss = contrastive_loss(torch.cat(wide), torch.tensor([True, False]), margin=0.8).item()
print(
    f"  positive 0.5, negative 0.9: contrastive {pair_loss:.3f} still pulls, triplet {triplet_loss(*wide, 0.2).item():.3f} is content"
)
