# %% [markdown]
# # Pose estimation · 姿态估计

# %% [markdown] lang="en"
# After this lesson you can draw keypoints as heat maps, read them out more finely than the map's pixels (quarter offset,
# DARK, soft-argmax), say what a soft-argmax gets wrong and why it can be trained through, and measure poses with PCK, OKS
# and average precision as COCO does. You need convolutions (05/01), the softmax, and average precision (10/01).

# %% [markdown] lang="zh"
# 学完本课，你能把关键点画成热图，并以比像素更细的精度读出来（四分之一偏移、DARK、soft-argmax），
# 能说出 soft-argmax 错在哪里、又为什么能穿过它训练，并能像 COCO 那样用 PCK、OKS 和平均精度衡量姿态。
# 先修：卷积（05/01）、softmax、平均精度（10/01）。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.vision.heatmaps import dark_decode, gaussian_heatmaps, heatmap_argmax, quarter_offset, soft_argmax
from dlcommon.vision.keypoint_similarity import (
    keypoint_average_precision,
    object_keypoint_similarity,
    percentage_of_correct_keypoints,
    pose_overlaps,
)
from dlcommon.vision.part_affinity import limb_score, match_limbs, part_affinity_field
from dlcommon.vision.stick_figures import generate_stick_figures
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Where are the wrists of the person in this picture? The answer is a pair of numbers for each joint, so one could let a
# network end in a linear layer with those numbers. But a convolution answers a question at *each place* with the same
# weights: "is this a wrist?" A position has to be made of such answers. And the maps of a network are coarser than its
# picture, by 4 or more: a wrist lies somewhere inside a pixel of the map.
#
# Then the result has to be judged. Three pixels beside the eye is far off; three pixels beside the hip, which nobody can
# point to exactly, is perfect. In a person who fills the picture three pixels are nothing, in one at the horizon they are
# the whole body.

# %% [markdown] lang="zh"
# 图中人的手腕在哪里？答案是每个关节一对数，所以可以让网络以一个线性层结尾，直接输出这些数。
# 但卷积是用同样的权重在*每个位置*回答同一个问题：“这里是手腕吗？”位置必须由这些回答组成。
# 而且网络的特征图比图像粗 4 倍或更多：手腕落在特征图某个像素的内部。
#
# 接着还要评判结果。眼睛旁边差三个像素已经很远；髋部谁也指不准，差三个像素就算完美。
# 人占满画面时三个像素不算什么，人在远处地平线上时三个像素就是整个身体。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Sub-pixel decoding.* A keypoint at $x = 2.3$ is drawn as a Gaussian with $\sigma = 1$. The pixels 1, 2, 3 hold
# $e^{-0.845} = 0.430$, $e^{-0.045} = 0.956$, $e^{-0.245} = 0.783$. The argmax says 2. The right neighbor is higher than the
# left one, so the quarter offset says 2.25. DARK looks at the logarithms $-0.845, -0.045, -0.245$: slope
# $(-0.245 + 0.845) / 2 = 0.3$, curvature $-0.245 + 2 \cdot 0.045 - 0.845 = -1$, so the peak of the parabola is at
# $2 + 0.3 / 1 = 2.3$.
#
# *Soft-argmax.* Five pixels with the logits $0, 2, 0, 0, 0$: $e^2 = 7.389$, so the weights are 0.649 for pixel 1 and 0.088
# for each other one. The mean is $0.649 \cdot 1 + 0.088 \cdot (0 + 2 + 3 + 4) = 1.439$, not 1: the little mass at the far
# side pulls to the middle, which is at 2.
#
# *OKS.* A person of area 10,000 square pixels; wrist and eye are both 5 pixels off. COCO's $\sigma$ is 0.062 for a wrist and
# 0.025 for an eye. Wrist: $25 / (2 \cdot 10{,}000 \cdot 0.124^2) = 0.0813$, $e^{-0.0813} = 0.922$. Eye:
# $25 / (2 \cdot 10{,}000 \cdot 0.05^2) = 0.5$, $e^{-0.5} = 0.607$. OKS of the two: 0.764.

# %% [markdown] lang="zh"
# *亚像素解码*。关键点 $x = 2.3$ 画成 $\sigma = 1$ 的高斯。
# 像素 1、2、3 的值是 $e^{-0.845} = 0.430$、$e^{-0.045} = 0.956$、$e^{-0.245} = 0.783$。
# argmax 说是 2。右邻比左邻高，所以四分之一偏移说是 2.25。DARK 看对数 $-0.845, -0.045, -0.245$：
# 斜率 $(-0.245 + 0.845) / 2 = 0.3$，曲率 $-0.245 + 2 \cdot 0.045 - 0.845 = -1$，所以抛物线的顶点在 $2 + 0.3 / 1 = 2.3$。
#
# *soft-argmax*。五个像素，logits 为 $0, 2, 0, 0, 0$：$e^2 = 7.389$，像素 1 的权重是 0.649，其余各 0.088。
# 均值是 $0.649 \cdot 1 + 0.088 \cdot (0 + 2 + 3 + 4) = 1.439$，而不是 1：远处的少量权重把结果拉向中点 2。
#
# *OKS*。人的面积是 10,000 平方像素；手腕和眼睛都偏了 5 个像素。COCO 的 $\sigma$ 对手腕是 0.062，对眼睛是 0.025。
# 手腕：$25 / (2 \cdot 10{,}000 \cdot 0.124^2) = 0.0813$，$e^{-0.0813} = 0.922$。
# 眼睛：$25 / (2 \cdot 10{,}000 \cdot 0.05^2) = 0.5$，$e^{-0.5} = 0.607$。两者的 OKS：0.764。

