"""HTML as a browser or a screen reader finds it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "source", "br", "link"}
HOSTILE = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;|`*_[x](http://evil)"


class Page(HTMLParser):
    """Tags with their attributes, and the text; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def check_harmless(self):
        """No script, nothing from elsewhere, nothing that an attribute could run."""
        assert not {"script", "link", "iframe", "form", "a"} & {tag for tag, _ in self.tags}
        attributes = [pair for _, attributes in self.tags for pair in attributes.items()]
        assert not [name for name, _ in attributes if name.startswith("on") or name == "href"]
        assert all(value.startswith("data:image/") for name, value in attributes if name in ("src", "srcset"))
        assert not [value for name, value in attributes if name == "style" and ("url(" in value or "<" in value)]
