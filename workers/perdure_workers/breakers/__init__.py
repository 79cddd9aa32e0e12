"""Circuit breakers: what an activity leans on may be away; then its tasks wait in their queue, attempts and all.

circuit      when one opens, and when it closes again
slots        while it is open, the worker does not ask for tasks
watching     what its activities come to
routing      tasks of a type that has a breaker go to a task queue of its own
board        those of one worker process, and what it tells of them
"""
