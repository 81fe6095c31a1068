#!/bin/sh
# Print the state of a PBS job: running, success or failed.
# usage: status.sh JOB
job=$(qstat -x -f "$1" 2>/dev/null)
case $? in
    0) ;;
    153) # no such job: PBS has forgotten it, so it has to run again
        echo failed
        exit
        ;;
    *) # the server does not answer: Snakemake asks again
        echo running
        exit
        ;;
esac
field() { echo "$job" | sed -n "s/^ *$1 = //p"; }
case $(field job_state) in
    F | X) if [ "$(field Exit_status)" = 0 ]; then echo success; else echo failed; fi ;;
    *) echo running ;;
esac
