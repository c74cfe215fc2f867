# %% [markdown]
# # Data augmentation · 数据增强
#
# A network that has seen a digit once knows that one picture. Shown it shifted, turned and bent, it learns what does
# not matter, which is the cheapest regularization there is. Which changes keep the label is knowledge about the task:
# a mirrored cat is a cat, a mirrored 3 is nothing.
#
# Libraries augment image by image. The modules here (augmentation, colour, mixing, rand_augment in
# dlcommon/pytorch_core) work on whole batches with a strength for each image, take all randomness from a generator
# that is given, and agree with torchvision. This lesson looks at them, compares and times them, and measures what
# augmentation is worth where it matters most: with few training samples.
#
# 只见过一次某个数字的网络，认识的只是那一张图片。把它平移、旋转、弯曲之后再给网络看，网络就学会了什么是无关紧要的，
# 这是最便宜的正则化。哪些变化不改变标签，则取决于任务：镜像的猫还是猫，镜像的 3 却什么都不是。
#
# 常见的库逐张处理图片；这里的模块整批处理，每张图片有自己的强度，随机性全部来自传入的生成器，结果与 torchvision 一致。
# 本课先看效果，再对照与计时，最后在样本很少的情形下测量增强的价值。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.pytorch_core import color
from dlcommon.pytorch_core.augmentation import cutout, pad_reflect, random_affine, random_crop, random_horizontal_flip
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.mixing import blend, cutmix, mixup, one_hot
from dlcommon.pytorch_core.optimizers import AdamW
from dlcommon.pytorch_core.rand_augment import OPERATIONS, rand_augment
from sklearn.datasets import load_sample_images
from torch import nn
from torchvision.transforms import InterpolationMode, v2

# %% [markdown]
# ## Two photographs, many pictures · 两张照片，许多图片
#
# The photographs ship with scikit-learn. Each row of the figure is one batch of eight copies, augmented by one call.
# 每一行都是一次调用的结果。

# %%
china, flower = (torch.tensor(photo).permute(2, 0, 1) for photo in load_sample_images().images)
squares = torch.stack([china[:, 20:420, 60:460], flower[:, 0:400, 120:520]]).float() / 255
photos = nn.functional.interpolate(squares, size=128, mode="area")  # [2, 3, 128, 128]
batch = photos.repeat(4, 1, 1, 1)  # china, flower, china, …


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


targets = one_hot(torch.tensor([0, 1] * 4), 2)
rows = {
    "flip": random_horizontal_flip(batch, generator()),
    "crop": random_crop(pad_reflect(batch, 24), 128, generator()),
    "cutout": cutout(batch, 48, generator(), fill=0.5),
    "affine": random_affine(batch, generator(), degrees=25, translate=0.1, scale=0.2, shear=0.2),
    "jitter": color.color_jitter(batch, generator(), 0.4, 0.4, 0.6, 0.1),
    "RandAugment": rand_augment(batch, generator(3), num_ops=2, magnitude=12),
    "mixup": mixup(batch, targets, generator(), alpha=1.0)[0],
    "CutMix": cutmix(batch, targets, generator(1), alpha=1.0)[0],
}
figure, axes = plt.subplots(len(rows), 8, figsize=(10, 10.4))
for line, (name, images) in zip(axes, rows.items(), strict=True):
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy())
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, fontsize=9)
figure.suptitle("One call augments a whole batch, each image differently", y=0.91)
figure.subplots_adjust(wspace=0.05, hspace=0.05)
show(figure, "augmentations")

# %% [markdown]
# ## Equal to torchvision · 与 torchvision 一致
#
# Each image of the batch against torchvision's function with that image's own strength. 逐张对照。

# %%
factor, turn = torch.linspace(0.2, 1.9, 8), torch.linspace(-0.5, 0.5, 8)
reference = v2.functional
adjusted = {
    "brightness": (color.adjust_brightness, reference.adjust_brightness, factor),
    "contrast": (color.adjust_contrast, reference.adjust_contrast, factor),
    "saturation": (color.adjust_saturation, reference.adjust_saturation, factor),
    "sharpness": (color.adjust_sharpness, reference.adjust_sharpness, factor),
    "hue": (color.adjust_hue, reference.adjust_hue, turn),
}
largest = {
    name: max(
        (o - theirs(image, s)).abs().max().item()
        for o, image, s in zip(ours(batch, strength), batch, strength.tolist(), strict=True)
    )
    for name, (ours, theirs, strength) in adjusted.items()
}
their_rand_augment = v2.RandAugment(interpolation=InterpolationMode.BILINEAR)
for name, operation in OPERATIONS.items():
    magnitudes, _ = their_rand_augment._AUGMENTATION_SPACE[name]
    strengths = magnitudes(31, 128, 128)
    strength = 0.0 if strengths is None else float(strengths[12])
    theirs = their_rand_augment._apply_image_or_video_transform(
        batch, name, strength, InterpolationMode.BILINEAR, their_rand_augment._fill
    )
    largest[f"RandAugment: {name}"] = (operation(batch, torch.full((8,), 12 / 30)) - theirs).abs().max().item()
table(["operation", "largest difference from torchvision"], largest.items())

