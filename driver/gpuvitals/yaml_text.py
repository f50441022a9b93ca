"""Parses YAML that others wrote, with one kind of error."""

import yaml


def yaml_documents(text: str) -> list[object]:
    """The documents of a YAML text. Raises ValueError, whatever is wrong with the text."""
    try:
        return list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # PyYAML's constructors raise more than YAMLError: for dates, numbers and keys that are none.
        raise ValueError(str(error) or type(error).__name__) from error
