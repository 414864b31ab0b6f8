from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.errors import FormatError, LimitError
from hvmctx.limits import Limits
from hvmctx.stream.libvirt import config_of, places, text_of, written, xml_of, xml_to_bytes
from hvmctx.stream.places import place_of, replaced
from tests.builders.wrappers import XML

TEXTS = st.text(
    st.characters(
        codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"
    ),
    max_size=20,
)


@given(TEXTS, TEXTS)
def test_what_is_put_there_is_read(text: str, attribute: str) -> None:
    xml = replaced(XML, place_of(places(XML), "name", ""), text, written)
    xml = replaced(xml, place_of(places(xml), "vcpu@placement", ""), attribute, written)
    found = {place.path: place.value for place in places(xml)}
    assert (found["name"], found["vcpu@placement"]) == (text, attribute)
    others = {place.path: place.value for place in places(XML)}
    assert {**found, "name": "web one", "vcpu@placement": "static"} == others


@given(st.lists(st.sampled_from([*b"<>/='\" a&;!-["])).map(bytes) | st.binary())
def test_any_bytes_are_xml_or_one_error(text: bytes) -> None:
    for start in (b"", b"<domain>"):
        try:
            places(start + text)
        except FormatError as error:
            assert 0 <= error.offset <= len(start + text) and "the domain's XML" in str(error)


def test_places() -> None:
    found = {place.path: XML[place.start : place.end].decode() for place in places(XML)}
    assert found["@type"] == "xen" and found["os.type"] == "hvm" and found["vcpu"] == "2"
    assert found["devices.disk.target@dev"] == "xvda"
    assert found["devices.disk[1].target@bus"] == "xen"
    assert "devices" not in found and "os" not in found and "devices.disk.target" not in found
    odd = b"<domain  a = '>'><b c=\"/\" /><d><![CDATA[x]]>&amp;<!-- y --></d><e>f<g/></e></domain >"
    values = [(place.path, place.value) for place in places(odd)]
    assert values == [("@a", ">"), ("b@c", "/"), ("d", "x&")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not well-formed: found no element found"),
        (b"<domain>", "not well-formed"), (b"<domain/>x", "not well-formed"),
        (b"<domain>&a;</domain>", "not well-formed: found undefined entity"),
        (b"<domain>\xff</domain>", "not well-formed"),
        (b"<network/>", "not that of a domain: found <network>, expected <domain>"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><domain>&b;</domain>', "it declares a document type"),
        (b'<!DOCTYPE domain SYSTEM "http://127.0.0.1/x.dtd"><domain/>', "it declares a document"),
    ],
)  # fmt: skip
def test_what_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        places(text)
    assert (caught.value.layer, caught.value.record) == ("libvirt", "XML")


def test_entities_grow_into_nothing() -> None:
    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<!DOCTYPE d [<!ENTITY a0 "ha">{bomb}]><domain>&a11;</domain>'.encode()
    with pytest.raises(FormatError, match="declares a document type"):
        places(text)


def test_limits() -> None:
    with pytest.raises(LimitError, match="rows=N"):
        places(b"<domain>" + b"<a b='c'/>" * 9 + b"</domain>", Limits(rows=10))
    with pytest.raises(LimitError, match="json_depth=N"):
        places(b"<domain>" + b"<a>" * 500_000)
    long = b"<domain><" + b"a" * 5000 + b">" + b"<b>1</b>" * 3 + b"</" + b"a" * 5000 + b"></domain>"
    assert places(long) == []


def test_up_to_the_nul() -> None:
    assert text_of(b"<domain/>\0junk") == b"<domain/>" == text_of(b"<domain/>")
    assert xml_to_bytes(b"a") == xml_to_bytes(b"a\0") == b"a\0"


def test_in_the_words_of_xl() -> None:
    config = config_of(places(XML))
    assert config == {
        "c_info": {
            "type": "hvm", "name": "web one", "uuid": "434d1235-c58b-99f4-f652-c79d57e50719",
        },
        "b_info": {
            "max_vcpus": 2, "avail_vcpus": [0], "max_memkb": 16384, "target_memkb": 8192,
        },
    }  # fmt: skip
    online = {**config["b_info"], "avail_vcpus": [0, 1]}  # type: ignore[dict-item]
    assert config_of(places(xml_of(config))) == {**config, "b_info": online}
    assert config_of(places(xml_of(None)))["c_info"] == {
        "type": "hvm", "name": "restored", "uuid": None,
    }  # fmt: skip
    odd = (b"<domain><os><type>xenpvh</type></os><memory unit='furlong'>5</memory><vcpu>many</vcpu>"
           b"<features><hap state='off'/></features></domain>")  # fmt: skip
    assert config_of(places(odd)) == {
        "c_info": {"type": "pvh", "name": None, "uuid": None, "hap": False},
        "b_info": {
            "max_vcpus": None, "avail_vcpus": None, "max_memkb": None, "target_memkb": None,
        },
    }  # fmt: skip


@given(TEXTS)
def test_any_name_stands_in_the_least_xml(name: str) -> None:
    said = config_of(places(xml_of({"c_info": {"name": name, "uuid": name}})))["c_info"]
    assert isinstance(said, dict) and said["name"] == name.strip()
