"""Builds the site: runs the lessons that have changed, writes the pages of both languages, renders and checks them."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlcommon.course.catalogue import Lesson
from dlcommon.course.plan import PHASES
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import whole_folder, write_bytes
from dlcommon.runtime.output import Output
from dlcommon.site import localized
from dlcommon.site.documents import place_documents, write_documents
from dlcommon.site.formulas import characters_of, write_font
from dlcommon.site.generator import (
    FONT,
    STYLES,
    THEME,
    Navigation,
    Project,
    generate,
    make_offline,
    write_configuration,
)
from dlcommon.site.lesson_pages import page_of, write_course, write_lesson
from dlcommon.site.lesson_runs import is_current, run_lessons, stored_run
from dlcommon.site.links import link_problems
from dlcommon.site.localized import LANGUAGES, SiteLanguage, text_in
from dlcommon.site.pages import Pages
from dlcommon.site.reference import INDEX, by_package, place_reference, write_reference


@dataclass(frozen=True)
class Contents:
    lessons: list[Lesson]
    modules: dict[str, Path]
    """Those in the API reference, by name."""


def build_site(root: Path, contents: Contents, work: Path, site: Path, run: bool, output: Output) -> int:
    """Builds the site and returns its number of pages; an earlier one is replaced only when all is well.

    Args:
        root: the repository.
        contents: what it holds besides the documents.
        work: folder for what the next build uses again.
        site: the site's folder.
        run: runs lessons whose stored output is missing or out of date; without, pages show what is stored.
        output: says what is done.

    Raises:
        UserError: a lesson fails, a link is broken, or a page cannot be rendered.
    """
    runs = work / "lessons"
    if run:
        run_lessons([lesson for lesson in contents.lessons if not is_current(lesson, runs)], runs, output)
    projects = [Project(work / language, language) for language in LANGUAGES]
    for project in projects:
        write_pages(root, contents, runs, project)
    output.say("rendering")
    generate(projects)
    with whole_folder(site) as target:
        for project in projects:
            make_offline(project.html)
            shutil.copytree(project.html, target / project.language, ignore=shutil.ignore_patterns(".lock"))
        for lesson in contents.lessons:
            if run_of_lesson := stored_run(lesson, runs):
                figures = target / "figures" / lesson.name
                shutil.copytree(run_of_lesson.folder, figures, ignore=shutil.ignore_patterns("*.json"))
        shutil.copyfile(THEME / "index.html", target / "index.html")
        (target / ".nojekyll").touch()
        problems = link_problems(target)
        if problems:
            raise UserError("the site has broken links:\n" + "\n".join(problems[:50]))
    return len(list(site.rglob("*.html")))


def write_pages(root: Path, contents: Contents, runs: Path, project: Project) -> None:
    """Writes the pages of one language, as Markdown, and the generator's configuration.

    Raises:
        UserError: a link leads to no file, or a formula cannot be converted.
    """
    shutil.rmtree(project.folder, ignore_errors=True)
    pages = Pages(root, project.pages, project.language)
    sections = place_documents(pages)
    place_reference(pages, contents.modules)
    for lesson in contents.lessons:
        pages.places[lesson.path.relative_to(root)] = page_of(lesson)  # type: ignore[index]
    titles = write_documents(pages, contents.lessons)
    for lesson in contents.lessons:
        write_lesson(pages, lesson, stored_run(lesson, runs))
    write_course(pages, contents.lessons)
    write_reference(pages, contents.modules)
    characters = set().union(*(characters_of(path.read_text("utf-8")) for path in project.pages.rglob("*.md")))
    write_font(project.pages / FONT, characters)
    write_bytes(project.pages / STYLES, (THEME / "site.css").read_bytes())
    navigation = _navigation(project.language, contents, sections, titles)
    write_configuration(project, navigation, root / "packages" / "common" / "src")


def _navigation(
    language: SiteLanguage, contents: Contents, sections: dict[str, list[str]], titles: dict[str, str]
) -> Navigation:
    def documents(pages: Iterable[str]) -> Navigation:
        return [{titles[page]: page} for page in pages]

    course: list[object] = ["course/index.md"]
    for phase in PHASES:
        lessons = [lesson for lesson in contents.lessons if lesson.phase is phase]
        if lessons:
            below = [{f"{lesson.key[3:]} {text_in(lesson.title, language)}": page_of(lesson)} for lesson in lessons]
            course.append({f"{phase.number} · {text_in(phase.title, language)}": below})
    reference: list[object] = [INDEX]
    for package, names in by_package(contents.modules).items():
        reference.append({package: [{name.removeprefix(f"{package}."): f"api/{name}.md"} for name in names]})
    return [
        {text_in(localized.HOME, language): "index.md"},
        {text_in(localized.COURSE, language): course},
        {text_in(localized.DOCUMENTS, language): documents(sections["documents"])},
        {text_in(localized.CAPSTONES, language): documents(sections["capstones"])},
        {text_in(localized.RESULTS, language): sections["results"][0]},
        {text_in(localized.REFERENCE, language): reference},
        {text_in(localized.PROJECT, language): documents(sections["project"])},
    ]