# %%
drawn = gaussian_heatmaps(torch.tensor([[2.3, 2.0]], dtype=torch.float64), 5, 5, sigma=1.0)  # [1 keypoint, 5, 5]
decoders = {"argmax": lambda maps: heatmap_argmax(maps)[0], "quarter offset": quarter_offset, "DARK": dark_decode}
by_hand = {name: decode(drawn)[0, 0].item() for name, decode in decoders.items()}
five = torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0]])  # a map of one row
pulled = soft_argmax(five)[0].item()
off_by_five = object_keypoint_similarity(
    torch.tensor([[3.0, 4.0], [3.0, 4.0]]),
    torch.zeros(2, 2),
    torch.tensor([True, True]),
    torch.tensor(10_000.0),
    [0.062, 0.025],
).item()
table(["x = 2.3 decoded by", "x"], [*by_hand.items(), ("soft-argmax of 0 2 0 0 0", pulled), ("OKS", off_by_five)])

drawing = Schematic(13.4, 4.6, "Three ways from a picture to a position")
for name, x, y, text, kind, width in (
    ("picture", 1.0, 2.3, "picture", "data", 1.4),
    ("body", 3.0, 2.3, "convolutions", "parameter", 1.7),
    ("maps", 5.4, 3.2, "maps, one\nfor each keypoint", "data", 2.0),
    ("flat", 5.4, 0.7, "linear layer", "parameter", 1.7),
    ("argmax", 8.2, 4.0, "argmax, DARK\n(not in training)", "operation", 2.0),
    ("soft", 8.2, 2.4, "soft-argmax", "operation", 1.7),
    ("xy", 10.8, 2.4, "(x, y)", "data", 1.2),
    ("l1", 12.6, 2.4, "L1 loss", "operation", 1.2),
):
    drawing.box(name, x, y, text, kind, width, height=0.9 if "\n" in text else 0.6)
