# %% [markdown]
# # Grad-CAM · 类激活热图
#
# Which part of the picture spoke for this class? A convolutional network's last maps still know where things are; only
# the pooling behind them forgets it. Grad-CAM weighs each map by the gradient of the class's score, averaged over
# places, and adds them up: relu(Σ w_k A_k). No change to the network, one backward pass. It is the first thing to look
# at when a model is right for a wrong reason.
#
# The lesson derives it twice: on a network that ends in global pooling it is the class activation map, and Grad-CAM++
# is what the third derivatives of its paper say. Then it is put to a test with a known answer: four real images in one
# mosaic. Asked for the class of one, how much of the heat lies on the right quarter? A picture of heat looks
# convincing with any network, so the same is asked of one with random weights.
#
# 图像的哪一部分支持了这个类别？卷积网络最后的特征图仍然保留着位置，只有其后的池化才把位置丢掉。
# Grad-CAM 用类别得分对每张特征图的平均梯度作为权重，再相加取正：relu(Σ w_k A_k)。无需改动网络，只要一次反向传播。
# 本课先从两方面验证公式：对全局池化网络，它就是类激活图；Grad-CAM++ 与论文中的三阶导数定义一致。
# 再做一个有标准答案的测验：把四张不同类别的真实图像拼成一张，问其中一个类别时，热量有多少落在正确的那一格？
# 随机权重的网络作为对照，因为热图看起来总是很有说服力。

# %%
from collections import OrderedDict

import matplotlib.pyplot as plt
import torch
from dlcommon.cnn.comparison import accuracy, fit, sample
from dlcommon.cnn.grad_cam import class_activation_maps, grad_cam, grad_cam_plus_plus, to_heatmap
from dlcommon.cnn.residual import BasicBlock, convolution, make_stage
from dlcommon.course.lesson import check, check_close, data, show, table
from torch import nn

pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 3000, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)


# %%
def network(seed):
    """A small residual network; global average pooling, so that it takes images of any size."""
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(convolution(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
            stage1=make_stage(BasicBlock, 16, 32, 1, stride=2),
            stage2=make_stage(BasicBlock, 32, 64, 1, stride=2),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(64, 10),
        )
    )


trained, untrained = network(0), network(1).eval()
fit(trained, images, labels, epochs=4)
print(f"  test accuracy: {accuracy(trained, tests, test_labels):.1%}")

# %% [markdown]
# ## Where it comes from: the class activation map · 来源：类激活图
#
# Behind global average pooling, the logit is the mean over places of the last linear layer applied at each place, plus
# the bias. Those values before the mean are the class activation map (Zhou et al. 2016). The gradient of the logit to
# map k is w_k / places everywhere, so Grad-CAM there is relu(CAM) / places. 对全局平均池化的网络，两者只差一个常数。

# %%
exact = network(2).double().eval()
exact.load_state_dict(trained.state_dict())
few, asked = tests[:8].double(), test_labels[:8]
with torch.no_grad():
    features = exact.stage2(exact.stage1(exact.stem(few)))  # [8, 64, 4, 4]
    activation_maps = class_activation_maps(features, exact.fc.weight)  # [8, 10, 4, 4]
    logits = exact(few)
of_class = activation_maps[torch.arange(8), asked]
ours = grad_cam(exact, "stage2", few, asked)

# %% [markdown]
# ## Grad-CAM++ by its definition · 按定义计算 Grad-CAM++
#
# The paper weighs each place by second and third derivatives of Y = exp(score) to that place's activation, which for
# a network of straight lines become powers of the first. Here they are taken honestly, by differentiating three times,
# at an earlier layer, so that a whole residual stage lies behind it, for each of the 512 activations that the
# middle of an image has there. 直接求三阶导数，与化简后的公式对照。

# %%
middle = few[:1, :, 4:12, 4:12]
after_stage1 = exact.stage1(exact.stem(middle)).detach()  # [1, 32, 4, 4]
scale = exact(middle)[0, asked[0]].detach()


def derivatives(direction):
    """First, second and third of Y along one activation, Y scaled to 1 at the image."""

    def score(t):
        behind = exact.stage2(after_stage1 + t * direction).mean(dim=(2, 3))
        return (exact.fc(behind)[0, asked[0]] - scale).exp()

    first = torch.func.grad(score)
    second = torch.func.grad(first)
    at = torch.zeros((), dtype=torch.float64)
    return first(at), second(at), torch.func.grad(second)(at)


activations = torch.eye(after_stage1.numel(), dtype=torch.float64).view(-1, *after_stage1.shape)
first, second, third = (d.view(32, 4, 4) for d in torch.vmap(derivatives)(activations))
below = 2 * second + third * after_stage1[0].sum(dim=(1, 2), keepdim=True)
alpha = torch.where(below != 0, second / below, 0.0)
weights = (alpha * first.clamp(min=0)).sum(dim=(1, 2))
by_definition = torch.einsum("k,khw->hw", weights, after_stage1[0]).clamp(min=0)
plus_plus = grad_cam_plus_plus(exact, "stage1", middle, asked[:1])[0]

# %% [markdown]
# ## A test with a known answer · 有标准答案的测验
#
# Mosaics of two by two test images of four classes that the network gets right. Each of the four classes is asked
# about; the score is the share of the map that lies in the right quarter, 25 % by chance (the grid pointing game of
# Böhle et al. 2021, https://arxiv.org/abs/2104.00032). 拼图测验：随机猜测的得分是 25%。

# %%
with torch.no_grad():
    confidence, predicted = trained(tests).softmax(dim=1).max(dim=1)
