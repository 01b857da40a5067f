"""SOAP 1.1 as WCF services speak it: ordered members out, hardened XML in.

A request is nested pairs in the order of the service's schema, since WCF silently drops what comes out of order. An answer is
read without DTDs, entities, network or huge trees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lxml import etree

from medbill.errors import PlatformError

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
CONTENT_TYPE = "text/xml; charset=utf-8"
#: Name and content, in the order of the schema; content None leaves the member out, "" sends it empty.
Members = Sequence[tuple[str, "str | Members | None"]]
# what XML 1.0 cannot carry
_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def envelope(namespace: str, operation: str, request: Members) -> bytes:
    """An operation with its one parameter `request`."""
    root = etree.Element(f"{{{ENVELOPE}}}Envelope", nsmap={"soap": ENVELOPE, "kar": namespace})
    body = etree.SubElement(root, f"{{{ENVELOPE}}}Body")
    _fill(etree.SubElement(body, f"{{{namespace}}}{operation}"), namespace, [("request", request)])
    return bytes(etree.tostring(root, encoding="utf-8", xml_declaration=True))


def _fill(parent: Any, namespace: str, members: Members) -> None:
    for name, content in members:
        if content is None:
            continue
        child = etree.SubElement(parent, f"{{{namespace}}}{name}")
        if isinstance(content, str):
            child.text = _NOT_XML.sub(" ", content)
        else:
            _fill(child, namespace, content)


def document(label: str, content: bytes) -> Any:
    """The root of an XML document from outside.

    Raises PlatformError PLATFORM_BAD_ANSWER where the bytes are no XML, or declare a document type.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None or root.getroottree().docinfo.doctype:
        raise PlatformError(f"{label} did not answer with XML", code="PLATFORM_BAD_ANSWER")
    return root


def body(label: str, content: bytes) -> Any:
    """The first element of an answer's body, which may be a Fault.

    Raises PlatformError PLATFORM_BAD_ANSWER where the bytes are no SOAP envelope, or declare a document type.
    """
    root = document(label, content)
    found = root.find(f"{{{ENVELOPE}}}Body")
    if root.tag != f"{{{ENVELOPE}}}Envelope" or found is None or len(found) == 0:
        raise PlatformError(f"{label} did not answer with a SOAP envelope", code="PLATFORM_BAD_ANSWER")
    return found[0]


def name(element: Any) -> str:
    """An element's name without its namespace: vendors use several for the same members."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def text(parent: Any, path: str) -> str:
    """The text at a path of names below an element; "" where there is none."""
    for step in path.split("/"):
        parent = next((child for child in parent if name(child) == step), None) if parent is not None else None
    return (parent.text or "").strip() if parent is not None else ""


def all_named(parent: Any, wanted: str) -> Iterator[Any]:
    """Every element of that name below, in document order."""
    return (element for element in parent.iter() if name(element) == wanted)


def members(element: Any) -> dict[str, str]:
    """The plain members of a record; nested ones are left out, and so are nil ones."""
    return {name(child): (child.text or "").strip() for child in element if len(child) == 0 and name(child)}
