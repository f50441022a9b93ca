"""The order of resourceVersions. Pure."""


def is_newer(one: str, other: str) -> bool:
    """Whether one resourceVersion comes after another. They are decimal; where they are not, any change counts.

    Source: kubernetes/enhancements keps/sig-api-machinery/5504-comparable-resource-version.
    """
    if one.isdecimal() and other.isdecimal():
        return int(one) > int(other)
    return one != other
