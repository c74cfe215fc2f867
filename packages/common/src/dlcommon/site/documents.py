"""The repository's documents as pages: README, documents, capstones' model cards, results and the project's own."""

import re
from pathlib import Path, PurePosixPath

from dlcommon.course import concepts_page, interview
from dlcommon.course.catalogue import Lesson
from dlcommon.course.concepts import all_concepts
from dlcommon.site.localized import TITLES, SiteLanguage, part_in, text_in
from dlcommon.site.markdown import PageText
from dlcommon.site.pages import Pages

HOME = PurePosixPath("README.md")
CONCEPTS, INTERVIEW = PurePosixPath("docs/CONCEPTS.md"), PurePosixPath("docs/INTERVIEW.md")
PROJECT = ("docs/ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
_CHINESE = ".zh-CN.md"


def place_documents(pages: Pages) -> dict[str, list[str]]:
    """Gives each document its page.

    Returns:
        The pages of the sections documents, capstones, results and project.
    """
    found: dict[str, list[PurePosixPath]] = {
        "documents": _markdown(pages.root, "docs/*.md"),
        "capstones": [path for path in _markdown(pages.root, "packages/*/README.md") if path.parts[1] != "common"],
        "results": [PurePosixPath("RESULTS.md")],
        "project": [PurePosixPath(name) for name in PROJECT],
    }
    found["documents"] = [path for path in found["documents"] if str(path) not in PROJECT]
    sections = {}
    for section, paths in found.items():
        sections[section] = [_page(section, path) for path in paths]
        pages.places.update(zip(paths, sections[section], strict=True))
    pages.places[HOME] = "index.md"
    for path in list(pages.places):
        pages.places[path.with_name(path.stem + _CHINESE)] = pages.places[path]
    return sections


def _markdown(root: Path, pattern: str) -> list[PurePosixPath]:
    paths = sorted(path.relative_to(root) for path in root.glob(pattern))
    return [PurePosixPath(path.as_posix()) for path in paths if not path.name.endswith(_CHINESE)]


def _page(section: str, path: PurePosixPath) -> str:
    name = path.parent.name if path.name == "README.md" else path.stem
    return f"{section}/{name.lower().replace('_', '-')}.md"


def write_documents(pages: Pages, lessons: list[Lesson]) -> dict[str, str]:
    """Writes the pages of all documents.

    Returns:
        Their titles in the language of the pages, by page.
    """
    titles = {}
    for path, page in pages.places.items():
        if path.suffix not in (".md", "") or path.name.endswith(_CHINESE) or page.startswith(("api/", "course/")):
            continue
        text = (pages.root / path).read_text(encoding="utf-8")
        translated = pages.root / path.with_name(path.stem + _CHINESE)
        if path.suffix == "":
            text = f"# {path.name}\n\n```text\n{text}\n```\n"
        elif path == INTERVIEW:
            text = interview.render(interview.interview_questions(lessons), pages.language)
        elif path == CONCEPTS:
            text = concepts_page.render(all_concepts(), pages.language)
        elif pages.language == "zh" and translated.is_file():
            text = translated.read_text(encoding="utf-8")
        titles[page] = _title(text, str(path), pages.language)
        text = re.sub(r"^\[(中文|English)\]\(README[^)]*\)\n", "", text, flags=re.MULTILINE)
        wide = "---\nhide: [navigation]\n---\n" if path == HOME else ""  # it has no pages below it
        pages.write(page, wide + PageText(pages.language).render(pages.with_links(text, path, page)))
    return titles


def _title(markdown: str, path: str, language: SiteLanguage) -> str:
    if path in TITLES:
        return text_in(TITLES[path], language)
    heading = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    return part_in(heading[1], language) if heading else PurePosixPath(path).stem
