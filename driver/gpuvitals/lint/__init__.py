"""What is wrong with a claim before it meets a cluster: the rules behind `gpuvitals lint`.

May live here: reading manifests with their lines, a parser of selectors, the rules. May not: files, an API server, and a
verdict of its own about what a cluster accepts: fields that Kubernetes refuses by itself are left to it.

    cel/            a selector as a tree, and the facts that rules ask for: what is read, compared, required to be bool
    vocabulary.py   the attributes that gpuvitals publishes, taken from the projection itself
    documents.py    YAML with the line of every place
    selectors.py    rules about one expression; requests.py, classes.py, pods.py: about what stands around it
    linter.py       walks the documents of all files
"""
