"""Paths of the REST API, and which of them need no token or stay open while the server stops."""

PREDICT, STREAM, MODEL, MODELS = "/v1/predict", "/v1/stream", "/v1/model", "/v1/models"
CHAT = "/v1/chat/completions"
"""OpenAI's, where a service speaks its protocol."""
METRICS, HEALTH, READY = "/metrics", "/healthz", "/readyz"
LOGIN = "/login"
KNOWN = (PREDICT, STREAM, CHAT, MODEL, MODELS, METRICS, HEALTH, READY, "/docs", "/openapi.json", LOGIN, "/")
WITHOUT_TOKEN = (HEALTH, READY, LOGIN)
WHILE_STOPPING = (HEALTH, READY, METRICS)
PAGE_JOIN, PAGE_RESULTS = "/gradio_api/queue/join", "/gradio_api/queue/data"
"""Where the page sends its events, and where it waits for their results."""
PAGE_HEARTBEAT, PAGE_UPLOADS = "/gradio_api/heartbeat/", "/gradio_api/upload_progress"
"""Where it keeps a connection open as long as it is shown, and while it uploads."""
_OF_THE_PAGE = ("/gradio_api/", "/assets/", "/static/", "/svelte/")


def is_lasting(path: str) -> bool:
    """Says whether a page may keep a request open for hours."""
    return path.startswith((PAGE_HEARTBEAT, PAGE_UPLOADS, PAGE_RESULTS))


def metric_label(path: str) -> str:
    """Returns the path as a metric's label: one of a few, whatever a client asks for."""
    if path in KNOWN:
        return path
    return "demo" if path.startswith(_OF_THE_PAGE) else "other"
