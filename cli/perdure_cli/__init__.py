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
    top        `top`; looking reads what it shows, exposition what workers tell Prometheus
    letters    `dead-letters`, whose commands are in dead_letters
    temporal   Temporal, as far as its own settings open it

Everything that is shown is made by pure functions; only main, cluster, temporal, runs, letters and looking touch the
outside.
"""
