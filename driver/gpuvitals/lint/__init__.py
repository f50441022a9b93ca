"""The rules of `gpuvitals lint`, which finds mistakes in claims before they are applied to a cluster.

This package parses manifests with their line numbers, parses selectors and applies the rules. It uses no files and no API
server, and does not check fields that Kubernetes validates itself.

    cel/            parses a selector, and collects its facts: reads, comparisons, conditions
    vocabulary.py   the attributes that gpuvitals publishes, derived from the projection itself
    documents.py    YAML with line numbers
    selectors.py    rules about one expression; requests.py, classes.py, pods.py: rules about its context
    linter.py       applies the rules to all objects of all files
"""
