"""The `perdure` command, also found by kubectl as a plugin: what a person wants to know about training jobs.

    main       the commands
    cluster    the Kubernetes API, as far as a kubeconfig opens it
    job        a TrainingJob as it is read here
    phrases    durations, numbers and times for people
    table      `list`
    bar        `watch`
    story      `describe`
    attempts   `logs`
    runs       `run` and `workflows`

Everything that is shown is made by pure functions; only main, cluster and runs touch the outside.
"""
