"""`docs`: builds the documentation site."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import workspace_root


@dataclass(frozen=True)
class DocsOptions:
    lessons: tuple[str, ...] = ()
    """For a quick look: only these lessons (06/04) or phases (06) and the modules that they import; by default all."""
    run: bool = True
    """Run the lessons that have changed; --no-run shows what is stored of them."""
    output: Path | None = None
    """The site's folder; by default site, beside uv.lock."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


def main(argv: list[str]) -> int:
    """Runs `docs …` and returns the exit code.

    Raises:
        UserError: the workspace or the generator is missing, or the site cannot be built; the message says why.
    """
    description = "Builds the documentation site, in English and Chinese. Lessons run once, until they change."
    options = parse(DocsOptions, argv, "docs", description)
    root = workspace_root()
    if root is None:
        raise UserError("no uv.lock at or above the current directory; run this inside the workspace")

    from dlcommon.course.cli import chosen_lessons
    from dlcommon.site.build import Contents, build_site
    from dlcommon.site.generator import require_generator
    from dlcommon.site.reference import all_modules, imported_modules

    require_generator()
    output, began = Output(options.json), perf_counter()
    lessons, modules = chosen_lessons(options.lessons), all_modules(root)
    if options.lessons:
        modules = imported_modules([lesson.path for lesson in lessons], modules)
    site = (options.output or root / "site").resolve()
    pages = build_site(root, Contents(lessons, modules), root / "build" / "docs", site, options.run, output)
    seconds = perf_counter() - began
    output.say(f"{pages} pages in {seconds:.0f} s; open {site / 'index.html'}")
    output.result({"path": str(site), "pages": pages, "seconds": round(seconds, 1)})
    return 0
