"""What every page of a report is: one file that explains itself, with no script and nothing from another host."""

from collections.abc import Iterable
from html import escape
from importlib import resources

# The page cannot load or run anything that is not in the file itself, whatever a class name or a card holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, about: str, sections: Iterable[str]) -> str:
    """A whole page. title: plain text. about: HTML, a sentence below the title. sections: of `parts.section`."""
    style = (resources.files("ferkit.report") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)} - ferkit report</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{about}</p>
</header>
<main>
{body}
</main>
<footer><p>Written by ferkit.</p></footer>
</body>
</html>"""
