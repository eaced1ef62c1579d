"""What the server counts, as Prometheus reads it. Each application has a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WebMetrics:
    """Counters of one server. None of them says anything about a person: no emotions, no addresses, no names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("ferkit_requests", "Answers by route and HTTP status.", ["route", "status"], **own)
        self.seconds = Histogram(
            "ferkit_request_seconds", "From the first byte of /v1/predict to its answer.", buckets=_SECONDS, **own
        )
        self.explanations = Counter("ferkit_explanations", "Faces that were explained, by method.", ["method"], **own)
        self.explain_seconds = Histogram(
            "ferkit_explain_seconds", "From the first byte of /v1/explain to its answer.", buckets=_SECONDS, **own
        )
        self.pictures = Counter("ferkit_pictures", "Pictures by outcome: read, unreadable.", ["outcome"], **own)
        self.faces = Counter("ferkit_faces", "Faces found in pictures and frames.", **own)
        self.refusals = Counter("ferkit_refusals", "What was refused, by code.", ["code"], **own)
        self.waiting = Gauge("ferkit_requests_in_progress", "Requests at work or waiting for a worker.", **own)
        self.streams = Gauge("ferkit_streams", "Live streams that are open.", **own)
        self.frames = Counter("ferkit_frames", "Frames by outcome: answered, dropped, unreadable.", ["outcome"], **own)
        self.frame_seconds = Histogram(
            "ferkit_frame_seconds", "From the arrival of a frame to its answer.", buckets=_SECONDS, **own
        )
        for outcome in ("answered", "dropped", "unreadable"):
            self.frames.labels(outcome)  # zero, rather than not there

    def text(self) -> bytes:
        return bytes(generate_latest(self.registry))