for start, end in (
    ("picture", "body"), ("body", "maps"), ("body", "flat"), ("maps", "argmax"), ("maps", "soft"), ("argmax", "xy"),
    ("soft", "xy"), ("flat", "xy"), ("xy", "l1"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.text(11.2, 4.2, "heat maps are trained by comparing maps;\nthe other two by comparing positions")
show(drawing.figure, "three-ways")

# %% [markdown]
# ## Formula · 公式
#
# $$H_k(u) = \exp\left( -\frac{\lVert u - x_k \rVert^2}{2 s^2} \right), \qquad \hat x_k = \sum_u p_k(u)\, u, \quad p_k(u) = \frac{e^{\beta z_k(u)}}{\sum_v e^{\beta z_k(v)}}$$
#
# $$\frac{\partial \hat x_k}{\partial z_k(u)} = \beta\, p_k(u)\, (u - \hat x_k)$$
#
# $$\mu = m - \left( \nabla^2 \log H(m) \right)^{-1} \nabla \log H(m)$$
#
# $$\mathrm{OKS} = \frac{\sum_k v_k \exp\left( -\frac{d_k^2}{2 a\, (2 \sigma_k)^2} \right)}{\sum_k v_k}, \qquad \mathrm{PCK} = \frac{\sum_k v_k\, [\, d_k \le \alpha \ell \,]}{\sum_k v_k}$$

# %% [markdown] lang="en"
# - $x_k$: position (x, y) of keypoint $k$, in pixels of the map; $u, v$: pixels; $s$: the Gaussian's width, 1 to 3 pixels.
# - $H_k$: the target map, `[height, width]`. The network is trained to give it, by the mean squared error.
# - $z_k$: a map of logits; $\beta$: their scale; $p_k$: its softmax over all pixels.
# - $\hat x_k$: the soft-argmax, the mean position (Sun et al. 2018, equation 2).
# - $m$: the highest pixel; $\mu$: one Newton step from there (DARK: Zhang et al. 2020). $\nabla$ and $\nabla^2$ are taken by
#   differences of neighboring pixels.
# - $d_k$: distance of prediction and truth; $v_k$: 1 where the keypoint is labelled, else 0.
# - $a$: area of the person; $\sigma_k$: COCO's constant of the keypoint. In the formula it is $2\sigma_k$ that is scaled by
#   $\sqrt a$.
# - $\ell$: a length of the person, such as the head's; $\alpha$: a share of it, 0.5 for PCKh.
#
# The gradient says what training does: pixels on the far side of the mean ($u > \hat x_k$) push it there, in proportion to
# the mass that they have. No pixel needs a target of its own: only the mean is trained, and the map may take any shape
# that has this mean. The Newton step is exact for Gaussians, because their logarithm is a quadratic.

# %% [markdown] lang="zh"
# - $x_k$：第 $k$ 个关键点的位置 (x, y)，以特征图的像素为单位；$u, v$：像素；$s$：高斯的宽度，1 到 3 个像素。
# - $H_k$：目标热图，`[height, width]`。用均方误差训练网络输出它。
# - $z_k$：一张 logits 图；$\beta$：它的缩放；$p_k$：在所有像素上的 softmax。
# - $\hat x_k$：soft-argmax，即平均位置（Sun 等 2018，式 2）。
# - $m$：最高的像素；$\mu$：从那里走一步牛顿法（DARK：Zhang 等 2020）。
#   $\nabla$ 和 $\nabla^2$ 用相邻像素之差计算。
# - $d_k$：预测与真值的距离；$v_k$：该关键点有标注时为 1，否则为 0。
# - $a$：人的面积；$\sigma_k$：COCO 给这个关键点的常数。公式中与 $\sqrt a$ 相乘的是 $2\sigma_k$。
# - $\ell$：人的某个长度，例如头的大小；$\alpha$：它的几分之几，PCKh 取 0.5。
#
# 梯度说明了训练在做什么：均值远侧的像素（$u > \hat x_k$）按各自的权重把均值推过去。
# 没有哪个像素需要自己的目标：训练的只是均值，图可以是任何具有这个均值的形状。
# 牛顿步对高斯是精确的，因为高斯的对数是二次函数。

# %% [markdown]
# ## Code · 代码

# %%
source(gaussian_heatmaps)
source(soft_argmax)
source(dark_decode)
source(object_keypoint_similarity)

# %% [markdown] lang="en"
# A Gaussian in two dimensions is a product of two in one, so `gaussian_heatmaps` computes a column profile `[..., height]` and
# a row profile `[..., width]` and multiplies them by broadcasting. `soft_argmax` takes one softmax over all pixels
# together; the sums over rows and columns are the distributions of x and y.
#
# `dark_decode` has the 3×3 pixels around each peak, `[maps, 3, 3]`. First and second differences of the logarithm give the
# gradient and the Hessian, whose inverse is written out, since it is 2×2. Where it is not a peak, the pixel stays.
#
# `object_keypoint_similarity` is the formula; its leading dimensions are broadcast, so that all predictions are compared
# with all people at once. Average precision then is that of 10/01, with OKS in the place of IoU.

# %% [markdown] lang="zh"
# 二维高斯是两个一维高斯的乘积，所以 `gaussian_heatmaps` 算出列方向 `[..., height]` 和行方向 `[..., width]` 的剖面，
# 再用广播相乘。`soft_argmax` 在所有像素上一起做一次 softmax；对行、对列求和就得到 x 和 y 的分布。
#
# `dark_decode` 取每个峰周围的 3×3 像素，`[maps, 3, 3]`。对数的一阶、二阶差分给出梯度和 Hessian；
# 它是 2×2 的，所以逆矩阵直接写出来。如果那里不是峰，像素就保持不动。
#
# `object_keypoint_similarity` 就是公式本身；前面的维度会广播，所以所有预测可以一次与所有人比较。
# 之后的平均精度就是 10/01 的那一个，只是 IoU 换成了 OKS。

# %% [markdown]
# ## Experiment: reading a map · 实验：读出一张图

# %% [markdown] lang="en"
# 400 keypoints at random places, drawn on maps of 16×16 pixels with $s = 1.5$, clean and with noise of 2 % of the peak. Before
# the table: the soft-argmax needs logits; given the map itself, whose values lie between 0 and 1, it must be sharpened
# by $\beta$.

# %% [markdown] lang="zh"
# 400 个随机位置的关键点，画在 16×16 像素的图上，$s = 1.5$，一组干净，一组带峰值 2 % 的噪声。
# 看表之前先说明：soft-argmax 需要 logits；如果给它热图本身（数值在 0 到 1 之间），就必须用 $\beta$ 锐化。

# %%
quiz(
    "argmax error",
    en="How far from the truth is the argmax of a clean map on average, in pixels of the map?",
    zh="对干净的图，argmax 平均离真值多远（以特征图的像素为单位）？",
)

# %%
random = torch.Generator().manual_seed(0)
places = torch.rand(400, 2, generator=random) * 9 + 3  # 3 to 12: away from the edges
clean = gaussian_heatmaps(places, 16, 16, sigma=1.5)
noisy = clean + 0.02 * torch.randn(clean.shape, generator=random)
decoders |= {f"soft-argmax, β = {beta}": lambda maps, beta=beta: soft_argmax(maps, beta) for beta in (1, 10, 30)}
decoders["soft-argmax of log H"] = lambda maps: soft_argmax(maps.clamp(min=1e-10).log())


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return (found - truth).norm(dim=-1).mean().item()


read = {
    name: {kind: error(decode(maps), places) for kind, maps in (("clean", clean), ("noisy", noisy))}
    for name, decode in decoders.items()
}
table(["decoded by", "error, clean", "error, noisy"], [(name, *errors.values()) for name, errors in read.items()])
settle("argmax error", read["argmax"]["clean"], tolerance=0.05)

figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
axes[0].imshow(noisy[0].numpy(), cmap="gray")
for name, marker in (("argmax", "s"), ("DARK", "x"), ("soft-argmax, β = 10", "^")):
    axes[0].plot(*decoders[name](noisy[:1])[0], marker, fillstyle="none", label=name)
axes[0].plot(*places[0], "r+", markersize=14, label="truth")
axes[0].legend(fontsize=8)
axes[0].set(title="One noisy map")
along = torch.linspace(2, 13, 111)
line = gaussian_heatmaps(torch.stack((along, torch.full_like(along, 7.5)), dim=1), 16, 16, sigma=1.5)
for name in ("argmax", "quarter offset", "DARK"):
    axes[1].plot(along, decoders[name](line)[:, 0] - along, label=name)
axes[1].legend(fontsize=8)
axes[1].set(title="Error along x, clean maps", xlabel="true x", ylabel="found − true")
for beta in (1, 5, 10, 30):
    axes[2].plot(along, soft_argmax(line, beta)[:, 0] - along, label=f"β = {beta}")
axes[2].axhline(0, color="black", linewidth=0.8)
axes[2].legend(fontsize=8)
axes[2].set(title="Soft-argmax: drawn to the middle", xlabel="true x", ylabel="found − true")
show(figure, "decoding")

# %% [markdown] lang="en"
# The argmax is off by 0.38 pixels on average, the mean distance of a random point from the center of its pixel; at stride
# 4 that is 1.5 pixels of the picture, from decoding alone. The quarter offset takes half of it away, DARK all of it if the
# map is a Gaussian; noise costs DARK some of that, as it looks at nine pixels only, which is why the authors smooth the map
# first. The soft-argmax of the map itself is drawn to the middle by pixels if $\beta$ is small, and goes back to the argmax
# with its steps if it is large. Of the logarithm, it is the mean of a true Gaussian, and exact up to what is cut off at the
# edges; but there the noise of the empty part counts most, and it becomes the worst of all but $\beta = 1$.

# %% [markdown] lang="zh"
# argmax 平均偏 0.38 个像素，也就是随机一点到所在像素中心的平均距离；步幅为 4 时，光是解码就造成图像上 1.5 个像素的误差。
# 四分之一偏移去掉一半，DARK 在图是高斯时全部去掉；噪声使它损失一些，因为它只看九个像素，所以作者先对图做平滑。
# 对热图本身做 soft-argmax：$\beta$ 小时被拉向中点，偏好几个像素；$\beta$ 大时又回到带台阶的 argmax。
# 对它的对数做，就是真正高斯的均值，除了边缘截断之外是精确的；
# 但这时空白部分的噪声影响最大，除 $\beta = 1$ 之外它变成最差的。

# %% [markdown]
# ## Experiment: learning poses · 实验：学习姿态

# %% [markdown] lang="en"
# Now a network has to find the keypoints. The pictures are *generated*: 32×32 pixels with one stick figure of random pose,
# noise, and two lines that belong to nobody; head, wrists and ankles are known exactly. 480 figures to train on, 160 to
# test. One small network of four convolutions at half the resolution, with three endings: heat maps and mean squared
# error; soft-argmax and L1 loss; a linear layer to coordinates and L1 loss. 75 updates each, three seeds.
#
# The second test moves the same 160 figures 5 pixels to the left, to where no figure of the training stood.

# %% [markdown] lang="zh"
# 现在让网络去找关键点。图像是*生成的*：32×32 像素，一个姿态随机的火柴人，加噪声和两条不属于任何人的线；
# 头、手腕、脚踝的位置精确已知。480 个用于训练，160 个用于测试。
# 同一个小网络（四个卷积层，一半分辨率），三种结尾：热图加均方误差；soft-argmax 加 L1 损失；
# 线性层直接输出坐标，加 L1 损失。各更新 75 次，三个种子。
#
# 第二项测试把同样的 160 个火柴人向左移 5 个像素，移到训练时没有人站过的地方。

# %%
ENDINGS = ("heat maps", "soft-argmax", "coordinates")
endings = {name: name for name in ENDINGS} | {"heat maps": "heat maps · 热图", "coordinates": "coordinates · 坐标"}
quiz(
    "smallest error",
    en="Which ending has the smallest error after 75 updates?",
    zh="更新 75 次后，哪种结尾误差最小？",
    choices=endings,
)
quiz(
    "moved",
    en="Which one loses most when the figures stand elsewhere?",
    zh="火柴人换了地方站，哪一种损失最大？",
    choices=endings,
)

# %%
SIZE, MAP, WIDTH, SEEDS = 32, 16, 14, (0, 1, 2)
SIGMAS = (0.026, 0.062, 0.062, 0.089, 0.089)  # COCO's: nose for the head, wrists, ankles
figures = generate_stick_figures(480, torch.Generator().manual_seed(0), SIZE)
tested = generate_stick_figures(160, torch.Generator().manual_seed(1), SIZE)
SHIFT = 5
moved_images = torch.cat(
    (tested.images[..., SHIFT:], tested.images[..., :SHIFT]), dim=3
)  # the margin goes to the right
moved_points = tested.points - torch.tensor([SHIFT, 0.0])


class PoseNet(nn.Module):
    """Finds five keypoints: maps [batch, 5, 16, 16], or positions (x, y) in pixels of the map [batch, 5, 2]."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending
        layers = []
        for in_channels, stride, dilation in ((1, 2, 1), (WIDTH, 1, 2), (WIDTH, 1, 3), (WIDTH, 1, 1)):
            convolution = nn.Conv2d(in_channels, WIDTH, 3, stride, dilation, dilation, bias=False)
            layers += [convolution, nn.BatchNorm2d(WIDTH), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTH * 16, 10) if ending == "coordinates" else nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body(images)  # [batch, WIDTH, 16, 16]
        if self.ending == "coordinates":
            pooled = F.adaptive_avg_pool2d(features, 4).flatten(1)  # 4×4 areas: where something is, roughly
            return MAP / 2 * (1 + self.head(pooled).unflatten(1, (5, 2)))
        return self.head(features)


def to_map(points: torch.Tensor) -> torch.Tensor:
    return (points + 0.5) / (SIZE / MAP) - 0.5  # the centers of the pixels are half a pixel from the edge


def to_image(points: torch.Tensor) -> torch.Tensor:
    return (points + 0.5) * (SIZE / MAP) - 0.5


def learn(ending: str, seed: int, epochs: int = 5) -> PoseNet:
    torch.manual_seed(seed)
    network, generator = PoseNet(ending), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=15 * epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(480, generator=generator).split(32):
            output, wanted = network(figures.images[chosen]), to_map(figures.points[chosen])
            if ending == "heat maps":
                loss = 100 * F.mse_loss(output, gaussian_heatmaps(wanted, MAP, MAP, sigma=1.0))
            else:
                loss = F.l1_loss(soft_argmax(output) if ending == "soft-argmax" else output, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def poses(network: PoseNet, images: torch.Tensor, decode=dark_decode) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions in pixels of the image [figures, 5, 2], and how sure the network is of each figure [figures]."""
    output = network(images)
    if network.ending == "coordinates":
        return to_image(output), torch.ones(len(output))  # it does not say how sure it is
    if network.ending == "soft-argmax":
        return to_image(soft_argmax(output)), output.flatten(2).softmax(2).amax(2).mean(1)
    return to_image(decode(output)), output.flatten(2).amax(2).mean(1)


visible = torch.ones(160, 5, dtype=torch.bool)
person = tested.area.sqrt()  # of about 13 pixels


def measured(found: torch.Tensor, sure: torch.Tensor) -> dict[str, float]:
    overlaps = [
        pose_overlaps(
            found[i, None], sure[i, None], tested.points[i, None], visible[i, None], tested.area[i, None], SIGMAS
        )
        for i in range(len(found))
    ]
    return {
        "error": error(found, tested.points),
        "PCK": percentage_of_correct_keypoints(found, tested.points, visible, person, 0.15).item(),
        "OKS": object_keypoint_similarity(found, tested.points, visible, tested.area, SIGMAS).mean().item(),
        "AP50": keypoint_average_precision(overlaps, (0.5,)),
    }


networks = {(ending, seed): learn(ending, seed) for ending in ENDINGS for seed in SEEDS}
results = {
    (name, seed): measured(*poses(networks[ending, seed], tested.images, decode))
    for name, ending, decode in (
        ("heat maps, argmax", "heat maps", lambda maps: heatmap_argmax(maps)[0]),
        ("heat maps, quarter", "heat maps", quarter_offset),
        ("heat maps, DARK", "heat maps", dark_decode),
        ("soft-argmax", "soft-argmax", dark_decode),
        ("coordinates", "coordinates", dark_decode),
    )
    for seed in SEEDS
}
elsewhere = {key: error(poses(network, moved_images)[0], moved_points) for key, network in networks.items()}


def written(figure: str, name: str) -> str:
    return " ".join(f"{results[name, seed][figure]:.2f}" for seed in SEEDS)


def mean(figure: str, name: str) -> float:
    return sum(results[name, seed][figure] for seed in SEEDS) / len(SEEDS)


names = list(dict.fromkeys(name for name, _ in results))
table(
    ["three seeds", "error, pixels", "PCK at 0.15 √area", "mean OKS", "AP at OKS 0.50"],
    [(name, *(written(figure, name) for figure in ("error", "PCK", "OKS", "AP50"))) for name in names],
)
ending_error = {ending: mean("error", "heat maps, DARK" if ending == "heat maps" else ending) for ending in ENDINGS}
moved_error = {ending: sum(elsewhere[ending, seed] for seed in SEEDS) / len(SEEDS) for ending in ENDINGS}
table(
    ["mean error, pixels", "as trained", "5 pixels to the left", "times"],
    [(name, ending_error[name], moved_error[name], moved_error[name] / ending_error[name]) for name in ENDINGS],
)
settle("smallest error", min(ENDINGS, key=ending_error.get))
settle("moved", max(ENDINGS, key=lambda name: moved_error[name] - ending_error[name]))

figure, axes = plt.subplots(2, 6, figsize=(15, 5), layout="constrained")
with torch.no_grad():
    shown_maps = {ending: networks[ending, 0](tested.images[:2]) for ending in ENDINGS[:2]}
for row in range(2):
    axes[row, 0].imshow(tested.images[row, 0].numpy(), cmap="gray")
    axes[row, 0].plot(*tested.points[row].T, "r+", markersize=12)
    axes[row, 0].set_ylabel("truth")
    for column, ending in enumerate(ENDINGS, start=1):
        axes[row, column].imshow(tested.images[row, 0].numpy(), cmap="gray")
        axes[row, column].plot(*poses(networks[ending, 0], tested.images[row, None])[0][0].T, "cx", markersize=8)
        axes[row, column].set_title(ending)
    axes[row, 4].imshow(shown_maps["heat maps"][row, 1].numpy(), cmap="viridis")
    axes[row, 4].set_title("heat map: left wrist")
    axes[row, 5].imshow(shown_maps["soft-argmax"][row, 1].flatten().softmax(0).view(MAP, MAP).numpy(), cmap="viridis")
    axes[row, 5].set_title("under the soft-argmax")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
show(figure, "poses")

# %% [markdown] lang="en"
# Here, with little training, the two that are trained on *positions* come closer: their loss is the error itself, while the
# squared error of a map is mostly about empty pixels, and a Gaussian takes many updates to become sharp. (With much data
# and training, heat maps are what most systems use.) Sub-pixel decoding helps with every seed, at no cost.
#
# When the figures stand elsewhere, the linear layer loses most: it has learned weights for each place separately, and none
# for this one. A convolution moves its answer with the picture, so that the peaks of the heat maps are as right as before.
# The soft-argmax lies between: what little mass it has far away counts in its mean, and does not move along.

# %% [markdown] lang="zh"
# 在训练很少的这里，用*位置*训练的两种更接近真值：它们的损失就是误差本身，
# 而热图的平方误差大多关于空白像素，高斯要经过许多次更新才会变尖。（数据和训练充足时，多数系统用的是热图。）
# 亚像素解码对每个种子都有帮助，而且没有代价。
#
# 火柴人换了地方，线性层损失最大：它对每个位置分别学权重，而这个位置什么也没学过。
# 卷积的回答会随图像一起移动，所以热图的峰与之前一样准。
# soft-argmax 介于两者之间：远处的少量权重也算进均值，却不会跟着移动。

# %% [markdown]
# ## Experiment: two people · 实验：两个人

# %% [markdown] lang="en"
# With several people there are two peaks in the map of right elbows and two in that of right wrists: whose is which? A *part
# affinity field* is one more output of the network: on the pixels of a forearm, its unit vector from elbow to wrist. The
# score of a pair is the mean of the field along the line between them, and the pairing is the one with the largest sum.
# Two forearms that cross, with the true field:

# %% [markdown] lang="zh"
# 有好几个人时，右肘的图上有两个峰，右腕的图上也有两个：谁是谁的？*部位亲和场*（part affinity field）是网络的另一种输出：
# 在前臂的像素上，它是从肘指向腕的单位向量。一对候选点的得分是场沿两点连线的平均，总分最大的配法就是答案。
# 两条交叉的前臂，用真实的场：

# %%
elbows, wrists = torch.tensor([[3.0, 4.0], [3.0, 13.0]]), torch.tensor([[26.0, 14.0], [26.0, 3.0]])
field = sum(part_affinity_field(elbow, wrist, 18, 30, 1.0) for elbow, wrist in zip(elbows, wrists, strict=True))
scores = {(e, w): limb_score(field, elbows[e], wrists[w]).item() for e in range(2) for w in range(2)}
pairs, nearest = match_limbs(field, elbows, wrists), torch.cdist(elbows, wrists).argmin(dim=1).tolist()
table(
    ["elbow", "nearest wrist", "score with wrist 0", "score with wrist 1", "paired with"],
    [(e, nearest[e], scores[e, 0], scores[e, 1], dict(pairs)[e]) for e in range(2)],
)
figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
on_limb = field.norm(dim=0) > 0
rows, columns = on_limb.nonzero().unbind(1)
axis.quiver(columns, rows, field[0][on_limb], field[1][on_limb], angles="xy", scale_units="xy", scale=1.2, width=0.003)
axis.plot(*elbows.T, "o", markersize=10, label="elbows")
axis.plot(*wrists.T, "s", markersize=10, label="wrists")
axis.set(aspect="equal", ylim=(18, -1), title="The field of two forearms")
axis.legend()
show(figure, "part-affinity")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# A heat map is a normal density up to a factor: `torch.distributions` has its logarithm. The soft-argmax is an expectation;
# its gradient by autograd must be $\beta\, p\, (u - \hat x)$. DARK's differences are exact for quadratics: autograd's Newton
# step from the highest pixel of a tilted one must arrive at the same point. In this repository's tests, OKS and its
# average precision are also held against pycocotools, on 12 images with up to four people and more than 20 predictions.

# %% [markdown] lang="zh"
# 热图与正态密度只差一个系数，`torch.distributions` 有它的对数。soft-argmax 是期望，
# 自动求导得到的梯度必须是 $\beta\, p\, (u - \hat x)$。DARK 的差分对二次函数是精确的：
# 对一个倾斜的二次函数，从最高像素出发，自动求导的牛顿步必须到达同一点。
# 本仓库的测试还把 OKS 及其平均精度与 pycocotools 比较：12 张图，最多四个人，预测超过 20 个。

# %%
grid = torch.stack(torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="xy"), dim=-1).double()  # [7, 9, 2]
center, spread = torch.tensor([3.3, 2.8], dtype=torch.float64), 1.4
normal = torch.distributions.MultivariateNormal(center, spread**2 * torch.eye(2, dtype=torch.float64))
density = (normal.log_prob(grid) - normal.log_prob(center)).exp()
logits = torch.randn(7, 9, generator=random, dtype=torch.float64).requires_grad_()
mean_position = soft_argmax(logits, beta=2.0)
(by_autograd,) = torch.autograd.grad(mean_position[0], logits)
probabilities = (2 * logits).flatten().softmax(0).view(7, 9)
by_formula = 2 * probabilities * (grid[..., 0] - mean_position[0])
tilted = torch.tensor([[-0.8, 0.3], [0.3, -0.5]], dtype=torch.float64)


def log_map(at: torch.Tensor) -> torch.Tensor:
    return torch.einsum("...i,ij,...j->...", at - center, tilted, at - center) / 2


start = heatmap_argmax(log_map(grid).exp())[0]
hessian = torch.autograd.functional.hessian(log_map, start)
slope = torch.autograd.functional.jacobian(log_map, start)
newton = start - torch.linalg.solve(hessian, slope)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: argmax 2, quarter offset 2.25, DARK 2.3", list(by_hand.values()), [2.0, 2.25, 2.3], 1e-9)
check_close("by hand: soft-argmax 1.439", pulled, 1.439, 1e-3)
check_close("by hand: OKS 0.764", off_by_five, 0.764, 1e-3)
check_close("a heat map is a normal density", gaussian_heatmaps(center, 7, 9, spread), density, 1e-12)
check_close("the soft-argmax's gradient is β p (u − x)", by_autograd, by_formula.detach(), 1e-10)
check_close("DARK is a Newton step on the logarithm", dark_decode(log_map(grid).exp()), newton, 1e-9)
check("DARK is exact on clean Gaussians", read["DARK"]["clean"] < 1e-4)
check("the argmax is off by 0.38 pixels", abs(read["argmax"]["clean"] - 0.3826) < 0.03)
check("the quarter offset takes away half of it", 0.4 < read["quarter offset"]["clean"] / read["argmax"]["clean"] < 0.6)
check("soft-argmax with β = 1 is off by pixels", read["soft-argmax, β = 1"]["clean"] > 2)
check(
    "decoding by DARK is better than by argmax, with every seed",
    all(results["heat maps, DARK", seed]["error"] < results["heat maps, argmax", seed]["error"] for seed in SEEDS),
)
check(
    "trained on coordinates, it comes closer than by heat maps, with every seed",
    all(results["coordinates", seed]["error"] < results["heat maps, DARK", seed]["error"] for seed in SEEDS),
)
check("so does the soft-argmax, on average over seeds", ending_error["soft-argmax"] < ending_error["heat maps"])
check(
    "moved figures cost the linear layer most, with every seed",
    all(
        elsewhere["coordinates", seed] - results["coordinates", seed]["error"]
        > max(elsewhere[name, seed] - results[same, seed]["error"] for name, same in
                  (("heat maps", "heat maps, DARK"), ("soft-argmax", "soft-argmax")))
        for seed in SEEDS
    ),
)  # fmt: skip
check(
    "the field pairs crossing forearms rightly, the nearest wrist does not",
    pairs == [(0, 0), (1, 1)] and nearest == [1, 0],
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Pose networks of today differ in where the maps come from: hourglasses (Newell et al. 2016), high resolution throughout
# (HRNet), Transformers (ViTPose). On phones, coordinates come from one network on a person that a detector has cut out, as
# in BlazePose. Top-down systems run once for each person, bottom-up ones once for each picture, with part affinity
# fields or something like them. SimCC classifies x and y separately, in bins finer than a pixel.
#
# Read on: [Newell et al. 2016](https://arxiv.org/abs/1603.06937), hourglass; [Sun et al.
# 2018](https://arxiv.org/abs/1711.08229), integral regression; [Zhang et al. 2020](https://arxiv.org/abs/1910.06278), DARK;
# [Cao et al. 2017](https://arxiv.org/abs/1611.08050), part affinity fields. See all concepts with
# `uv run lesson read 10/07`. Next: other points of people, in a space where distance means identity, 10/08.

# %% [markdown] lang="zh"
# 今天的姿态网络差别在于图从哪里来：沙漏网络（Newell 等 2016）、始终保持高分辨率（HRNet）、Transformer（ViTPose）。
# 在手机上，先由检测器裁出一个人，再由一个网络直接给出坐标，如 BlazePose。
# 自上而下的系统对每个人运行一次；自下而上的对每张图运行一次，再用部位亲和场之类的方法分组。
# SimCC 把 x 和 y 分别当作分类，格子比像素还细。
#
# 继续阅读：[Newell 等 2016](https://arxiv.org/abs/1603.06937)，沙漏网络；
# [Sun 等 2018](https://arxiv.org/abs/1711.08229)，积分回归；[Zhang 等 2020](https://arxiv.org/abs/1910.06278)，DARK；
# [Cao 等 2017](https://arxiv.org/abs/1611.08050)，部位亲和场。用 `uv run lesson read 10/07` 重读本课。
# 下一课：把人放进一个以距离表示身份的空间，10/08。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `gaussian_heatmaps`, `soft_argmax` and `dark_decode` yourself. `uv run lesson exercise 10/07` makes a file with their
# signatures, `uv run lesson check 10/07` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `gaussian_heatmaps`、`soft_argmax` 和 `dark_decode`。
# `uv run lesson exercise 10/07` 生成带有签名的文件，`uv run lesson check 10/07` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `points[..., 0:1]` keeps an axis of length 1, against which `torch.arange(width)` is broadcast to `[..., width]`.
# 2. Flatten the last two axes before the softmax, unflatten them after it. Summing over rows leaves the columns, which
#    belong to x.
# 3. `_neighborhoods` gives the 3×3 pixels around each peak with rows first: `patches[:, 1, 2]` is the neighbor to the right.
#    Take the logarithm of values of at least `eps`.
# 4. The inverse of a symmetric 2×2 matrix with $a$, $c$ on the diagonal and $b$ beside it is that with $c$, $a$ and $-b$,
#    divided by $ac - b^2$. Keep the pixel where $ac - b^2 \le 0$, where the curvature is not negative, at the edge, and where
#    a step is longer than 1.

# %% [markdown] lang="zh"
# 1. `points[..., 0:1]` 保留一个长度为 1 的轴，`torch.arange(width)` 与它广播成 `[..., width]`。
# 2. softmax 之前把最后两个轴展平，之后再还原。对行求和剩下列，列对应 x。
# 3. `_neighborhoods` 给出每个峰周围的 3×3 像素，行在前：`patches[:, 1, 2]` 是右边的邻居。取对数前把数值限制到至少 `eps`。
# 4. 对角线为 $a$、$c$、旁边为 $b$ 的对称 2×2 矩阵，逆矩阵是对角线 $c$、$a$、旁边 $-b$，再除以 $ac - b^2$。
#    当 $ac - b^2 \le 0$、曲率不是负的、在边缘、或一步超过 1 时，保持原像素。


# %%
@exercise(gaussian_heatmaps, soft_argmax, dark_decode)
def judge(yours, reference):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * 5 + 1
    mine, theirs = (each.gaussian_heatmaps(points, 6, 9, 1.3) for each in (yours, reference))
    check("gaussian_heatmaps gives [..., height, width]", mine.shape == (2, 3, 6, 9))
    check_close("gaussian_heatmaps: the highest value of each map", mine.amax((-2, -1)), theirs.amax((-2, -1)))
    check_close("gaussian_heatmaps: all pixels", mine, theirs)

    logits = torch.randn(2, 3, 6, 9, generator=generator, dtype=torch.float64)
    for beta in (1.0, 3.0):
        grads, found = {}, {}
        for whose, each in (("mine", yours), ("theirs", reference)):
            leaf = logits.clone().requires_grad_()
            found[whose] = each.soft_argmax(leaf, beta)
            check("soft_argmax gives [..., 2]", found[whose].shape == (2, 3, 2))
            (grads[whose],) = torch.autograd.grad(found[whose].square().sum(), leaf)
        check_close(f"soft_argmax: x, beta {beta}", found["mine"][..., 0], found["theirs"][..., 0])
        check_close(f"soft_argmax: y, beta {beta}", found["mine"][..., 1], found["theirs"][..., 1])
        check_close(f"soft_argmax: the gradient, beta {beta}", grads["mine"], grads["theirs"])

    maps = reference.gaussian_heatmaps(points, 8, 9, 1.3)
    check_close("dark_decode: peaks of Gaussians", yours.dark_decode(maps), reference.dark_decode(maps))
    oblique = torch.rand(40, 8, 8, generator=generator, dtype=torch.float64) + 3 * reference.gaussian_heatmaps(
        torch.full((40, 2), 3.5, dtype=torch.float64), 8, 8, 2.0
    )
    check_close("dark_decode: maps that are no Gaussians", yours.dark_decode(oblique), reference.dark_decode(oblique))
    noise = torch.rand(60, 7, 7, generator=generator, dtype=torch.float64)
    check_close("dark_decode: edges, and steps that go too far", yours.dark_decode(noise), reference.dark_decode(noise))
    flat = torch.zeros(5, 5, dtype=torch.float64)
    check_close("dark_decode: a flat map", yours.dark_decode(flat), reference.dark_decode(flat))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why do pose networks predict heat maps instead of coordinates? · 姿态网络为什么预测热图而不是坐标？

# %% [markdown] lang="en"
# A heat map is a question that a convolution answers at each place with shared weights: it is equivariant to shifts, learns
# from every pixel, can show several candidates, and its peak says how sure it is. A linear layer to coordinates has to
# learn each place by itself. The price: large maps, a loss that is not the error, and rounding to pixels, which decoding
# has to undo. Soft-argmax joins the two.

# %% [markdown] lang="zh"
# 热图是卷积用共享权重在每个位置回答的问题：它对平移等变，从每个像素学习，能同时显示几个候选，峰值还说明把握多大。
# 直接输出坐标的线性层要对每个位置分别学习。代价是：图很大，损失不是误差本身，还有取整到像素，要靠解码弥补。
# soft-argmax 把两者结合起来。

# %%
table(
    ["error, pixels", "as trained", "moved by 5"], [(name, ending_error[name], moved_error[name]) for name in ENDINGS]
)

# %% [markdown]
# ### Why can one not train through an argmax, and what does soft-argmax do about it? · 为什么不能穿过 argmax 训练，soft-argmax 怎么解决？

# %% [markdown] lang="en"
# The argmax is piecewise constant: its gradient is 0 almost everywhere. The soft-argmax is the mean position under a
# softmax, with the gradient $\beta p (u - \hat x)$: pixels on the right side of the truth gain, others lose. Its mean is
# biased to the middle of the map as long as there is mass elsewhere; with two modes it lies between them. A larger $\beta$
# lessens the bias, but then the gradient comes from few pixels.

# %% [markdown] lang="zh"
# argmax 是分段常数，梯度几乎处处为 0。soft-argmax 是 softmax 下的平均位置，梯度是 $\beta p (u - \hat x)$：
# 朝着真值那一侧的像素增加，其余减少。只要别处还有权重，均值就偏向图的中央；有两个峰时它落在两者之间。
# $\beta$ 越大偏差越小，但梯度也就只来自少数像素。

# %%
for beta in (1.0, 2.0, 4.0):
    row = five.clone().requires_grad_()
    where = soft_argmax(row, beta)[0]
    (gradient,) = torch.autograd.grad(where, row)
    print(f"  β = {beta}: x = {where.item():.3f}, gradient {[round(value, 3) for value in gradient[0].tolist()]}")

# %% [markdown]
# ### What is OKS, and why is it not simply a distance? · 什么是 OKS，为什么不直接用距离？

# %% [markdown] lang="en"
# For each labelled keypoint a Gaussian of the distance, between 0 and 1, whose width grows with the person's size $\sqrt a$
# and with how much annotators differ on that keypoint; then the mean. So it is for poses what IoU is for boxes, and the
# same average precision can be computed with it. Unlabelled keypoints do not count, neither do predictions for them.

# %% [markdown] lang="zh"
# 对每个有标注的关键点，取距离的高斯，值在 0 与 1 之间，宽度随人的大小 $\sqrt a$ 和标注者在这个关键点上的分歧而增大，然后取平均。
# 于是它对姿态的作用就像 IoU 对框的作用，可以用它计算同样的平均精度。没有标注的关键点不算，对它们的预测也不算。

# %%
eye, hip = 0.025, 0.107
for name, sigma in (("eye", eye), ("hip", hip)):
    values = [
        object_keypoint_similarity(
            torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2), torch.tensor([True]), torch.tensor(area), [sigma]
        ).item()
        for area in (400.0, 10_000.0)
    ]
    print(f"  3 pixels off at the {name}: OKS {values[0]:.3f} for an area of 400, {values[1]:.3f} for 10,000")

# %% [markdown]
# ### How do you decode below the pixel, and when does it fail? · 怎样做亚像素解码，何时失效？

# %% [markdown] lang="en"
# By the shape around the peak: a quarter pixel towards the higher neighbor, or a parabola through the logarithm (DARK), or the
# mean of a soft-argmax. A parabola is exact for a Gaussian. It fails where the map is none: noise, two peaks that merge, a
# peak at the edge; smoothing the map with the training's Gaussian helps. And the target has to be drawn at the true,
# unrounded position, or the network learns the rounding.

# %% [markdown] lang="zh"
# 靠峰周围的形状：向较高的邻居移四分之一像素，或对对数拟合抛物线（DARK），或用 soft-argmax 的均值。
# 抛物线对高斯是精确的。图不是高斯时会失效：噪声、两峰相连、峰在边缘；先用训练时的高斯平滑会有帮助。
# 另外，目标必须画在未取整的真实位置上，否则网络学到的就是取整。

# %%
rounded = gaussian_heatmaps(places.round(), 16, 16, sigma=1.5)  # targets drawn at the nearest pixel
print(f"  DARK, targets at the true position: {error(dark_decode(clean), places):.3f} pixels off")
print(f"  DARK, targets at the nearest pixel: {error(dark_decode(rounded), places):.3f}")
print(f"  DARK, noise of 2 %: {read['DARK']['noisy']:.3f}")

# %% [markdown]
# ### Top-down or bottom-up: what is the difference? · 自上而下与自下而上有什么区别？

# %% [markdown] lang="en"
# Top-down finds people with a detector and runs the pose network on each crop: each person has the full resolution, so it is
# more accurate; the time grows with the number of people, and what the detector misses is lost. Bottom-up finds all
# keypoints at once and then groups them, for instance by part affinity fields: the time hardly depends on the number of
# people; small people and crowds are its weak point.

# %% [markdown] lang="zh"
# 自上而下先用检测器找人，再对每个裁剪区域运行姿态网络：每个人都有完整的分辨率，所以更准；
# 时间随人数增长，检测器漏掉的人就没有了。自下而上一次找出所有关键点，再分组，例如用部位亲和场：
# 时间几乎与人数无关；小人和拥挤场面是它的弱点。

# %%
print(f"  scores of the four possible forearms: { {pair: round(value, 2) for pair, value in scores.items()} }")
print(f"  paired: {pairs}; by the nearest wrist: {list(enumerate(nearest))}")

# %% [markdown]
# ### The map has stride 4. Where in the picture is its pixel 10? · 特征图步幅为 4，它的第 10 个像素在图像的哪里？

# %% [markdown] lang="en"
# If pixel centers are at whole numbers, pixel 10 of the map covers the pixels 40 to 43 of the picture; its center is
# $(10 + 0.5) \cdot 4 - 0.5 = 41.5$, not 40. Whoever multiplies by 4 shifts all keypoints by 1.5 pixels to the upper left.
# Averaging with the mirrored picture (flip test) hides that for x, but not for y.

# %% [markdown] lang="zh"
# 若像素中心在整数上，特征图的第 10 个像素覆盖图像的第 40 到 43 个像素，中心是 $(10 + 0.5) \cdot 4 - 0.5 = 41.5$，而不是 40。
# 直接乘以 4，所有关键点都会向左上偏 1.5 个像素。与镜像图像的结果取平均（翻转测试）会在 x 方向掩盖这个偏移，但 y 方向不会。

# %%
picture_row = torch.arange(64.0)[None, None, None]  # each pixel holds its own position
pooled = F.avg_pool2d(picture_row.expand(1, 1, 4, 64), 4)[0, 0, 0]
print(f"  mean position of what pixel 10 covers: {pooled[10].item()}")