right = torch.where(predicted == test_labels)[0]
right = right[confidence[right].argsort(descending=True)][:200]
random = torch.Generator().manual_seed(0)
mosaics, quarters = [], []
while len(mosaics) < 60:
    four = right[torch.randperm(len(right), generator=random)[:4]]
    if len(set(test_labels[four].tolist())) == 4:
        a, b, c, d = tests[four]
        mosaics.append(torch.cat([torch.cat([a, b], dim=2), torch.cat([c, d], dim=2)], dim=1))
        quarters.append(test_labels[four])
mosaics, quarters = torch.stack(mosaics), torch.stack(quarters)  # [60, 3, 32, 32], [60, 4]


def saliency(network, images, classes):
    """|∂ score / ∂ pixel|, the largest of the three colours: [batch, height, width] (Simonyan et al. 2014)."""
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).gather(1, classes[:, None]).sum(), x)
    return gradient.abs().amax(dim=1)


def share(maps, quarter):
    """Mean share of the heat in that quarter, over the maps that are not zero everywhere."""
    maps = to_heatmap(maps, 32, 32)
    maps = maps[maps.amax(dim=(1, 2)) > 0]
    row, column = divmod(quarter, 2)
    inside = maps[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
    return (inside.sum(dim=(1, 2)) / maps.sum(dim=(1, 2))).mean().item()


methods = {
    "Grad-CAM, last stage": lambda classes: grad_cam(trained, "stage2", mosaics, classes),
    "Grad-CAM++, last stage": lambda classes: grad_cam_plus_plus(trained, "stage2", mosaics, classes),
    "Grad-CAM, first stage": lambda classes: grad_cam(trained, "stage1", mosaics, classes),
    "Grad-CAM++, first stage": lambda classes: grad_cam_plus_plus(trained, "stage1", mosaics, classes),
    "gradient of the pixels": lambda classes: saliency(trained, mosaics, classes),
    "Grad-CAM, random weights": lambda classes: grad_cam(untrained, "stage2", mosaics, classes),
}
shares = {
    name: sum(share(method(quarters[:, quarter]), quarter) for quarter in range(4)) / 4
    for name, method in methods.items()
}
table(("map", "share in the right quarter"), [(name, f"{value:.0%}") for name, value in shares.items()])

# %% [markdown]
# Grad-CAM++ was made for several objects of one class in a picture. It counts only gradients above zero (Lerma & Lucas
# 2022, https://arxiv.org/abs/2205.10838), so that a map that speaks against the class no longer cools the places where
# another class stands. Here telling classes apart is all that counts, and that costs it most of its lead over chance.
#
# Grad-CAM++ 只保留正梯度，丢掉了“反对”该类别的证据，因此在需要区分类别的拼图测验中反而较差。

# %%
fig = plt.figure(figsize=(14, 6.5), layout="constrained")
left, right_side = fig.subfigures(1, 2, width_ratios=(1.5, 1))
axes = left.subplots(3, 5)
for row, (mosaic, four) in enumerate(zip(mosaics[:3], quarters[:3], strict=True)):
    shown = (mosaic * 64 + 127.5).clamp(0, 255).permute(1, 2, 0).numpy() / 255
    axes[row, 0].imshow(shown)
    axes[row, 0].set_title("mosaic", fontsize=9)
    maps = to_heatmap(grad_cam(trained, "stage2", mosaic.expand(4, -1, -1, -1), four), 32, 32)
    for quarter, axis in enumerate(axes[row, 1:]):
        axis.imshow(shown.mean(axis=2), cmap="gray")
        axis.imshow(maps[quarter].numpy(), cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        place = ("top left", "top right", "bottom left", "bottom right")[quarter]
        axis.set_title(f"{pictures.classes[four[quarter]]}?\n({place})", fontsize=9)
for axis in axes.flat:
    axis.axis("off")
left.suptitle("One mosaic, four questions: Grad-CAM of the last stage")
axis = right_side.subplots()
colours = ["tab:red" if "random" in name else "tab:blue" for name in shares]
axis.barh(list(shares), [100 * value for value in shares.values()], color=colours)
axis.axvline(25, color="black", linestyle="--", label="chance")
axis.invert_yaxis()
axis.set(xlabel="heat in the right quarter, %", title="How much of the heat is in the right place")
axis.legend(loc="lower right")
show(fig, "mosaics")

# %% [markdown]
# ## What holds · 结论

# %%
check_close(
    "the logit is the mean of its class activation map, plus the bias",
    activation_maps.mean(dim=(2, 3)) + exact.fc.bias,
    logits,
    1e-10,
)
check_close("Grad-CAM is the positive part of that map over the places", ours, of_class.clamp(min=0) / 16, 1e-10)
check_close("Grad-CAM++ is what the third derivatives say", plus_plus, by_definition, 1e-8)
last, plus_plus_last, early, _, pixels, random_weights = shares.values()
check("Grad-CAM finds the right one of four images: far more of the heat than by chance", last > 0.38)
check("more than from an early layer, or than the gradient of the pixels", last > max(early, pixels) + 0.05)
check("more than Grad-CAM++, which leaves out what speaks against a class", last > plus_plus_last + 0.05)
check("random weights know nothing of places: near chance", abs(random_weights - 0.25) < 0.08)

# %% [markdown]
# ## The project of this phase · 本阶段的实战项目
#
# Phase 5 ends with CIFAR-10, which the plan asks to be classified with more than 90 % accuracy: a residual network,
# trained from scratch in minutes.
#
# 第 5 阶段以 CIFAR-10 分类收尾，计划要求准确率达到 90% 以上：从零训练一个残差网络，只需几分钟。
#
# ```bash
# uv run --package cifar10-resnet train
# ```
