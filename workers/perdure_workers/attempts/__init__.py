"""Rules about attempts: what happened, how it ended, what comes next. Pure: no cluster, no clock, no Temporal."""
