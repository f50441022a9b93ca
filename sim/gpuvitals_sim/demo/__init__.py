"""The demo: a small cluster of real agents on simulated parts, and a scenario played on it and told.

May live here: the cluster's parts put together, what a scenario's words do to it, what is looked at, how it is told. May
not: a fake of anything (those are the neighbours), and a verdict of its own: whether an expectation holds is read from
the API server and its record of requests.

    cluster.py   the parts, started and stopped in order; `agent.py` is one node's real agent as a process
    actor.py     does an action: a kernel line, a lost GPU, a pod, a kill; `objects.py` has the bodies, `noise.py` the noise
    observer.py  looks at the cluster for one expectation; `findings.py` finds things in API objects
    player.py    walks the steps and yields what happened; `wording.py` says it, `narrator.py` prints it
"""
