"""Reads a page as a browser would, without one."""

import html.parser


class Page(html.parser.HTMLParser):
    """Collects what a page shows and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.images, self.alt_texts, self.fetched, self.text = 0, [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.images += tag == "img" and values["src"].startswith("data:image/png;base64,")
        self.alt_texts += [values.get("alt")] if tag == "img" else []
        self.fetched += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]

    def handle_data(self, data):
        self.text += data
