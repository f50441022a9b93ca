"""The order of resourceVersions. Pure."""


def is_newer(one: str, other: str) -> bool:
    """Whether one resourceVersion is later than another. Values that are not decimal count as later if they differ.

    Source: kubernetes/enhancements keps/sig-api-machinery/5504-comparable-resource-version.
    """
    if one.isdecimal() and other.isdecimal():
        return int(one) > int(other)
    return one != other
