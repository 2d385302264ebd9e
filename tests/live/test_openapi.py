"""The description of the HTTP interface, and the page made from it."""

import json
from html.parser import HTMLParser

from openapi_spec_validator import OpenAPIV31SpecValidator

from fastcell.live.openapi import describe_api, page_of


class Words(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words = []
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.words.append(data)


def test_the_description_is_valid_and_every_answer_is_described():
    api = describe_api(["a"])
    OpenAPIV31SpecValidator(api).validate()
    assert json.loads(json.dumps(api)) == api
    for verbs in api["paths"].values():
        for operation in verbs.values():
            assert operation["summary"]
            assert all(answer["description"] for answer in operation["responses"].values())


def test_the_page_shows_every_path_and_escapes_what_it_is_told():
    api = describe_api(["<script>alert(1)</script>"])
    parser = Words()
    parser.feed(page_of(api, {"run": "<img src=x onerror=alert(1)>", "<i>": "&"}))
    text = " ".join(parser.words)
    for path in api["paths"]:
        assert path in text
    assert "<img src=x onerror=alert(1)>" in text
    assert not {"script", "img", "i", "style"} & parser.tags
