"""Changes Gradio's page so that its scripts find the server where the browser found the page.

Gradio writes the server's address into the page as the server believes it to be. Behind a proxy that tells it another
name, or takes a path off, the page would ask in the wrong place, and stay blank.
"""

from gradio import routes
from jinja2 import ChoiceLoader, DictLoader

NAME = "frontend/index.html"
_FROM_HERE = """<script>
			function fromHere(config) {
				const here = new URL(".", window.location).href.slice(0, -1);
				return config.root ? JSON.parse(JSON.stringify(config).replaceAll(config.root, here)) : config;
			}
		</script>
		"""
_LINKS = '<link rel="manifest" href="./manifest.json" /><link rel="icon" href="./favicon.ico" />'
_CHANGES = (
    (
        "<script>window.gradio_config = {{ config | toorjson }};",
        _FROM_HERE + "<script>window.gradio_config = fromHere({{ config | toorjson }});",
    ),
    ("{{ config.get('root', '') | toorjson }}", "window.gradio_config.root"),
    ('<link rel="manifest" href="/manifest.json" />', _LINKS),
)


def find_server_from_page() -> None:
    """Replaces Gradio's template by one whose addresses are relative to the page.

    Raises:
        RuntimeError: this version of gradio has another template.
    """
    environment = routes.templates.env
    loader = environment.loader
    assert loader is not None
    source, _, _ = loader.get_source(environment, NAME)
    if _FROM_HERE in source:
        return
    for old, new in _CHANGES:
        if source.count(old) != 1:
            raise RuntimeError(f"this version of gradio has another page; {NAME} lacks {old}")
        source = source.replace(old, new)
    environment.loader = ChoiceLoader([DictLoader({NAME: source}), loader])
