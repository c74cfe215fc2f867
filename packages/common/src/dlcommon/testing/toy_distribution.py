"""Writes an installed distribution that brings its own data sets and assets as entry points."""

from pathlib import Path


def write_distribution(site: Path, name: str, modules: dict[str, str], entry_points: dict[str, dict[str, str]]) -> Path:
    """Writes what an installer leaves of a package: its modules and its metadata.

    Args:
        site: a folder that the test puts on `sys.path`.
        name: of the distribution.
        modules: source text by module name.
        entry_points: `module:attribute` by entry point name, by group.

    Returns:
        `site`.
    """
    information = site / f"{name.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text, encoding="utf-8")
    return site