# %% [markdown]
# ## Mixed images need mixed targets · 混合图像需要混合标签
#
# Mixup takes weighted sums, CutMix pastes a box and weighs by its area. Cross-entropy is linear in the target, so the
# loss against the mixed target is the mixture of both losses. 交叉熵对目标是线性的。

# %%
mixed, mixed_targets = cutmix(batch, targets, generator(1), alpha=1.0)
changed = (mixed != batch).any(dim=1).flatten(1).float().mean(dim=1)  # share of pixels that came from the partner
logits, share = torch.randn(8, 2, generator=generator()), torch.rand(8, generator=generator(1))
soft_loss = cross_entropy(logits, blend(targets, share), reduction="none")
two_losses = [cross_entropy(logits, labels.argmax(1), reduction="none") for labels in (targets, targets.roll(1, 0))]

# %% [markdown]
# ## What whole batches save · 整批处理省下多少
#
# RandAugment over 256 pictures of 32×32: torchvision image by image, as a dataset's transform is called, and one call.
# (Times depend on what else the machine does, so the lesson prints this one and checks nothing. 计时只打印，不作检查。)

# %%
small = torch.rand(256, 3, 32, 32, generator=generator())
small_bytes = (255 * small).to(torch.uint8)
each = v2.RandAugment(num_ops=2, magnitude=12)
image_by_image = seconds(lambda: [each(image) for image in small_bytes], 2)
whole_batch = seconds(lambda: rand_augment(small, generator(), 2, 12), 2)
table(
    ["RandAugment", "images a second"],
    [("image by image", f"{256 / image_by_image:,.0f}"), ("whole batch", f"{256 / whole_batch:,.0f}")],
)

# %% [markdown]
# ## What it is worth with 300 digits · 只有 300 个样本时的价值
#
# The same network, seed and number of steps on 300 real digits; only what it is shown differs. Mirroring is a wrong
# assumption about digits, and costs. Not all that helps a long training pays in 250 steps: see mixup.
# 错误的假设（镜像）反而有害；训练很短时，mixup 也未必划算。

# %%
digits = data("mnist", "mnist-sample")
few = torch.from_numpy(digits.train_images[:300]).permute(0, 3, 1, 2).float() / 255
few_targets = one_hot(torch.from_numpy(digits.train_labels[:300]), 10)
tests = torch.from_numpy(digits.test_images[:1000]).permute(0, 3, 1, 2).float() / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])


def affine(images, targets, g):
    return random_affine(images, g, degrees=12, translate=0.08, scale=0.12, shear=0.15), targets


treatments = {
    "nothing": lambda images, targets, g: (images, targets),
    "flip (wrong for digits)": lambda images, targets, g: (random_horizontal_flip(images, g), targets),
    "mixup": lambda images, targets, g: mixup(images, targets, g, alpha=0.4),
    "affine": affine,
    "affine + mixup": lambda images, targets, g: mixup(*affine(images, targets, g), g, alpha=0.2),
}


def accuracy_after_training(treatment, steps: int = 250) -> float:
    g = generator(5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    for layer in (network[1], network[3]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=g)
        nn.init.zeros_(layer.bias)
    optimizer = AdamW(network.parameters(), lr=2e-3)
    for _ in range(steps):
        chosen = torch.randint(300, (100,), generator=g)
        images, soft = treatment(few[chosen], few_targets[chosen], g)
        optimizer.zero_grad()
        cross_entropy(network(images), soft).backward()
        optimizer.step()
    with torch.no_grad():
        return (network(tests).argmax(1) == test_labels).float().mean().item()


accuracies = {name: accuracy_after_training(treatment) for name, treatment in treatments.items()}
table(["shown to the network", "accuracy on 1,000 test digits"], accuracies.items())

figure, axis = plt.subplots(figsize=(7.5, 3))
colours = ["tab:red" if value < accuracies["nothing"] - 0.005 else "tab:blue" for value in accuracies.values()]
axis.barh(list(accuracies), [100 * value for value in accuracies.values()], color=colours)
axis.axvline(100 * accuracies["nothing"], color="black", linestyle=":")
axis.set(xlim=(60, 100), xlabel="% of 1,000 test digits right")
axis.set_title("Trained on 300 digits: what is shown to the network decides")
axis.invert_yaxis()
show(figure, "worth")

# %% [markdown]
# ## What holds · 结论

# %%
check(
    "colour operations and all fourteen of RandAugment are torchvision's",
    max(largest.values()) < 5e-5 and len(OPERATIONS) == 14,
)
check_close("CutMix weighs the targets by area", (mixed_targets * targets).sum(1), 1 - changed, 0.01)
check_close(
    "the loss of a mixed target is the mixture of the losses",
    soft_loss,
    share * two_losses[0] + (1 - share) * two_losses[1],
)
check("the generator alone decides", torch.equal(rand_augment(batch, generator(3), 2, 12), rows["RandAugment"]))
check(
    "affine augmentation is worth two points and more with 300 digits",
    accuracies["affine"] > accuracies["nothing"] + 0.02,
)
check("mirroring digits costs accuracy", accuracies["flip (wrong for digits)"] < accuracies["nothing"])
