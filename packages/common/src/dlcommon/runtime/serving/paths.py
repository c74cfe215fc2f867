"""Paths of the REST API, and which of them need no token or stay open while the server stops."""

PREDICT, STREAM, MODEL, MODELS = "/v1/predict", "/v1/stream", "/v1/model", "/v1/models"
CHAT = "/v1/chat/completions"
"""OpenAI's, where a service speaks its protocol."""
METRICS, HEALTH, READY = "/metrics", "/healthz", "/readyz"
LOGIN = "/login"
KNOWN = (PREDICT, STREAM, CHAT, MODEL, MODELS, METRICS, HEALTH, READY, "/docs", "/openapi.json", LOGIN, "/")
WITHOUT_TOKEN = (HEALTH, READY, LOGIN)
WHILE_STOPPING = (HEALTH, READY, METRICS)
PAGE_RESULTS, PAGE_HEARTBEAT = "/gradio_api/queue/data", "/gradio_api/heartbeat/"
"""Where the page waits for its events' results, and where it keeps a connection open as long as it is shown."""
_OF_THE_PAGE = ("/gradio_api/", "/assets/", "/static/", "/svelte/")


def metric_label(path: str) -> str:
    """Returns the path as a metric's label: one of a few, whatever a client asks for."""
    if path in KNOWN:
        return path
    return "demo" if path.startswith(_OF_THE_PAGE) else "other"
