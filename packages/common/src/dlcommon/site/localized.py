"""The site's languages and its own words in them."""

from typing import Literal

from dlcommon.runtime.localization import LocalizedText

SiteLanguage = Literal["en", "zh"]
LANGUAGES: tuple[SiteLanguage, ...] = ("en", "zh")

NAMES = {"en": "English", "zh": "中文"}
SITE_NAME = LocalizedText("Deep-learning portfolio", "深度学习作品集")
HOME = LocalizedText("Home", "首页")
COURSE = LocalizedText("Course", "课程")
DOCUMENTS = LocalizedText("Documents", "文档")
CAPSTONES = LocalizedText("Capstones", "项目")
RESULTS = LocalizedText("Results", "结果")
REFERENCE = LocalizedText("API reference", "API 参考")
PROJECT = LocalizedText("Project", "工程")
FILES = LocalizedText("Files", "文件")
TITLES = {
    "docs/ARCHITECTURE.md": LocalizedText("Architecture", "架构"),
    "CONTRIBUTING.md": LocalizedText("Contributing", "参与贡献"),
    "CHANGELOG.md": LocalizedText("Changelog", "更新日志"),
    "LICENSE": LocalizedText("Licence", "许可证"),
}
"""Of documents whose heading is in English alone."""


def text_in(text: LocalizedText, language: SiteLanguage) -> str:
    return text.zh if language == "zh" else text.en


def part_in(text: str, language: SiteLanguage) -> str:
    """Selects the language's part of `English · 中文`; returns a text without parts whole."""
    parts = text.split(" · ")
    return parts[language == "zh"].strip() if len(parts) == 2 else text
