"""The syntax of names, labels and keys, with the real server's texts.

Place in the chain: the validation rules use it. Each function returns a list of error texts, empty if valid.
Source: kubernetes/apimachinery pkg/util/validation.
"""

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_C_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_C_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric "
    "characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is "
    "'[A-Za-z_][A-Za-z0-9_]*')"
)


def label_complaints(name: str) -> list[str]:
    """Errors of a DNS label (`gpu-0`)."""
    dotted = "must not contain dots" if _SUBDOMAIN.fullmatch(name) else _LABEL_TEXT
    return _checked(name, 63, _LABEL, dotted)


def subdomain_complaints(name: str) -> list[str]:
    """Errors of a DNS subdomain (`gpu.vitals.internal`)."""
    return _checked(name, 253, _SUBDOMAIN, _SUBDOMAIN_TEXT)


def path_segment_complaints(name: str) -> list[str]:
    """Errors of a name that only has to fit into a path (events)."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{letter}'" for letter in "/%" if letter in name]


def c_identifier_complaints(name: str) -> list[str]:
    """Errors of a C identifier (`xidErrors`)."""
    return [] if _C_IDENTIFIER.fullmatch(name) else [_C_IDENTIFIER_TEXT]


def qualified_name_complaints(key: str) -> list[str]:
    """Errors of a label key, with or without a DNS prefix (`example.com/role`)."""
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return [
            f"a qualified name {_QUALIFIED_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    complaints = []
    if slash and not prefix:
        complaints.append("prefix part must be non-empty")
    elif slash:
        complaints += [f"prefix part {text}" for text in subdomain_complaints(prefix)]
    if not name:
        complaints.append("name part must be non-empty")
    elif len(name) > 63:
        complaints.append("name part must be no more than 63 bytes")
    if not _QUALIFIED.fullmatch(name):
        complaints.append(_QUALIFIED_TEXT)
    return complaints


def label_value_complaints(value: str) -> list[str]:
    """Errors of the value of a label."""
    complaints = ["must be no more than 63 bytes"] if len(value) > 63 else []
    if value and not _QUALIFIED.fullmatch(value):
        complaints.append(_LABEL_VALUE_TEXT)
    return complaints


def _checked(name: str, limit: int, pattern: re.Pattern[str], text: str) -> list[str]:
    complaints = [f"must be no more than {limit} characters"] if len(name) > limit else []
    if not pattern.fullmatch(name):
        complaints.append(text)
    return complaints
