"""The operator: sees to it that every TrainingJob has its one Temporal workflow, and that none leaves without it.

    handlers     kopf's watch -> the tracker and the queue
    reconciler   one object: observation -> decision -> effect
    decision     what is to be done, as a pure function
    answers      what is published, as pure functions
    workflows    the Temporal side
    objects      the Kubernetes side
    drift        what events cannot tell: workflows that are gone, watches that are dead

Nothing is kept that a restart could lose: a start is idempotent by workflow id, everything else is read again.
"""
